"""The space of towers fills the protocol: draws, codes, ranking, costs, choices, and derivation without surprises."""

import collections
import itertools
import random

import pytest
import torch

from models.search.costs import MEASURES
from models.search.relaxations import RELAXATIONS
from models.search.space import JointSpace
from models.search.tower_cells.derive import DERIVATIONS
from models.search.tower_cells.operations import CHAINS, EDGES, SPACES
from models.search.tower_cells.space import TowerSpace, random_genotype
from models.search.tower_cells.supernet import TowerSupernet
from tests.models.search.tower_cells.published import PAPER
from utils.errors import UserError

BOTH = ("box", "cls")
CPU = torch.device("cpu")


def supernets_of(space: TowerSpace, **options) -> dict[str, TowerSupernet]:
    torch.manual_seed(0)
    supernets = {place: TowerSupernet(space, 8, 8, **options) for place in space.places}
    for supernet in supernets.values():
        supernet.alpha_edges.data.normal_()
    return supernets


def test_a_name_says_its_layers():
    assert len(CHAINS) == 12
    assert set(SPACES["fad10"]) < set(SPACES["fad12"])
    assert len(SPACES["fad10"]) == 10
    for name, chain in CHAINS.items():
        first, _, last = name.partition("+")
        base, _, count = first.partition("_x")
        family, count = ("std", "sin")[base.startswith("sin")], first.rpartition("_x")[2]
        layers = [family] * (int(count) if len(count) == 1 else 1)
        layers += [{"dil_conv_3x3": "dil", "dil_conv_3x3_r3": "dilr3"}[last]] if last else []
        assert list(chain) == layers
    ks = [name for name in SPACES["fad10"] if name.startswith("std")]
    endings = ("", "+dil_conv_3x3", "_x2", "_x2+dil_conv_3x3", "_x3")
    assert ks == [f"std_conv_3x3{ending}" for ending in endings]
    assert [n.replace("std_conv", "sinSep_conv") for n in ks] == [n for n in SPACES["fad10"] if n not in ks]
    assert SPACES["fad12"][1] == "std_conv_3x3+dil_conv_3x3_r3"


@pytest.mark.parametrize("derivation", DERIVATIONS)
@pytest.mark.parametrize("name", SPACES)
def test_equal_logits_give_the_first_operation_and_the_first_sources(name, derivation):
    space = TowerSpace(name=name, derivation=derivation)
    supernets = supernets_of(space)
    for supernet in supernets.values():
        supernet.alpha_edges.data.fill_(0.3)
    for cell in space.derive(supernets).cells:
        assert cell.edges == tuple(("std_conv_3x3", source) for _ in range(3) for source in range(2))
    assert space.top_k(supernets, 1)[0][1] == space.derive(supernets)


def test_a_constant_on_a_row_changes_no_genotype():
    """Under raw logits it does, which is why they are the option and not the default."""
    space, raw = TowerSpace(), TowerSpace(derivation="raw")
    changed = 0
    for seed in range(20):
        torch.manual_seed(seed)
        supernets = supernets_of(space)
        for supernet in supernets.values():
            supernet.alpha_edges.data.copy_(torch.randn(9, 11))
        before, before_raw = space.derive(supernets), raw.derive(supernets)
        for supernet in supernets.values():
            supernet.alpha_edges.data += 5 * torch.randn(9, 1)
        assert space.derive(supernets) == before
        changed += raw.derive(supernets) != before_raw
    assert changed > 10


def test_none_is_never_chosen_but_weakens_its_edge():
    space = TowerSpace()
    supernets = supernets_of(space)
    for supernet in supernets.values():
        supernet.alpha_edges.data.zero_()[:, 1] = 1
        supernet.alpha_edges.data[[EDGES.index((2, 0)), EDGES.index((2, 1))], 0] = 9
    for cell in space.derive(supernets).cells:
        assert [source for _, source in cell.edges] == [0, 1, 0, 1, 2, 3]
        assert {operation for operation, _ in cell.edges} == {"std_conv_3x3"}


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("derivation", DERIVATIONS)
def test_the_likeliest_genotypes_begin_with_the_derived_one(relaxation, derivation):
    space = TowerSpace(derivation=derivation)
    supernets = supernets_of(space, relaxation=relaxation)
    ranked = space.top_k(supernets, 6)
    assert ranked[0][1] == space.derive(supernets)
    assert len({genotype for _, genotype in ranked}) == 6
    assert [score for score, _ in ranked] == sorted((score for score, _ in ranked), reverse=True)


def test_the_likeliest_genotypes_against_a_loop_over_all_of_a_node():
    space = TowerSpace(places=("box",))
    supernets = supernets_of(space)
    weights = supernets["box"].weights(double=True)[:, 1:].log().tolist()
    best = []
    for node in range(3):
        rows = [(source, row) for (of, source), row in zip(EDGES, weights) if of == node]
        pairs = itertools.combinations(rows, 2)
        best.append(sorted((a + b for (_, x), (_, y) in pairs for a in x for b in y), reverse=True)[:4])
    expected = sorted(map(sum, itertools.product(*best)), reverse=True)[:4]
    assert [score for score, _ in space.top_k(supernets, 4)] == pytest.approx(expected)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("places", [BOTH, ("box",), ("cls",)])
def test_genotypes_and_codes_are_one_to_one(name, places):
    space, rng = TowerSpace(places=places, name=name), random.Random(1)
    assert len(space.sizes) == len(space.kinds) == 12 * len(places)
    genotype = space.sample(rng)
    for _ in range(50):
        changed = space.mutate(genotype, rng)
        assert changed != genotype
        before, after = ([edge for c in g.cells for edge in c.edges] for g in (genotype, changed))
        assert sum((collections.Counter(after) - collections.Counter(before)).values()) == 1
        genotype = changed
        space.validate(genotype)
        code = space.to_code(genotype)
        assert all(space.allowed(code[:n])[token] for n, token in enumerate(code))
        assert space.from_code(code) == genotype
    with pytest.raises(UserError, match="token 1: expected one of"):
        space.from_code((0, 0, *code[2:]))
    with pytest.raises(UserError, match="tokens"):
        space.from_code(code[1:])


def test_there_are_18_million_codes_per_tower():
    space, count = TowerSpace(places=("box",)), 1
    for node in range(3):
        prefix = (0, 1, 0, 0) * node
        firsts = [value for value, may in enumerate(space.allowed(prefix)) if may]
        count *= sum(sum(space.allowed((*prefix, first))) for first in firsts) * 10 * 10
    assert count == 18_000_000


def test_draws_are_uniform_over_pairs_and_operations():
    space, rng = TowerSpace(places=("box",)), random.Random(0)
    cells = [space.sample(rng).cells[0] for _ in range(2000)]
    pairs = collections.Counter((cell.edges[4][1], cell.edges[5][1]) for cell in cells)
    assert set(pairs) == set(itertools.combinations(range(4), 2))
    assert min(pairs.values()) > 250
    operations = collections.Counter(cell.edges[3][0] for cell in cells)
    assert set(operations) == set(SPACES["fad10"])
    assert min(operations.values()) > 140
    assert random_genotype(space, 5) == random_genotype(space, 5)
    assert random_genotype(space, 5).meta == {"random_genotype": 5}


def test_choices_by_perturbation_end_in_the_genotype_that_they_kept():
    space, rng = TowerSpace(places=BOTH), random.Random(3)
    supernets, genotype = supernets_of(space), space.sample(rng)
    sizes = []
    for choices in space.choices(supernets):
        sizes.append(len(choices))
        for choice in choices:
            cell = genotype.cells[[id(s.mask_edges) for s in supernets.values()].index(id(choice.mask))]
            kept = {EDGES.index(end): space.operations.index(name) for end, (name, _) in zip(cell.ends, cell.edges)}
            removed = [
                p
                for p in choice.alternatives
                if p[0] not in kept or (p[1] != slice(1, None) and p[1] - 1 != kept[p[0]])
            ]
            assert len(choice.alternatives) - len(removed) == choice.num_kept
            for place in removed:
                choice.mask[place] = -torch.inf
    assert sizes == [4, 12]
    assert space.derive(supernets) == genotype
    assert TowerSpace(derivation="raw").derive(supernets) == genotype
    x = torch.randn(1, 8, 4, 4)
    assert torch.isfinite(supernets["box"](x, x)).all()


def test_the_cost_of_a_genotype_is_what_logits_that_prefer_it_expect():
    space = TowerSpace(channels=8, map_size=(4, 5))
    table, genotype, supernets = space.cost_table(MEASURES["macs"], CPU), random_genotype(space, 2), supernets_of(space)
    assert table["box"] == table["cls"]
    assert table["box"]["edges"]["sinSep_conv_3x3_x2"] == 2 * 20 * (9 * 8 + 64)
    assert space.cost_table(MEASURES["params"], CPU)["cls"]["edges"]["std_conv_3x3"] == 9 * 64 + 8 + 16
    cost = space.expected_cost(supernets, table, CPU)
    for supernet, cell in zip(supernets.values(), genotype.cells, strict=True):
        supernet.alpha_edges.data.fill_(-50)[:, 0] = 50
        for end, (name, _) in zip(cell.ends, cell.edges, strict=True):
            row = supernet.alpha_edges.data[EDGES.index(end)]
            row.fill_(-50)[1 + space.operations.index(name)] = 50
    prices = table["box"]["edges"].values()
    even = 12 * sum(prices) / len(prices)
    assert float(cost().detach()) * even == pytest.approx(space.cost(genotype, table), rel=1e-4)
    for supernet in supernets.values():
        supernet.alpha_edges.data.zero_()
    value = cost()
    assert float(value.detach()) == pytest.approx(1)
    value.backward()
    assert supernets["cls"].alpha_edges.grad.abs().sum() > 0


def test_rows_and_weights_in_words():
    space = TowerSpace()
    supernets, genotype = supernets_of(space), random_genotype(space, 1)
    row = space.describe(genotype)
    assert sum(value for name, value in row.items() if name.startswith("count_")) == 12
    assert row["genotype"] == genotype.id
    assert (row["parameter_free"], space.num_choices) == (0, 0)
    for supernet in supernets.values():
        supernet.alpha_edges.data.zero_()
    assert space.describe_logits(supernets)["entropy_edges"] == pytest.approx(torch.tensor(11.0).log().item())
    named = space.named_weights(supernets)
    assert named["box"]["edges"]["node 3"] == dict.fromkeys(("first", "second", "node 1", "node 2"), 0.09091)
    assert named["cls"]["ops"]["node 2 of node 1"]["std_conv_3x3_x3"] == 0.09091
    assert len(named["cls"]["ops"]) == 9


def test_a_genotype_of_another_space_is_refused():
    space, other = TowerSpace(), TowerSpace(name="fad12")
    space.validate(space.sample(random.Random(1)))
    with pytest.raises(UserError, match=r"genotype: cells\[\d\].*expected an operation of"):
        space.validate(next(g for g in map(other.sample, map(random.Random, range(99))) if "r3" in g.words))
    with pytest.raises(UserError, match=r"levels: expected \['box', 'cls'\], found \['box'\]"):
        space.validate(TowerSpace(places=("box",)).sample(random.Random(1)))


def test_towers_are_a_part_of_a_joint_space():
    space = TowerSpace()
    joint = JointSpace.of({"head": supernets_of(space)})
    architecture = joint.derive()
    x = torch.randn(1, 8, 3, 3)
    mixed = joint.supernets["head"]["box"](x, x)
    joint.activate(architecture)
    assert not torch.equal(joint.supernets["head"]["box"](x, x), mixed)
    joint.activate(None)
    assert torch.equal(joint.supernets["head"]["box"](x, x), mixed)
    joint.validate(joint.mutate(joint.sample(random.Random(1)), random.Random(2)))
    assert joint.from_code(joint.to_code(architecture)) == architecture
    assert PAPER[0] != architecture.parts["head"].cells[0]

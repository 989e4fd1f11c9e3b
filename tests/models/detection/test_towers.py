"""Towers: counts, wiring, one place searched alone, maps apart, and the numbers of the public FAD modules."""

import random

import pytest
import torch
from torch import nn
from torchvision.models.detection.fcos import FCOSHead as TorchvisionHead

from models.detection.anchors import level_sizes
from models.detection.detector import FusionDetector
from models.detection.fusions import baseline_fusions
from models.detection.heads.fcos import FCOSHead
from models.detection.streams import Streams
from models.detection.towers import PlainTower, Towers, found_towers, searchable_towers
from models.search.costs import macs
from models.search.fusion_cells.genotype import Genotype
from models.search.parameters import arch_parameters, count_parameters, supernets, weight_parameters
from models.search.tower_cells.genotype import INPUTS
from models.search.tower_cells.space import TowerSpace
from tests.models.search.tower_cells.fad_reference import (
    cell_of,
    check,
    fill,
    fingerprint,
    found_name,
    made,
    reference,
    set_logits,
    supernet_name,
    texts,
)
from tests.models.search.tower_cells.published import OTHER, PAPER

LEVELS = ("P3", "P4", "P5", "P6", "P7")
PLACES = ("box", "cls")
IMAGE_SIZE = (64, 96)
SIZES = level_sizes(IMAGE_SIZE, 5)
SPACE = TowerSpace(channels=8)


def published(pair, channels: int = 96) -> Towers:
    return found_towers(Genotype(INPUTS, PLACES, 96, pair, space="fad10"), 256, channels, num_cells=2)


def searchable(channels: int = 96) -> Towers:
    return searchable_towers(TowerSpace(channels=channels), 256)


COUNTS = {
    "plain": (lambda: Towers(256), 4_724_736, 4_718_592),
    "paper": (lambda: published(PAPER), 3_973_568, 3_947_520),
    "paper, C 128": (lambda: published(PAPER, 128), 5_901_568, 5_869_568),
    "other": (lambda: published(OTHER), 4_973_312, None),
    "other, C 128": (lambda: published(OTHER, 128), 7_685_120, None),
    "supernet": (searchable, 2 * (3_678_048 + 196_864), 7_690_560),
    "supernet, C 128": (lambda: searchable(128), 2 * (6_304_896 + 196_864), 12_924_672),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_multiplications_at_the_published_size(name):
    """Per position of the pyramid, both towers with their reductions; without memory for the weights."""
    make, parameters, multiplications = COUNTS[name]
    with torch.device("meta"):
        towers = make()
        assert sum(p.numel() for p in weight_parameters(towers)) == parameters
        if multiplications:
            assert macs(towers, [[torch.zeros(1, 256, 2, 1)]]) == 2 * multiplications


def test_a_widened_tower_has_other_channels_inside():
    tower, x = PlainTower(16, 24), torch.randn(1, 16, 4, 5)
    assert [layer[0].out_channels for layer in tower] == [24, 24, 24, 16]
    assert count_parameters(tower) == 9 * (2 * 16 * 24 + 2 * 24 * 24) + 3 * (3 * 24 + 16)
    assert Towers(16, hidden=24)([x])[0][0].shape == x.shape


def test_plain_towers_start_normal_and_reductions_too():
    towers = searchable_towers(TowerSpace(places=("box",), channels=32), 64)
    for conv in [towers.box_reduce, *(layer[0] for layer in towers.cls)]:
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not conv.bias.any()


def test_plain_towers_and_head_equal_torchvisions():
    torch.manual_seed(0)
    theirs, towers, head = TorchvisionHead(64, 1, 3).eval(), Towers(64), FCOSHead(64, 3)
    pairs = [
        (towers.cls, theirs.classification_head.conv),
        (towers.box, theirs.regression_head.conv),
        (head.cls_logits, theirs.classification_head.cls_logits),
        (head.bbox_pred, theirs.regression_head.bbox_reg),
        (head.centerness, theirs.regression_head.bbox_ctrness),
    ]
    for ours, other in pairs:
        for a, b in zip(ours.parameters(), other.parameters(), strict=True):
            a.data = nn.init.normal_(b, std=0.1).detach()
    maps = [torch.randn(2, 64, *size) for size in SIZES[:3]]
    head.scales = nn.Parameter(torch.ones(3))
    logits, values = head.flatten(head(*towers(maps)))
    expected = theirs(maps)
    torch.testing.assert_close(logits, expected["cls_logits"])
    torch.testing.assert_close(values[..., :4], expected["bbox_regression"])
    torch.testing.assert_close(values[..., 4:], expected["bbox_ctrness"])


KINDS = {
    "plain": lambda: Towers(16),
    "wired": lambda: Towers(16, wired=True),
    "box": lambda: searchable_towers(TowerSpace(places=("box",), channels=8), 16),
    "cls": lambda: searchable_towers(TowerSpace(places=("cls",), channels=8), 16),
    "both": lambda: searchable_towers(SPACE, 16),
    "found box": lambda: found_towers(SPACE.sample(random.Random(0)), 16),
}


def reads_box_maps(kind: str) -> bool:
    return kind not in ("plain", "box")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_classes_reach_the_box_tower_where_it_is_read(kind):
    towers = KINDS[kind]()
    classes, boxes = towers([torch.randn(1, 16, *size) for size in SIZES])
    assert [x.shape for x in classes] == [x.shape for x in boxes] == [(1, 16, *size) for size in SIZES]
    gradients = torch.autograd.grad(classes[0].square().sum(), list(towers.box.parameters()), allow_unused=True)
    assert any(gradient is not None and gradient.any() for gradient in gradients) == reads_box_maps(kind)


def test_the_class_tower_reads_the_plain_box_towers_output_first():
    """With the class tower searched alone: s0 is b, s1 the map of the level."""
    towers = KINDS["cls"]()
    x = torch.randn(1, 16, 4, 5)
    classes, boxes = towers([x])
    assert torch.equal(boxes[0], towers.box(x))
    assert torch.equal(classes[0], towers.cls_reduce(towers.cls(boxes[0], x)))


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_not_joined(kind):
    """Each map has its own statistics: other levels, and other images of a batch, change nothing."""
    towers, maps = KINDS[kind]().double(), [torch.randn(2, 16, *size).double() for size in SIZES]
    whole = towers(maps)
    for level, x in enumerate(maps):
        alone = towers([x[:1]])
        for part, single in zip(whole, alone, strict=True):
            torch.testing.assert_close(part[level][:1], single[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("places", [("box",), ("cls",), PLACES])
def test_supernets_are_the_places_of_the_head_learn_and_derive(places):
    space = TowerSpace(places=places, channels=8)
    towers, head = searchable_towers(space, 16), FCOSHead(16, 3)
    found = supernets(dict(towers.named_children()))
    assert tuple(found) == places
    logits = arch_parameters(towers)
    assert {id(p) for p in logits} == {id(supernet.alpha_edges) for supernet in found.values()}
    losses_of(towers, head, [torch.randn(2, 16, *size) for size in SIZES])["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in logits)
    genotype = space.derive(found)
    assert genotype.levels == places
    classes, boxes = found_towers(genotype, 16)([torch.randn(1, 16, 4, 5)])
    assert classes[0].shape == boxes[0].shape == (1, 16, 4, 5)


def losses_of(towers: Towers, head: FCOSHead, maps: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Losses of the two images of the part `search_head`."""
    boxes = torch.tensor([[[6, 4, 46, 36], [40, 20, 90, 60]], [[0, 0, 96, 64], [60, 10, 84, 30]]]).to(maps[0].dtype)
    batch = {"boxes_xyxy": boxes, "labels": torch.tensor([[0, 2], [1, 0]]), "image_size": IMAGE_SIZE}
    return head.losses(head(*towers(maps)), batch)


def fill_towers(towers: Towers, prefix: str, rename) -> None:
    """Give the weights of their neutral names; `rename` knows those of a cell, by place."""
    for place in PLACES:
        fill(getattr(towers, place), f"{prefix}/{place}.", lambda name, place=place: rename(place, name))
        fill(getattr(towers, f"{place}_reduce"), f"{prefix}/{place}.reduce.", str)


@pytest.fixture(scope="module")
def search_head() -> tuple[Towers, FCOSHead, list[torch.Tensor]]:
    towers, head = searchable_towers(TowerSpace(channels=64), 128), FCOSHead(128, 3)
    fill_towers(towers, "search_head", lambda place, name: f"cell0.{supernet_name(name)}")
    for place, supernet in supernets(dict(towers.named_children())).items():
        rows = [made(f"search_head/{place}/alpha{node}", 2 + node, 11).numpy() for node in range(3)]
        set_logits(supernet, rows)
    fill(head, "search_head/", str)
    head.scales.data = torch.cat([made(f"search_head/scale{level}", 1) for level in range(5)])
    maps = [made(f"search_head/{name}", 2, 128, *size) for name, size in zip(LEVELS, SIZES, strict=True)]
    return towers, head, maps


def test_outputs_of_the_searched_head(search_head):
    towers, head, maps = search_head
    stored = reference("search_head")
    classes, boxes = towers(maps)
    check(classes[2], stored["cls_feature/P5"])
    check(boxes[2], stored["box_feature/P5"])
    for name, parts in zip(LEVELS, zip(*head(classes, boxes), strict=True), strict=True):
        for kind, part in zip(("logits", "boxes", "centerness"), parts, strict=True):
            check(part, stored[f"{kind}/{name}"])


def test_losses_and_gradients_of_the_searched_head(search_head):
    """Gradients of logits are those of the weights as they are: what first order asks for."""
    towers, head, maps = search_head
    stored = reference("search_head")
    losses = losses_of(towers, head, maps)
    for name, key in (("class_loss", "cls"), ("box_loss", "reg"), ("centerness_loss", "centerness")):
        check(losses[name], stored[f"loss_{key}"])
    cell = towers.box.edges[0], towers.cls.edges[8]
    weights = {
        "box.reduce.weight": towers.box_reduce.weight,
        "box.cell0.node0.from0.enter.weight": cell[0].enter.weight,
        "cls.cell0.node2.from3.sin.decouple1.weight": cell[1].decouple["sin_sin"].weight,
    }
    logits = [towers.box.alpha_edges, towers.cls.alpha_edges]
    found = torch.autograd.grad(losses["loss"], [*logits, *weights.values()])
    for place, gradient in zip(PLACES, found, strict=False):
        rows = torch.cat([gradient[:, 1:], gradient[:, :1]], dim=1).split([2, 3, 4])
        for node, row in enumerate(rows):
            check(row, stored[f"gradient/{place}/alpha{node}"])
    for name, gradient in zip(weights, found[2:], strict=True):
        check(fingerprint(gradient), stored[f"gradient/{name}"])


def test_changing_a_weight_changes_the_gradient_of_the_logits():
    """The public code takes it from a copy of random weights that is never refreshed."""
    torch.manual_seed(0)
    towers, head = searchable_towers(SPACE, 16).double(), FCOSHead(16, 3).double()
    maps = [torch.randn(2, 16, *size).double() for size in SIZES]

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(losses_of(towers, head, maps)["loss"], arch_parameters(towers)))

    before = gradients()
    with torch.no_grad():
        towers.box.edges[0].enter.weight[0, 0] += 0.1
    assert all(not torch.equal(a, b) for a, b in zip(before, gradients(), strict=True))


@pytest.mark.parametrize("pair", ["paper", "other"])
def test_features_of_the_published_pairs(pair):
    stored, lines = reference(f"towers/{pair}"), texts()
    found = [lines[f"{pair}_{place}"] for place in PLACES]
    towers = published(tuple(cell_of(text) for text in found))

    def rename(place: str, name: str) -> str:
        _, number, rest = name.split(".", 2)
        return f"cell{number}.{found_name(found[PLACES.index(place)])(rest)}"

    fill_towers(towers, f"towers/{pair}", rename)
    classes, boxes = towers([made("towers/P4", 1, 256, 3, 4)])
    check(boxes[0], stored["box_feature"])
    check(classes[0], stored["cls_feature"])


def test_a_detector_finds_the_supernets_of_its_towers():
    """Beside streams and hand-made fusions; the reductions are no places."""
    streams, fusions = Streams("lcnet_050", 16, 1, 3), baseline_fusions("sum", 16, 3)
    towers, head = searchable_towers(SPACE, 16), FCOSHead(16, 3, num_levels=3)
    statistics = dict.fromkeys(("rgb", "thermal"), ((0.5,) * 3, (0.2,) * 3))
    model = FusionDetector(streams, fusions, head, statistics, towers=towers)
    assert model.searchables() == {"head": {"box": towers.box, "cls": towers.cls}}
    images = {name: torch.randint(256, (2, 3, *IMAGE_SIZE), dtype=torch.uint8) for name in statistics}
    output = model(images)
    assert [tuple(x.shape) for x in output.centerness] == [(2, 1, *size) for size in SIZES[:3]]
    model.freeze_parts(["head"])
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in model.fusions.parameters()}

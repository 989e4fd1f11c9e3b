"""Rating supernets: nothing drops out, nothing is left changed; and selection by what a removal costs."""

from types import SimpleNamespace

import pytest
import torch

from engine.perturbation import fresh_statistics, mean_loss, select_by_perturbation
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.derive import derive_cell, final_weights
from models.search.fusion_cells.space import edges_of_states, operations_and_states
from models.search.fusion_cells.supernet import SearchableFusion
from tests.engine.toy import session_of

TASK = SimpleNamespace(losses=lambda model, batch: {"loss": (model(batch["x"]) - batch["y"]).square().mean()})


@pytest.fixture
def batches() -> list[dict]:
    torch.manual_seed(0)
    return [{"x": torch.randn(4, 6, 8, 5, 5), "y": torch.randn(6, 8, 5, 5)} for _ in range(3)]


@pytest.mark.parametrize("as_path", [False, True])
def test_a_rating_repeats_in_spite_of_dropout_and_leaves_nothing_behind(batches, as_path):
    fusion = SearchableFusion(CellSpace(4, 8), dropout=0.5)
    if as_path:
        fusion.activate(derive_cell(final_weights(fusion), fusion.space))
    session, before = session_of(fusion, TASK), {k: v.clone() for k, v in fusion.state_dict().items()}
    random_before = torch.get_rng_state()
    losses = [mean_loss(session, iter(batches)) for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), random_before)
    assert all(torch.equal(before[k], v) for k, v in fusion.state_dict().items())


def test_fresh_statistics_are_means_over_the_batches_and_go_again(batches):
    fusion = SearchableFusion(CellSpace(4, 8), dropout=0.5)
    norm, seen = fusion.nodes[0].bn, []
    norm.register_forward_pre_hook(lambda module, given: seen.append(given[0].mean(dim=(0, 2, 3))))
    before = norm.running_mean.clone()
    with fresh_statistics(session_of(fusion, TASK), iter(batches)):
        torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(dim=0))
    assert torch.equal(norm.running_mean, before)
    assert norm.momentum == 0.1


def test_perturbation_keeps_what_costs_most_to_remove():
    """The rate is told by hand: some operations and inputs matter, whatever the logits say."""
    fusion = SearchableFusion(CellSpace(4, 8, steps=1, multiplier=1, name="fusion_v2"))
    edges, ops = fusion.mask_edges[0], fusion.mask_ops[0, 0]
    worth = {"GLU": 1.0, "CBAM": 0.5}

    def rate() -> float:
        lost = sum(worth.get(name, 0.0) for name, m in zip(fusion.space.op_names, ops, strict=True) if m < 0)
        for state, value in ((1, 2.0), (2, 3.0)):
            gone = (edges[state, 1:] < 0).all()
            lost += value if gone else 0.1 * float(edges[state, 3] < 0)  # of these, the dilated one
        return lost

    tuned = []
    rounds = (list(choices(fusion)) for choices in (operations_and_states, edges_of_states))
    select_by_perturbation(rounds, rate, lambda: tuned.append(1), 0, lambda line: None)
    cell = derive_cell(final_weights(fusion), fusion.space)
    assert cell.steps[0].inner_steps == ("GLU",)
    assert cell.edges == (("dil_conv_3x3", 1), ("dil_conv_3x3", 2))
    assert len(tuned) == 4

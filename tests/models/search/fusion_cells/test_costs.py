"""Costs against counts by hand, and the expected cost of logits that are all but settled."""

import pytest
import torch

from models.search.costs import MEASURES
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.costs import cost_table, expected_cost
from models.search.fusion_cells.supernet import SearchableFusion

CPU = torch.device("cpu")
SIZES = [(6, 5), (3, 3)]
SPACE = CellSpace(4, 8, name="fusion_v2", pair_inputs=True)


def test_a_convolution_costs_what_its_definition_says():
    for (height, width), level in zip(SIZES, cost_table(SPACE, SIZES, MEASURES["macs"], CPU), strict=True):
        assert level["fusions"]["ConcatConv"] == height * width * 16 * 8
        assert level["fusions"]["ConcatConv3x3"] == height * width * 16 * 8 * 9
        assert level["edges"]["sep_conv_3x3"] == height * width * (8 * 9 + 8 * 8)
        assert level["fusions"]["Sum"] == level["edges"]["skip"] == level["edges"]["none"] == 0
    (level,) = cost_table(SPACE, SIZES[:1], MEASURES["params"], CPU)
    assert level["fusions"]["ConcatConv"] == 16 * 8 + 8
    assert level["edges"]["dil_conv_3x3"] == 8 * 9 + 8 * 8 + 8


def test_latency_is_measured():
    space = CellSpace(4, 8)
    (level,) = cost_table(space, SIZES[:1], MEASURES["latency"], CPU)
    assert all(0 < seconds < 1 for seconds in level["fusions"].values())


def test_the_expected_cost_of_settled_logits_is_that_of_their_operations():
    table = cost_table(SPACE, SIZES, MEASURES["macs"], CPU)
    fusions = [SearchableFusion(SPACE) for _ in SIZES]
    cost = expected_cost(fusions, table, CPU)
    with torch.no_grad():
        for fusion in fusions:
            for alpha, op in ((fusion.alpha_edges, "sep_conv_3x3"), (fusion.alpha_ops, "GLU")):
                alpha.fill_(-50)
                names = SPACE.edge_ops if alpha is fusion.alpha_edges else SPACE.op_names
                alpha[..., names.index(op)] = 50
    by_hand = sum(2 * (level["fusions"]["GLU"] + 2 * level["edges"]["sep_conv_3x3"]) for level in table)
    even = sum(
        2 * (sum(level["fusions"].values()) / 12 + 2 * sum(level["edges"].values()) / 3) for level in table
    )  # two edges per step, each one of three that are not `none`
    assert float(cost().detach()) == pytest.approx(by_hand / even, rel=1e-4)


def test_the_cost_pulls_logits_to_what_is_cheap():
    fusion = SearchableFusion(CellSpace(4, 8))
    cost = expected_cost([fusion], cost_table(fusion.space, SIZES[:1], MEASURES["params"], CPU), CPU)
    assert float(cost().detach()) == pytest.approx(1, abs=0.01)
    cost().backward()
    grad = fusion.alpha_ops.grad
    assert (grad[..., 0] < 0).all()  # descending raises Sum
    assert (grad[..., 1] > 0).all()  # and lowers ECAAttn, the largest

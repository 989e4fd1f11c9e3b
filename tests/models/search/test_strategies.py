"""Penalties of strategies against their formulas, and the table."""

import subprocess
import sys

import torch

from models.search.costs import MEASURES
from models.search.fusion_cells.choices import MAPS, SPACES
from models.search.fusion_cells.operations import EDGE_OPS, FUSION_OPS
from models.search.penalties import KL_WEIGHT, PENALTIES, ZERO_ONE_WEIGHT, pull_to_start, zero_one
from models.search.relaxations import RELAXATIONS
from models.search.strategies import COSTS, STRATEGIES


def test_fair_pushes_every_weight_off_one_half():
    logits = torch.tensor([[0.2, -0.3], [1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    expected = -ZERO_ONE_WEIGHT * sum((1 / (1 + torch.exp(-v)) - 0.5) ** 2 for v in logits.detach().flatten()) / 4
    torch.testing.assert_close(zero_one(logits), expected)
    zero_one(logits).backward()
    assert (torch.sign(-logits.grad) == torch.sign(logits.detach())).all()


def test_drnas_pulls_to_the_start_by_the_divergence_of_two_dirichlets():
    logits = torch.tensor([[0.4, -0.5, 1.5]], dtype=torch.float64)
    a = torch.nn.functional.elu(logits[0]) + 1
    total = a.sum()
    by_hand = torch.lgamma(total) - torch.lgamma(a).sum() - torch.lgamma(torch.tensor(3.0, dtype=torch.float64))
    by_hand = by_hand + ((a - 1) * (torch.digamma(a) - torch.digamma(total))).sum()
    torch.testing.assert_close(pull_to_start(logits), KL_WEIGHT * by_hand, rtol=1e-4, atol=1e-9)
    assert abs(float(pull_to_start(torch.zeros(2, 3)))) < 1e-8


def test_the_published_space_and_strategies_are_there():
    names = ["darts", "darts2", "gdas", "pcdarts", "drnas", "fair", "sdarts-rs", "random", "evolution"]
    assert list(STRATEGIES) == names
    assert SPACES["fusion_v1"].edges == ("none", "skip")
    assert SPACES["fusion_v1"].fusions == ("Sum", "ECAAttn", "ShuffleAttn", "ConcatConv")


def test_names_that_options_read_without_torch_are_those_of_the_tables():
    assert all(s.relaxation in RELAXATIONS and (not s.penalty or s.penalty in PENALTIES) for s in STRATEGIES.values())
    assert tuple(MEASURES) == COSTS
    assert SPACES["fusion_v2"].edges == tuple(EDGE_OPS)
    for space in SPACES.values():
        assert set(space.fusions) <= set(FUSION_OPS[space.rank])
    assert SPACES["fusion_v2"].fusions == tuple(FUSION_OPS[MAPS])


def test_the_tables_of_options_import_no_torch():
    code = "import sys, models.search.strategies, models.search.fusion_cells.choices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""Rules of early stopping and the alarm, by hand; and a search that collapses unless its weights learn first."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from engine.collapse import alarm, eigenvalue_rises, reason_to_stop
from engine.search import Bilevel, search
from models.search.cells import SearchableFusion
from models.search.derive import derive, describe
from models.search.parameters import arch_parameters, weight_parameters
from models.search.spaces import Space
from tests.engine.toy import Batches, session_of


@pytest.mark.parametrize(
    ("values", "rises"),
    [([1.0] * 10, False), ([1.0] * 5 + [1.3] * 5, False), ([1.0] * 5 + [1.4] * 5, True), ([1.0, 9.0] * 4, False)],
)
def test_the_mean_of_five_eigenvalues_against_that_of_the_five_before(values, rises):
    assert eigenvalue_rises(values) == rises
    rows = [{"eigenvalue": v, "parameter_free": 0} for v in values]
    assert bool(reason_to_stop(rows, "eigenvalue", 0)) == rises
    assert reason_to_stop(rows, None, 0) == ""


def test_the_count_of_the_last_epoch_counts():
    rows = [{"parameter_free": 5}, {"parameter_free": 2}]
    assert reason_to_stop(rows, "parameter_free", 2) == ""
    assert "3 choices without parameters, more than 2" in reason_to_stop(
        [*rows, {"parameter_free": 3}], "parameter_free", 2
    )
    assert reason_to_stop([], "parameter_free", 0) == ""


def test_the_alarm_fires_above_one_half():
    assert alarm({"parameter_free": 3}, 6) == ""
    assert "collapses: 4 of 6" in alarm({"parameter_free": 4}, 6)


class Teacher(Batches):
    """Pairs of maps whose fusion is their sum and a convolution of one: convolutions pay once they have learned."""

    def __init__(self, seed: int, num: int = 30):
        super().__init__(seed, num)
        torch.manual_seed(7)
        self.conv = nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False)

    def __iter__(self):
        for batch in super().__iter__():
            draws = torch.Generator().manual_seed(int(1e6 * batch["x"].abs().sum()))
            x = torch.randn(2, 4, 8, 6, 6, generator=draws)
            yield batch | {"x": x, "y": x[0] + x[1] + 0.5 * torch.relu(3 * self.conv(x[0]))}


def regression(model, batch):
    return {"loss": (model(batch["x"]) - batch["y"]).square().mean()}


def searched(warmup: int) -> tuple[int, str]:
    """Search by plain first-order DARTS, the logits for two epochs; returns choices without parameters and the alarm."""
    torch.manual_seed(0)
    space = Space(2, 8, steps=1, multiplier=1, node_multiplier=1, name="fusion_v2")
    model, rows = SearchableFusion(space), []
    session = session_of(model, SimpleNamespace(losses=regression, METRIC="score"))
    weights = torch.optim.Adam(weight_parameters(model), lr=LR)
    logits = torch.optim.Adam(arch_parameters(model), lr=0.1, betas=(0.5, 0.999))
    steady = torch.optim.lr_scheduler.ConstantLR(weights, 1.0)
    epochs = warmup + 2
    sides = Bilevel(session, weights, logits, steady, Teacher(1), Teacher(2), "step", False, epochs, warmup)
    names = ("a", "b"), ("P3",)
    search(
        sides,
        lambda: {"score": 0.0},
        lambda: describe([model], derive([model], *names, {})),
        epochs,
        lambda row, best: rows.append(row),
    )
    return rows[-1]["parameter_free"], alarm(rows[-1], space.num_choices)


def test_plain_darts_collapses_and_warming_up_the_weights_avoids_it():
    free, text = searched(warmup=0)
    assert free == 2
    assert "collapses: 2 of 3" in text
    free, text = searched(warmup=6)
    assert free < 2
    assert text == ""

"""Rules of early stopping and the alarm, by hand; a search that collapses is in tests/test_strategies.py."""

import pytest

from engine.collapse import alarm, eigenvalue_rises, reason_to_stop


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

"""The summary of rows, against numbers computed by hand."""

import math
import statistics

import pytest

from benchmarks.cross_validation.report import report
from benchmarks.cross_validation.summary import Mean, studies, summarize
from tests.benchmarks.cross_validation.test_pooled import draw, repeated, write

SCORES = {  # AP_val and AP of each fold
    "thermal": {1: (0.30, 0.10), 2: (0.34, 0.20), 3: (0.32, 0.15)},
    "rgb": {1: (0.31, 0.30), 2: (0.32, 0.25), 3: (0.30, 0.35)},
    "sum": {1: (0.40, 0.16), 2: (0.41, 0.22), 3: (0.42, 0.25)},
}
KEY = {"dataset": "mini", "config": "tiny", "config_hash": "abc", "folds": "3", "seed": "2"}
FACTS = {"commit": "abc", "device": "cpu"}


def rows(test_set: str = "fold", shift: float = 0.0) -> list[dict[str, str]]:
    return [
        KEY
        | {"fold": str(fold), "method": method, "test_set": test_set, "AP_val": str(val), "AP": str(ap + shift)}
        | {"AP50": str(2 * ap), "AP_person": str(ap), "AP_bike": "", "AP_car": str(ap)}
        | FACTS
        for method, scores in SCORES.items()
        for fold, (val, ap) in scores.items()
    ]


def test_mean_and_interval():
    found = Mean.of([0.1, 0.2, 0.4, 0.5])
    deviation = math.sqrt(sum((v - 0.3) ** 2 for v in (0.1, 0.2, 0.4, 0.5)) / 3)
    assert (found.count, found.mean, found.deviation) == (4, pytest.approx(0.3), pytest.approx(deviation))
    half = 3.182446 * deviation / 2  # t of 3 degrees of freedom, from a printed table
    assert found.interval == pytest.approx((0.3 - half, 0.3 + half), abs=1e-6)
    assert Mean.of([0.2]) == Mean(1, 0.2, None, None)


def test_the_sensor_is_chosen_on_val_and_differences_are_paired():
    summary = summarize(rows(), None)
    thermal, rgb, fused = summary.methods
    assert summary.sensor is thermal  # though rgb has the higher AP
    difference = fused.minus(thermal)
    assert difference.mean == pytest.approx(statistics.mean([0.06, 0.02, 0.10]))
    assert difference.deviation == pytest.approx(statistics.stdev([0.06, 0.02, 0.10]))
    assert fused.minus(rgb).mean == pytest.approx(-0.09)
    assert fused.over_folds("AP_bike") is None


def test_pooled_scores_and_their_difference(tmp_path):
    truth, detections = draw(1)
    worse = [item | {"score": 1 - item["score"]} for item in detections]
    write(tmp_path, truth, {"thermal": worse, "sum": detections})
    thermal, _, fused = summarize(rows(), tmp_path, resamples=300).methods
    assert fused.pooled == pytest.approx(repeated(truth, detections, [1] * 12))
    difference, (low, high) = fused.pooled_minus(thermal)
    assert difference == pytest.approx(fused.pooled - repeated(truth, worse, [1] * 12))
    assert low < difference < high
    assert high - low < 2 * max(abs(fused.drawn - fused.pooled))  # paired: narrower than of either alone


def test_tables(tmp_path):
    every = rows() + rows("llvip", 0.1) + [row | {"config": "other"} for row in rows()]
    assert [len(part) for part in studies(every)] == [18, 9]
    text = report(every)
    assert "## mini: tiny, 3 folds" in text
    assert "## mini: other, 3 folds" in text
    assert "| sum | 41.0 ± 1.0 | 21.0 ± 4.6 | [9.6, 32.4] | 42.0 ± 9.2 | 21.0 | - | 21.0 | - | 3 |" in text
    assert "| sum | +6.0 | [-3.9, +15.9] | - | - |" in text
    assert "llvip: the networks of all folds on its test list" in text
    assert "| rgb | 40.0 ± 5.0 |" in text

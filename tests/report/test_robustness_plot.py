"""The picture of robustness.json shows every row, from 0 on."""

import pytest
from torchvision.io import decode_image

from datasets.detection.corruptions import KINDS
from report.robustness_plot import draw
from tasks.detection.conditions import conditions_of
from tasks.detection.robustness import row_of

FACTS = {"method": "a $x$ method", "part": "test"}


def rows_of(*kinds: str, sensors: tuple[str, ...] = ("thermal", "rgb"), ap: float | None = 0.4) -> list[dict]:
    clean = [{"sensor": "none", "kind": "clean", "severity": 0, "AP": ap, "AP50": ap, "relative": 1.0}]
    conditions = [c for kind in kinds for c in conditions_of(kind, sensors)]
    numbers = [None if ap is None else ap / (2 + number) for number in range(len(conditions))]
    return clean + [row_of(c, {"AP": n, "AP50": n}, ap) for c, n in zip(conditions, numbers)]


@pytest.mark.parametrize(("kinds", "panels"), [(KINDS, 9), (("black",), 1), (("jpeg", "shift", "frozen"), 3)])
def test_every_row_is_shown(kinds, panels):
    rows = rows_of(*kinds)
    figure = draw(FACTS, rows)
    assert len(figure.axes) == panels
    shown = []
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 0
        assert axes.get_ylim()[1] > 0.4
        shown += [bar.get_height() for bar in axes.patches]
        shown += [y for line in axes.get_lines()[1:] for y in line.get_ydata()[1:]]
        assert list(axes.get_lines()[0].get_ydata()) == [0.4, 0.4]  # the clean test
        assert all(line.get_ydata()[0] == 0.4 for line in axes.get_lines()[1:])
    assert sorted(shown) == sorted(row["AP"] for row in rows[1:])


@pytest.mark.parametrize(("ap", "sensors"), [(None, ("thermal", "rgb")), (0.0, ("thermal",))])
def test_nothing_to_find_is_drawn_too(tmp_path, ap, sensors):
    draw(FACTS, rows_of("black", "fog", sensors=sensors, ap=ap)).savefig(tmp_path / "a.png")
    assert decode_image(str(tmp_path / "a.png")).shape[0] in (3, 4)

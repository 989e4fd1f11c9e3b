"""Pictures of genotypes show the edges, operations and levels that the genotype has."""

import dataclasses
import re
from itertools import pairwise

import pytest
from torchvision.io import ImageReadMode, decode_image

from models.search.fusion_cells import draw
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.space import fusion_space, random_genotype
from utils.subprocesses import ROOT

THERMAL, RGB = (tuple(bytes.fromhex(colour[1:])) for colour in (draw.WARM, draw.COOL))


def make(repeats: int = 2, levels: int = 4, seed: int = 1, **sizes) -> Genotype:
    inputs = tuple(f"{m}/bifpn{r}" for m in ("thermal", "rgb") for r in range(1, repeats + 1))
    levels_of = tuple(f"P{3 + i}" for i in range(levels))
    return random_genotype(fusion_space(inputs, levels_of, 48, **sizes), seed)


def with_edges(genotype: Genotype, *states: int) -> Genotype:
    edges = tuple(("skip", state) for state in states)
    return dataclasses.replace(genotype, cells=tuple(dataclasses.replace(c, edges=edges) for c in genotype.cells))


def picture(genotype: Genotype, folder):
    return decode_image(str(draw.draw_genotype(genotype, folder / "g.png")), ImageReadMode.RGB)


def pixels(image, colour: tuple[int, int, int]) -> int:
    return int(sum((image[i].int() - colour[i]).abs() for i in range(3)).lt(6).sum())


@pytest.mark.parametrize(("repeats", "levels"), [(2, 4), (5, 5), (1, 1)])
def test_a_picture_has_a_sane_size(tmp_path, repeats, levels):
    steps = min(2, repeats)
    image = picture(make(repeats, levels, steps=steps, multiplier=steps), tmp_path)
    height, width = image.shape[1:]
    assert 300 < height < 2000
    assert 600 < width < 2000
    assert 0.02 < (image.min(dim=0).values < 128).float().mean() < 0.5  # ink, but not much


def test_every_edge_is_drawn_from_its_tap_to_its_port(tmp_path, monkeypatch):
    genotype, drawn = make(5, 3, seed=4), []
    real = draw._curve
    monkeypatch.setattr(draw, "_curve", lambda axes, *edge, **k: (drawn.append(edge), real(axes, *edge, **k)))
    panels = []
    record = draw.Panel.draw
    monkeypatch.setattr(draw.Panel, "draw", lambda self, *place: (panels.append(self), record(self, *place)))
    draw.draw_genotype(genotype, tmp_path / "g.png")
    for panel, cell in zip(panels, genotype.cells, strict=True):
        start, end = panel.left + draw.TAP_WIDTH, panel.left + panel.step_left
        height = range(round(100 * panel.bottom), round(100 * (panel.bottom + panel.height)))
        found = [e for e in drawn if e[0][0] == start and e[1][0] == end and round(100 * e[0][1]) in height]
        expected = [
            ((start, panel._tap_y(state)), (end, panel._port_y(i // 2, i % 2)), panel._colour(state))
            for i, (_, state) in enumerate(cell.edges)
        ]
        assert [edge[:3] for edge in found] == expected
        taps = [panel._tap_y(tap) for tap in range(10)]
        assert taps == sorted(taps, reverse=True)
        assert min(a - b for a, b in pairwise(taps)) > draw.TAP_HEIGHT  # boxes do not touch


def test_colours_tell_the_modalities(tmp_path):
    genotype = make()
    only_rgb = picture(with_edges(genotype, 2, 3, 2, 3), tmp_path)
    only_thermal = picture(with_edges(genotype, 0, 1, 0, 1), tmp_path)
    assert pixels(only_rgb, RGB) > 50 * max(pixels(only_rgb, THERMAL), 1)
    assert pixels(only_thermal, THERMAL) > 50 * max(pixels(only_thermal, RGB), 1)


def test_operations_inner_edges_and_outputs_change_the_picture(tmp_path):
    genotype = make(levels=1, seed=3)
    (cell,) = genotype.cells
    step = cell.steps[0]
    other_op = "Sum" if step.inner_steps != ("Sum",) else "ECAAttn"
    changes = [
        dataclasses.replace(step, inner_steps=(other_op,)),
        dataclasses.replace(step, inner_edges=step.inner_edges[::-1]),
        dataclasses.replace(step, inner_concat=(2,)),
    ]
    cells = [cell, *(dataclasses.replace(cell, steps=(s, *cell.steps[1:])) for s in changes)]
    cells += [dataclasses.replace(cell, concat=(4,)), dataclasses.replace(cell, concat=(3, 4, 5))]
    images = [picture(dataclasses.replace(genotype, cells=(c,)), tmp_path) for c in cells]
    same = [(i, j) for i in range(len(images)) for j in range(i) if images[i].equal(images[j])]
    assert not same


def test_steps_that_read_steps_and_several_inner_steps_are_drawn(tmp_path):
    """As in genotypes of the public text form, and in larger spaces."""
    large = make(levels=1, node_steps=3, node_multiplier=5)
    assert picture(large, tmp_path).shape[2] > picture(make(levels=1), tmp_path).shape[2]
    chained = with_edges(make(levels=1), 0, 1, 4, 3)
    assert not picture(chained, tmp_path).equal(picture(with_edges(make(levels=1), 0, 1, 2, 3), tmp_path))


def test_matplotlib_is_imported_by_those_who_draw_alone():
    """Nothing that the three commands import pays for it."""
    others = ("tests", "tools", "benchmarks", "examples", ".venv", ".venv-oldest")
    files = [f for f in ROOT.rglob("*.py") if f.relative_to(ROOT).parts[0] not in others]
    sources = {f.relative_to(ROOT).as_posix(): f.read_text() for f in files}
    drawing = {"models/search/fusion_cells/draw.py", "report/plots.py", "report/robustness_plot.py"}
    drawing |= {name for name in sources if name.startswith("report/") and not name.endswith("__init__.py")}
    imports = r"^(from|import) matplotlib"
    assert {name for name, text in sources.items() if re.search(imports, text, re.MULTILINE)} <= drawing
    wanted = r"^(from|import) (models\.search\.draw|utils\.plots|utils\.robustness_plot|utils\.report\.|tools)"
    others = {name: text for name, text in sources.items() if name not in drawing}
    assert [name for name, text in others.items() if re.search(wanted, text, re.MULTILINE)] == []

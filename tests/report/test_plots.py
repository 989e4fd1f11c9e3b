"""Curves and galleries: what is read and chosen, and that pictures show it."""

import json
from collections import Counter

import pytest
from torchvision.io import ImageReadMode, decode_image

from datasets.detection.opening import open_data_set
from report import plots
from report.metrics import phases, read_metrics
from report.plots import View, draw_detections, plot_curves
from tests.tiny_data import make_tiny_flir
from utils.errors import UserError

RED = (0xFF, 0x30, 0x30)


def write_run(folder, rows: list[dict]):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def trained(tmp_path):
    rows = [{"epoch": i, "train_loss": 2.0 / (i + 1), "AP_val": 0.1 * i or None} for i in range(4)]
    return write_run(tmp_path / "trained", rows)


@pytest.fixture
def searched(tmp_path):
    logits = {"entropy_edges": 0.6, "entropy_inner_edges": 0.65, "entropy_ops": 1.3}
    rows = [{"epoch": i, "train_loss": 3.0, "arch_loss": 3.1, "AP_val": 0.1, **logits} for i in range(3)]
    return write_run(tmp_path / "searched", rows)


def read(path):
    return decode_image(str(path), ImageReadMode.RGB)


def test_curves_show_loss_score_and_the_entropy_of_a_search(trained, searched, tmp_path, monkeypatch):
    lines = []
    real = plots._plot
    monkeypatch.setattr(
        plots, "_plot", lambda axes, rows, key, **k: (lines.append((k["label"], key)), real(axes, rows, key, **k))
    )
    plain = read(plot_curves({"sum": trained}, tmp_path / "a.png"))
    assert lines == [("sum", "train_loss"), ("sum", "AP_val")]
    both = read(plot_curves({"sum": trained, "search": searched}, tmp_path / "b.png"))
    assert both.shape[1] == plain.shape[1]
    assert both.shape[2] > plain.shape[2] + 400  # a third panel
    assert {key for _, key in lines} >= {"arch_loss", *plots.ENTROPIES}


def test_phases_of_a_pretraining_are_curves_of_their_own(tmp_path):
    rows = [{"phase": p, "epoch": i, "train_loss": 1.0, "AP_val": 0.1} for p in ("rgb", "head") for i in range(2)]
    curves = phases("pretrain", read_metrics(write_run(tmp_path / "run", rows)))
    assert {label: [r["epoch"] for r in found] for label, found in curves.items()} == {
        "pretrain rgb": [0, 1],
        "pretrain head": [0, 1],
    }


def test_curves_refuse_what_is_no_run(trained, tmp_path):
    with pytest.raises(UserError, match=r"none.metrics\.jsonl"):
        plot_curves({"x": tmp_path / "none"}, tmp_path / "a.png")
    for text in ("", "[1]\n", "no json\n", '{"loss": 1}\n'):
        (trained / "metrics.jsonl").write_text(text)
        with pytest.raises(UserError, match="metrics.jsonl: expected"):
            plot_curves({"x": trained}, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


@pytest.fixture
def tiny(tmp_path):
    """Test pairs of two scenes, and detections that hit every object."""
    folder = make_tiny_flir(tmp_path / "flir", num_test=6, layout="1 in three", scenes=("day", "night"), info={})
    data = open_data_set(folder)
    truth = data.ground_truth["test"]
    return data.records["test"], truth, [hit(item) for item in truth["annotations"]]


def hit(item: dict) -> dict:
    return {k: item[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9}


def views(**by_method: list[dict]) -> list[View]:
    return [View(name, "thermal", name, found) for name, found in by_method.items()]


def pixels(image, colour) -> int:
    return int(sum((image[i].int() - colour[i]).abs() for i in range(3)).lt(60).sum())


def test_the_gallery_shows_misses(tiny, tmp_path):
    records, truth, all_found = tiny
    full = read(draw_detections(records, truth, views(a=all_found), tmp_path / "a.png", view_width=240))
    none = read(draw_detections(records, truth, views(a=[]), tmp_path / "b.png", view_width=240))
    unsure = [item | {"score": 0.29} for item in all_found]
    low = read(draw_detections(records, truth, views(a=unsure), tmp_path / "c.png", view_width=240))
    assert full.shape == none.shape
    assert pixels(none, RED) > pixels(full, RED) + 200
    assert low.shape == none.shape
    assert pixels(low, RED) == pixels(none, RED)
    two = read(draw_detections(records, truth, views(a=all_found, b=[]), tmp_path / "d.png", view_width=240))
    assert two.shape[2] > 1.7 * full.shape[2]
    records_size = records[0].width * 3, records[0].height * 3 * 2  # two scenes, so two rows
    assert full.shape[2] > records_size[0]
    assert full.shape[1] > records_size[1]


def test_one_pair_per_scene_where_methods_differ_most(tiny):
    records, truth, all_found = tiny
    scenes = {image["id"]: image["scene"] for image in truth["images"]}
    assert Counter(scenes.values()) == {"day": 3, "night": 3}
    odd = {scene: [r for r in records if scenes[r.image_id] == scene][-1].image_id for scene in ("day", "night")}
    losing = [item for item in all_found if item["image_id"] not in odd.values()]
    for one, other in ((all_found, losing), (losing, all_found)):  # whoever is ahead
        by_method = {name: plots.match_all(truth, found) for name, found in (("a", one), ("b", other))}
        assert [r.image_id for r in plots._choose(records, scenes, by_method)] == [odd["day"], odd["night"]]
        without = plots._choose(records, dict.fromkeys(scenes), by_method)[:2]
        assert {r.image_id for r in without} == set(odd.values())


def test_the_gallery_refuses_nothing_to_show_and_strange_images(tiny, tmp_path):
    records, truth, all_found = tiny
    with pytest.raises(UserError, match="found 0 pairs"):
        draw_detections([], truth, views(a=all_found), tmp_path / "a.png")
    with pytest.raises(UserError, match="0 views"):
        draw_detections(records, truth, [], tmp_path / "a.png")
    strange = [all_found[0] | {"image_id": "elsewhere"}]
    with pytest.raises(UserError, match="found image 'elsewhere'"):
        draw_detections(records, truth, views(a=strange), tmp_path / "a.png")

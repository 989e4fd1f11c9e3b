"""Baselines beyond the plain ones: widened to a genotype's parameters, and boxes of two runs fused, by the command."""

import json
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from main_darts_found_flira import main as found
from models.detection.baselines import FUSIONS
from models.detection.fusions import found_fusions
from models.search.fusion_cells.space import fusion_space, random_genotype
from tasks.detection.box_fusion import fuse_detections
from tests.run_commands import named, refused, run

INPUTS = tuple(f"{m}/bifpn{r}" for m in ("thermal", "rgb") for r in (1, 2))
SMALL = {"steps": 1, "multiplier": 1, "node_multiplier": 1}


def genotype_file(folder: Path, seed: int = 0, **sizes) -> tuple[Path, int]:
    """Write a random genotype for the tiny streams as a search run would; returns the file and its parameters."""
    genotype = random_genotype(fusion_space(INPUTS, ("P3", "P4", "P5"), 16, **sizes), seed)
    path = folder / "genotype.json"
    path.write_text(json.dumps(genotype.to_json()))
    return path, sum(p.numel() for p in nn.ModuleList(found_fusions(genotype, 0.0)).parameters())


@pytest.mark.parametrize("baseline", FUSIONS)
def test_every_fusion_can_be_widened_to_a_genotype(in_work, tiny_flir, tiny_config, tmp_path, capsys, baseline):
    file, wanted = genotype_file(tmp_path)
    options = [tiny_flir, "--baseline", baseline, "--config", tiny_config, "--dry_run", "--match_parameters"]
    for path in (file, file.parent):  # the file, or the search run
        text = run(found, capsys, *options, path)
        (line,) = (x for x in text.splitlines() if x.startswith("parameters_fusion: "))
        assert abs(int(line.partition(": ")[2]) - wanted) <= 0.1 * wanted


def test_a_widened_fusion_is_trained_and_tested_from_its_checkpoint_alone(
    in_work, tiny_flir, tiny_config, tmp_path, capsys
):
    file, wanted = genotype_file(tmp_path)
    options = ["--config", tiny_config, "--epochs", 1]
    text = run(found, capsys, tiny_flir, "--baseline", "sum", "--match_parameters", tmp_path, *options)
    trained = named(text, "eval_exp_dir")
    file.unlink()
    tested = [tiny_flir, "--eval_exp_dir", trained, "--config", tiny_config, "--eval_part", "val"]
    results = named(run(found, capsys, *tested), "results")
    facts = json.loads(results.read_text())
    assert facts["method"] == "sum widened"
    assert abs(facts["parameters_fusion"] - wanted) <= 0.1 * wanted
    assert (results.parent / "detections.json").read_bytes() == (trained / "detections.json").read_bytes()
    state = torch.load(trained / "best.pt", weights_only=True)
    assert state["model"]["fusions.0.reduce.weight"].shape[0] == state["args"]["widen"]


def test_a_baseline_that_is_too_large_is_refused(in_work, tiny_flir, tiny_config, tmp_path, capsys):
    path, wanted = genotype_file(tmp_path, seed=1, **SMALL)
    error = refused(
        found,
        capsys,
        *(tiny_flir, "--baseline", "eca_attn", "--config", tiny_config, "--match_parameters", path),
    )
    assert f"found {wanted}" in error
    other = random_genotype(fusion_space(INPUTS, ("P3", "P4", "P5"), 24), 0).to_json()
    path.write_text(json.dumps(other))
    options = [tiny_flir, "--baseline", "sum", "--config", tiny_config, "--match_parameters", path]
    assert "field C: expected 16" in refused(found, capsys, *options)


@pytest.fixture
def pair(in_work, tiny_flir, tiny_config, capsys) -> tuple[Path, Path]:
    """A thermal and an RGB run."""
    common = [tiny_flir, "--config", tiny_config, "--epochs", 1, "--baseline"]
    return tuple(named(run(found, capsys, *common, m), "eval_exp_dir") for m in ("thermal", "rgb"))


@pytest.mark.parametrize("how", ["nms", "wbf"])
def test_boxes_of_two_runs_are_fused(pair, tiny_flir, tiny_config, capsys, how):
    common = [tiny_flir, "--config", tiny_config]
    fusion = ["--box_fusion", how, "--eval_exp_dir", pair[0], "--partner_exp_dir", pair[1]]
    results = named(run(found, capsys, *common, *fusion, "--results", "fused.json"), "results")
    facts = json.loads(results.read_text())
    assert (facts["method"], facts["fused"], facts["part"]) == (f"box {how}", "thermal + rgb", "test")
    assert (facts["eval_exp_dir"], facts["partner_exp_dir"]) == tuple(map(str, pair))
    assert facts["AP_val"] is None
    assert Path("fused.json").read_bytes() == (results.parent / "detections.json").read_bytes()

    alone, tested = [], []
    for trained in pair:
        one = named(run(found, capsys, *common, "--eval_exp_dir", trained), "results")
        alone.append(json.loads((one.parent / "detections.json").read_text()))
        tested.append(json.loads(one.read_text()))
    assert facts["parameters"] == tested[0]["parameters"] + tested[1]["parameters"]
    fused = json.loads((results.parent / "detections.json").read_text())
    truth = COCO(str(tiny_flir / "meta/thermal/flir_test.json"))
    records = [Record(i["id"], i["width"], i["height"]) for i in truth.dataset["images"]]
    assert fused == fuse_detections(how, alone, records, [1, 2, 3])
    by_hand = COCOeval(truth, truth.loadRes(str(results.parent / "detections.json")), "bbox")
    by_hand.evaluate()
    by_hand.accumulate()
    by_hand.summarize()
    assert facts["AP"] == pytest.approx(by_hand.stats[0], abs=1e-12)


class Record:
    """What box fusion reads of a pair."""

    def __init__(self, image_id: str, width: int, height: int):
        self.image_id, self.width, self.height = image_id, width, height


def test_fused_boxes_on_val_and_a_dry_run(pair, tiny_flir, tiny_config, capsys):
    fusion = ["--box_fusion", "nms", "--eval_exp_dir", pair[0], "--partner_exp_dir", pair[1], "--eval_part", "val"]
    before = sorted(p.name for p in Path("runs").iterdir())
    text = run(found, capsys, tiny_flir, "--config", tiny_config, *fusion, "--dry_run")
    assert f"parameters_{pair[1].name}" in text
    assert sorted(p.name for p in Path("runs").iterdir()) == before
    facts = json.loads(named(run(found, capsys, tiny_flir, "--config", tiny_config, *fusion), "results").read_text())
    assert facts["AP_val"] == facts["AP"]
    assert facts["part"] == "val"


def test_runs_that_do_not_belong_together(pair, tiny_flir, tiny_config, capsys):
    common = [tiny_flir, "--config", tiny_config]
    other = [*common, "--epochs", 1, "--baseline", "rgb", "--split_seed", 1, "--allow_split_mismatch"]
    stranger = named(run(found, capsys, *other), "eval_exp_dir")
    fusion = [*common, "--box_fusion", "nms", "--eval_exp_dir", pair[0], "--partner_exp_dir"]
    assert f"{stranger}: split: expected" in refused(found, capsys, *fusion, stranger)
    assert "expected another run" in refused(found, capsys, *fusion, pair[0])
    assert "nowhere/best.pt" in refused(found, capsys, *fusion, "nowhere")
    assert "--image_size: expected" in refused(found, capsys, *fusion, pair[1], "--image_size", 96)
    assert "--baseline: no effect" in refused(found, capsys, *fusion, pair[1], "--baseline", "sum")


def test_scenes_of_the_data_are_in_the_results(in_work, tiny_flir, tiny_config, tmp_path, capsys):
    """Metrics by scene where images name theirs, and the hash that the test file gives of its renderer."""
    data = tmp_path / "flir"
    (data / "meta/thermal").mkdir(parents=True)
    for folder in tiny_flir.glob("images_*"):
        (data / folder.name).symlink_to(folder)
    for split in ("train", "test"):
        content = json.loads((tiny_flir / f"meta/thermal/flir_{split}.json").read_text())
        for number, image in enumerate(content["images"]):
            image["scene"] = ("day", "night", "night", "night")[number % 4]
        content["info"] = {"renderer": "road_scenes", "hash": f"{split}-hash"}
        (data / f"meta/thermal/flir_{split}.json").write_text(json.dumps(content))
    common = [data, "--config", tiny_config]
    trained = named(run(found, capsys, *common, "--baseline", "rgb", "--epochs", 1), "eval_exp_dir")
    text = run(found, capsys, *common, "--eval_exp_dir", trained)
    facts = json.loads(named(text, "results").read_text())
    assert facts["scenes"] == "test-hash"
    assert (facts["pairs_scene_day"], facts["pairs_scene_night"]) == (1, 3)
    assert {"AP_scene_day", "AP50_scene_day", "AP_scene_night", "LAMR_person"} <= facts.keys()
    assert "pairs_scene_night 3" in text

"""The published command lines of FAD: each key as our option, and the three lines from end to end."""

import shutil
from pathlib import Path

import pytest
import yaml

from tasks.detection.published import in_epochs, parse_published, translate
from tests.run_commands import named, refused, run
from tests.test_fad import CONFIG
from tests.tiny_sets import make_tiny_voc
from tools.published_lines import published
from utils.run_folder import read_json
from utils.subprocesses import ROOT

NAME = "fad-fcos_imprv_R_50_FPN_1x"
SEARCH, TRAIN, TEST = (published(name) for name in ("search", "train", "test"))


def options_of(name: str, config: Path, *more: str) -> dict[str, str]:
    files = () if name == "search" else ("--genotype-file", "g.log")
    words, _ = translate(name, parse_published(name, ["--config-file", str(config), *files, *more]))
    named_values = " ".join(words[1:]).split("--")[1:]
    return {"data": words[0]} | dict(text.strip().split(" ", maxsplit=1) for text in named_values)


@pytest.mark.parametrize(
    ("name", "config", "ours"),
    [("search", f"search/{NAME}", "fad_search"), ("train", f"augment/{NAME}", "fad_train")],
)
def test_the_published_configurations_say_what_ours_say(name, config, ours):
    options = options_of(name, ROOT / f"configs/fad/{config}.yaml")
    assert options["data"] == "datasets"
    values = yaml.safe_load((ROOT / f"configs/{ours}.yaml").read_text())["search" if name == "search" else "found"]
    shared = {key: str(value) for key, value in values.items() if key in options}
    assert {key: options[key] for key in shared} == shared
    assert {*values} - {*shared} <= {"marks", "epochs", "clip_grad", "alternate"}


def test_larger_backbones_and_several_scales():
    options = options_of("train", ROOT / "configs/fad/augment/fad-fcos_imprv_R_101_64x4d_FPN_2x.yaml")
    assert options["backbone"] == "resnext101_64x4d"
    assert options["head_channels"] == "128"
    assert options["short_sides"] == "640 800"


def test_iterations_are_epochs_of_the_data():
    keys = {"SOLVER.MAX_ITER": 90000, "SOLVER.STEPS": (60000, 80000)}
    assert in_epochs(keys, 118287, 16) == ["--epochs", "12", "--marks", "8.116", "10.82"]


def test_the_published_lines_run_as_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_tiny_voc(tmp_path / "datasets")
    Path("tiny.yaml").write_text(CONFIG, encoding="utf-8")
    config, searched, trained = ("--config-file", "tiny.yaml"), f"training_dir/search/{NAME}", f"training_dir/{NAME}"
    line = ("--skip-test", *config, "--use-tensorboard", "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", searched)
    assert "--skip-test: no effect here" in run(SEARCH, capsys, *line)
    genotype = ("--genotype-file", f"{searched}/genotype.log")
    line = ("--local_rank=0", *config, *genotype, "SOLVER.MAX_ITER", "4", "SOLVER.STEPS", "(2,)", "OUTPUT_DIR", trained)
    run(TRAIN, capsys, *line)
    test = (*config, *genotype, "MODEL.WEIGHT", f"{trained}/best.pt", "TEST.IMS_PER_BATCH", "4")
    assert read_json(named(run(TEST, capsys, *test), "results"))["pairs"] == 4
    shutil.copy(ROOT / "checkpoints/genotypes/fad_paper.log", searched + "/genotype.log")
    assert "--genotype training_dir/search/" in refused(TEST, capsys, *test)


REFUSED = {
    ("MODEL.WEIGTH", "a"): "MODEL.WEIGTH: expected a known key, found another (did you mean MODEL.WEIGHT?)",
    ("SOLVER.MAX_ITER",): "SOLVER.MAX_ITER: expected a value behind the key, found none",
    ("MODEL.FAD.NUM_CHANNELS_CLS", "128"): "MODEL.FAD.NUM_CHANNELS_CLS: expected 96 as of a key alike, found 128",
    ("INPUT.MIN_SIZE_RANGE_TRAIN", "640"): "INPUT.MIN_SIZE_RANGE_TRAIN: expected 2 whole numbers",
    (
        "DATASETS.TRAIN",
        "('cityscapes',)",
    ): "DATASETS.TRAIN: expected lists of voc_2012 or coco_2017, found ('cityscapes',)",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_is_no_published_line_is_refused(capsys, words):
    config = ("--config-file", ROOT / f"configs/fad/search/{NAME}.yaml")
    assert REFUSED[words] in refused(SEARCH, capsys, *config, *words)

"""Export: ONNX gives what PyTorch does, without PyTorch as well; one safetensors file is as good as the run."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from main_darts_found_flira import main as found
from models.detection.export import ExportedDetector
from models.search.tower_cells.layers import group_norm as group_norm_of
from tasks.detection.predictor import Predictor
from tasks.detection.weights import load_weights
from tests.run_commands import named, refused, run
from tools.export import TRANSLATIONS, differing
from tools.export import main as export
from utils.subprocesses import ROOT

RGB, THERMAL = "images_rgb_test/data", "images_thermal_test/data"
WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; runpy.run_path({!r}, run_name='__main__')"


@pytest.fixture(scope="module")
def networks() -> list:
    return []


@pytest.fixture
def network(networks, in_work, tiny_flir, tiny_config, capsys) -> str:
    """A trained run, the same for all tests."""
    if not networks:
        argv = [tiny_flir, "--random_genotype", 1, "--space", "fusion_v2", "--config", tiny_config, "--epochs", 1]
        networks.append(str(named(run(found, capsys, *argv), "eval_exp_dir").resolve()))
    return networks[0]


def first_pair(data) -> tuple[str, str]:
    return tuple(str(sorted((data / folder).iterdir())[0]) for folder in (RGB, THERMAL))


@pytest.mark.parametrize("trained", ["pairs", "one camera"])
def test_the_exported_detector_is_the_detector(request, trained):
    """Without loops over images and classes, on letterboxes that are not full."""
    run_folder = request.getfixturevalue("network") if trained == "pairs" else request.getfixturevalue("fad").run
    predictor = Predictor(run_folder, "cpu")
    height, width = predictor.options.image_size
    images = {
        "rgb": torch.randint(0, 256, (3, 3, height, width), dtype=torch.uint8),
        "thermal": torch.randint(0, 256, (3, 1, height, width), dtype=torch.uint8),
    }
    extent = torch.tensor([[height, width - 5], [height - 3, width], [height, width]])
    exported = ExportedDetector(predictor.model, (height, width)).eval()
    with torch.no_grad():
        boxes, scores, labels = exported(extent.float(), *(images[name] for name in exported.names))
        batch = {"images": images, "image_size": (height, width), "scales": torch.ones(3), "original_sizes": extent}
        expected = predictor.task.predict(predictor.model, batch)
    for n, one in enumerate(expected):
        count = len(one["scores"])
        assert count > 10
        torch.testing.assert_close(scores[n, :count], one["scores"])
        left = list(range(count))
        for score, box, label in zip(one["scores"], one["boxes_xyxy"], one["labels"], strict=True):
            alike = [k for k in left if labels[n, k] == label and torch.allclose(boxes[n, k], box, atol=1e-3)]
            same = [k for k in alike if torch.isclose(scores[n, k], score, atol=1e-6)]
            left.remove(same[0])  # not always in its place: scores that differ by rounding alone change places
        assert (scores[n, count:] == 0).all()


def test_onnx_without_torch_finds_what_predict_finds(in_work, tiny_flir, tiny_config, tmp_path, capsys):
    """Of one sensor, since half of the network takes half of the time; both: benchmarks/onnx_export.py."""
    pytest.importorskip("onnxscript", reason="requirements-export.txt is not installed")
    argv = [tiny_flir, "--baseline", "thermal", "--config", tiny_config, "--epochs", 1]
    network, file = str(named(run(found, capsys, *argv), "eval_exp_dir")), tmp_path / "network.onnx"
    assert "agrees with PyTorch at 1 and 4 pairs" in run(export, capsys, "--eval_exp_dir", network, "--onnx", file)
    rgb, thermal = first_pair(tiny_flir)
    argv = [sys.executable, "-c", WITHOUT_TORCH.format(str(ROOT / "examples/predict_onnx.py")), str(file)]
    options = ["--rgb", rgb, "--thermal", thermal, "--score", "0"]
    done = subprocess.run([*argv, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    ours = Predictor(network, "cpu")(rgb, thermal, score=0)
    assert len(theirs) >= len(ours) > 10  # there may be some of a score of 0
    assert [t["score"] for t in theirs[: len(ours)]] == pytest.approx([o["score"] for o in ours], abs=1e-3)
    assert "expected a new file" in refused(export, capsys, "--eval_exp_dir", network, "--onnx", file)
    scores_as_its_run(file, Path(network), tiny_flir, tiny_config, capsys)


def scores_as_its_run(file: Path, network: Path, data: Path, config: Path, capsys) -> None:
    """Take an exported file back as --baseline, and compare its detections and AP with those of its run."""
    common = [data, "--config", config]
    text = run(found, capsys, *common, "--baseline", f"onnx:{file}")
    assert "network.onnx reads thermal pictures as uint8 grey, 64x80, resize letterbox; boxes from boxes" in text
    runs = network, named(text, "eval_exp_dir")
    same_detections(*(json.loads((folder / "detections.json").read_text()) for folder in runs))
    results = [named(run(found, capsys, *common, "--eval_exp_dir", folder), "results") for folder in runs]
    same_detections(*(json.loads((path.parent / "detections.json").read_text()) for path in results))
    ours, theirs = (json.loads(path.read_text()) for path in results)
    assert theirs["AP"] == pytest.approx(ours["AP"], abs=1e-4)
    assert theirs["AP_val"] == pytest.approx(ours["AP_val"], abs=1e-4)
    assert theirs["method"] == "thermal by network.onnx"
    assert 0.9 < theirs["parameters"] / ours["parameters"] < 1.5  # with anchors, without frozen norms


def same_detections(ours: list[dict], theirs: list[dict]) -> None:
    """Compare detections; those of about the same score may change places."""
    assert len(ours) == len(theirs) > 10
    left = list(theirs)
    for item in ours:
        alike = [o for o in left if all(o[name] == item[name] for name in ("image_id", "category_id"))]
        alike = [o for o in alike if o["score"] == pytest.approx(item["score"], abs=1e-4)]
        left.remove(next(o for o in alike if o["bbox"] == pytest.approx(item["bbox"], abs=0.02)))


def test_a_group_norm_is_translated():
    """The towers of FAD have one for each layer and level."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
    pytest.importorskip("onnxscript", reason="requirements-export.txt is not installed")
    norm, x = group_norm_of(16).eval(), torch.randn(2, 16, 3, 5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    file = io.BytesIO()
    torch.onnx.export(norm, (x,), dynamo=True, custom_translation_table=TRANSLATIONS, verbose=False).save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), norm(x).detach(), atol=1e-5, rtol=1e-5)


def test_one_file_is_as_good_as_the_run(network, tiny_flir, tmp_path, capsys):
    file = tmp_path / "network.safetensors"
    run(export, capsys, "--eval_exp_dir", network, "--weights", file)
    pair = first_pair(tiny_flir)
    assert Predictor(str(file), "cpu")(*pair, score=0) == Predictor(network, "cpu")(*pair, score=0)
    assert load_weights(file)["genotype"]["parts"]["fusion"]["space"] == "fusion_v2"
    content = file.read_bytes()
    for name, spoilt in {"cut": content[:-50], "text": b"no weights", "empty": b""}.items():
        (tmp_path / f"{name}.safetensors").write_bytes(spoilt)
        with pytest.raises(ValueError, match=rf"{name}\.safetensors: expected"):
            Predictor(str(tmp_path / f"{name}.safetensors"), "cpu")


def test_mistakes_are_one_line(network, tmp_path, capsys):
    start, weights = ["--eval_exp_dir", network], ["--weights", tmp_path / "a.safetensors"]
    assert "expected --onnx, --weights or both" in refused(export, capsys, *start)
    assert "--raw: no effect without --onnx" in refused(export, capsys, *start, "--raw", *weights)
    assert "expected a .onnx file in a folder" in refused(export, capsys, *start, "--onnx", tmp_path / "a.txt")
    assert "best.pt" in refused(export, capsys, "--eval_exp_dir", tmp_path, *weights)


def test_what_onnxruntime_computes_otherwise_is_seen():
    boxes, scores, labels = torch.rand(1, 3, 4) * 50, torch.tensor([[0.9, 0.5, 0.0]]), torch.tensor([[0, 1, 0]])
    logits, deltas = torch.randn(1, 5, 2), torch.randn(1, 5, 4)
    ours = boxes, scores, labels, logits, deltas
    assert set(differing(ours, [t.clone() for t in ours]).values()) == {0.0}
    far = differing(ours, [boxes + torch.tensor([0.6, 0, 0, 0]), scores, labels, logits + 0.01, deltas])
    assert far["boxes without a like one"] == 1.0
    assert far["logits"] == pytest.approx(0.01, rel=1e-3)
    other = differing(ours, [boxes, scores, 1 - labels, logits, deltas - 0.5])
    assert other["boxes without a like one"] == 1.0
    assert other["deltas"] == pytest.approx(0.5, rel=1e-3)
    assert differing((logits, deltas), [logits, deltas + 1])["deltas"] == pytest.approx(1, rel=1e-3)

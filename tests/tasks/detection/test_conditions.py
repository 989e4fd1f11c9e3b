"""Detection under corruptions: as by hand on the corrupted pictures, with each stream computed once."""

import pytest
import torch

from datasets.data_module import DataModule, LoaderOptions
from datasets.detection.corruptions import KINDS, corrupted_loader, severities
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data
from engine.compute import Compute
from models.detection.baselines import BASELINES
from models.detection.detector import FusionDetector
from models.detection.fusions import baseline_fusions
from models.detection.heads.efficientdet import DetectionHead
from models.detection.streams import Streams
from tasks.detection.conditions import Condition, conditions_of, detect_under, sensors_of
from tasks.detection.flira import FLIRA as detection

SIZE = (64, 80)
CPU = Compute(torch.device("cpu"))


@pytest.fixture
def parts(tiny_flir) -> DataModule:
    loading = LoaderOptions(batch_size=3, seed=1, max_bad_files=None)
    return open_data(str(tiny_flir), "flir_aligned", ImageOptions(SIZE, hflip=0.5), loading)


def detector(parts: DataModule, baseline: str) -> FusionDetector:
    torch.manual_seed(0)
    streams = Streams("lcnet_050", 16, 2, 3, BASELINES[baseline][0])
    head = DetectionHead(16, 3, num_levels=3, anchor_scale=2.0)
    fusions = baseline_fusions(baseline, 16, 3)
    return CPU.place(FusionDetector(streams, fusions, head, parts.data.normalization)).eval()


def by_hand(model: FusionDetector, batch: dict, condition: Condition) -> list[dict]:
    """Predict on the pictures themselves."""
    suffering = {"both": ("thermal", "rgb")}.get(condition.sensor, (condition.sensor,))
    versions = {m: condition.severity if m in suffering else 0 for m in ("rgb", "thermal")}
    with torch.no_grad():
        return detection.predict(model, batch | {"images": {m: batch["versions"][v][m] for m, v in versions.items()}})


@pytest.mark.parametrize(("baseline", "per_batch"), [("concat_conv", 12), ("rgb", 5), ("early", 15)])
def test_predictions_are_those_of_the_pictures(parts, baseline, per_batch, monkeypatch):
    """To the bit; and a picture goes through its stream once per batch: clean ones too, where they are needed."""
    model, calls = detector(parts, baseline), []
    conditions, batches = conditions_of("fog", sensors_of(model)), list(corrupted_loader(parts, "test", "fog", 2))
    features = model.features
    monkeypatch.setattr(model, "features", lambda *args: calls.append(args) or features(*args))
    answers = detect_under(model, detection, CPU, batches, conditions)
    assert len(calls) == per_batch * len(batches)
    found = 0
    for condition, own in answers.items():
        for batch, (told, predictions) in zip(batches, own, strict=True):
            assert told["image_ids"] == batch["image_ids"]
            for ours, theirs in zip(predictions, by_hand(model, batch, condition), strict=True):
                assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
                found += len(ours["scores"])
    assert found > 0


def test_conditions_are_those_of_what_is_read():
    both = [c for kind in KINDS for c in conditions_of(kind, ("thermal", "rgb"))]
    assert len(both) == len(set(both)) == 3 * 2 + 7 * 3 * 5 + 4
    assert {c.sensor for c in both if c.kind in ("black", "frozen", "noise_only")} == {"thermal", "rgb"}
    assert [c for c in both if c.kind == "shift"] == [Condition("rgb", "shift", px) for px in severities("shift")]
    thermal = [c for kind in KINDS for c in conditions_of(kind, ("thermal",))]
    assert {c.sensor for c in thermal} == {"thermal"}
    assert "shift" not in {c.kind for c in thermal}

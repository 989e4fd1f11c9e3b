"""The memory estimate of a dry run against what PyTorch's profiler sees a step allocate."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from engine.compute import Compute
from engine.memory_estimate import PEAK_CPU, PROBE, memory_estimate
from models.detection.detector import FusionDetector
from models.detection.fusions import baseline_fusions
from models.detection.heads.efficientdet import DetectionHead
from models.detection.streams import MODALITIES, Streams
from tasks.detection.build import black_batch
from tasks.detection.flira import FLIRA as detection

COMPUTE = Compute(torch.device("cpu"), False, 10.0)
STATISTICS = dict.fromkeys(MODALITIES, ((0.5,) * 3, (0.25,) * 3))


def make_model() -> FusionDetector:
    torch.manual_seed(0)
    fusions = baseline_fusions("concat_conv", 32, 3)
    return FusionDetector(Streams("lcnet_050", 32, 2, 3), fusions, DetectionHead(32, 3, num_levels=3), STATISTICS)


def allocated_peak(model: FusionDetector, size: tuple[int, int]) -> int:
    """Return the bytes that a step holds at most, by PyTorch's own count."""
    batch = black_batch(MODALITIES, size, torch.device("cpu"))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        detection.losses(model, batch)["loss"].backward()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def test_the_estimate_is_near_what_is_allocated():
    model, size = make_model().train(), (192, 256)
    batch = black_batch(MODALITIES, size, COMPUTE.device)
    estimate = memory_estimate(detection, model, batch, 1, COMPUTE)
    allocated = allocated_peak(model, size) / PROBE / 2**20
    assert estimate["memory_per_pair_mib"] / PEAK_CPU == pytest.approx(allocated / 1.3, rel=0.25)


def test_it_grows_with_pairs_and_leaves_the_model_as_it_was():
    model = make_model().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = black_batch(MODALITIES, (64, 96), COMPUTE.device)
    one, four = (memory_estimate(detection, model, batch, n, COMPUTE) for n in (1, 4))
    assert four["memory_step_mib"] - one["memory_step_mib"] == pytest.approx(3 * one["memory_per_pair_mib"], abs=0.2)
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(p.grad is None for p in model.parameters())

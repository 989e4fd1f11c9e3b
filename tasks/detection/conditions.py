"""Detect on pairs with corrupted sensors: each picture goes through its stream once, whatever is combined with it.

The streams are independent of each other, so the taps of a corrupted picture of one sensor serve beside the clean and
beside the corrupted one of the other. Only those of one batch are held.

Shapes: B batch, F taps of a level, C channels, H W of the level.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datasets.detection.corruptions import CLEAN, DEAD_KINDS, severities
from engine.compute import Compute
from engine.step import Task, move, without_inputs
from models.detection.detector import FusionDetector
from models.detection.streams import INPUTS, images_of
from utils.progress_bar import bar

Versions = dict[int, dict[str, Tensor]]  # pictures by severity and modality
Known = dict[tuple, list[Tensor]]  # taps by stream and the severity of each picture that it reads
Answers = list[tuple[dict[str, Any], list[dict[str, Tensor]]]]  # batches without pictures, and what was found in them


class Condition(NamedTuple):
    """What a test is done under: which sensor ("thermal", "rgb", "both") suffers what, and how much."""

    sensor: str
    kind: str
    severity: int


def sensors_of(model: FusionDetector) -> tuple[str, ...]:
    """Return the sensors whose pictures a detector reads."""
    return tuple(sensor for sensor in ("thermal", "rgb") if sensor in images_of(model.streams.modalities))


def conditions_of(kind: str, sensors: tuple[str, ...]) -> list[Condition]:
    """Return the conditions of a kind: with both sensors dead there is nothing to test, and RGB shifts from thermal."""
    if kind == "shift":
        suffering = [sensor for sensor in sensors if sensor == "rgb"]  # the boxes are thermal's
    else:
        suffering = [*sensors] + ["both"] * (len(sensors) == 2 and kind not in DEAD_KINDS)
    return [Condition(sensor, kind, severity) for sensor in suffering for severity in severities(kind)]


@torch.no_grad()
def detect_under(
    model: FusionDetector, task: Task, compute: Compute, batches: Iterable[dict], conditions: list[Condition]
) -> dict[Condition, Answers]:
    """Run the model over all batches under each of the conditions, which are of one kind.

    Args:
        batches: with "versions", from `datasets.detection.corruptions`.

    Returns:
        What `task.predict` gave of each batch, on the CPU; ranks take turns at the batches, and each gets all answers.
    """
    model.eval()
    answers = {condition: [] for condition in conditions}
    for batch in bar(batches, conditions[0].kind):
        targets = without_inputs(batch)
        moved, versions = move(targets, compute.device), move(batch["versions"], compute.device)
        known: Known = {}
        with compute.autocast():
            for condition in conditions:
                taps = taps_under(model, versions, condition, known)
                found = task.predict(model, moved | {"features": {"taps": taps}})
                answers[condition].append((targets, [{k: v.cpu() for k, v in one.items()} for one in found]))
    if compute.ranks.count > 1:
        by_number = lambda answer: answer[0]["number"]  # noqa: E731
        answers = {c: sorted(compute.ranks.all_gather(own), key=by_number) for c, own in answers.items()}
    return answers


def taps_under(model: FusionDetector, versions: Versions, condition: Condition, known: Known) -> list[Tensor]:
    """Return the taps of each level, (F, B, C, H, W), channels last in memory as those of a feature cache.

    Args:
        versions: the pictures of a batch, uint8 (B, 1 or 3, H, W).
        known: what was computed of this batch before.
    """
    streams = []
    for stream in model.streams.modalities:
        severity = {m: condition.severity if condition.sensor in (m, "both") else CLEAN for m in INPUTS[stream]}
        key = (stream, *severity.values())
        if key not in known:
            known[key] = model.features({m: versions[s][m] for m, s in severity.items()}, stream, "taps")
        streams.append(known[key])
    return [torch.cat([own.movedim(2, -1) for own in level]).movedim(-1, 2) for level in zip(*streams)]

"""Kinect skeletons as NTU RGB+D has them (1604.02808): text files of joints, to two persons at evenly spaced times.

A file: the number of frames; per frame the number of bodies; per body a line of information that begins with its id,
the number of joints, and a line per joint that begins with x, y, z in metres. Of the bodies the two that move most are
kept, over the whole file, so that a crop in time does not exchange them.

Shapes: F frames of a body, T times, V = 25 joints, M = 2 persons.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from datasets.classification.clips import Crop, cropped
from utils.errors import UserError, short
from utils.untrusted import read_lines

JOINTS, PERSONS = 25, 2
MAX_FRAMES = 100_000  # of a file

Body = dict[int, np.ndarray]  # joints (V, 3) by frame


class _Lines:
    """The lines of a file, with messages that say which one is wrong."""

    def __init__(self, path: str, lines: list[str]):
        self.path, self.lines, self.place = path, lines, 0

    def next(self, expected: str) -> str:
        if self.place == len(self.lines):
            raise self.fault(expected, "the end of the file", self.place + 1)
        self.place += 1
        return self.lines[self.place - 1]

    def count(self, expected: str, most: int) -> int:
        line = self.next(expected).strip()
        if not (line.isascii() and line.isdigit() and len(line) < 10 and int(line) <= most):
            raise self.fault(expected, short(line), self.place)
        return int(line)

    def fault(self, expected: str, found: str, number: int) -> UserError:
        return UserError(f"{self.path}: line {number}: expected {expected}, found {found}")


def read_skeletons(path: str, num_times: int, crop: Crop) -> Tensor:
    """Read a file.

    Args:
        num_times: T, evenly spaced from the first to the last frame of the crop; between frames joints move evenly.
        crop: in time, as shares of the file.
    Returns:
        float32 (3, T, V, M), metres; zeros where there is no person, or before the first or after the last frame that
        shows it.
    Raises:
        UserError: missing, cut or malformed, names the line; or without any body.
    """
    num_frames, bodies = parse_skeletons(path)
    frames = cropped(num_frames, crop)
    times = np.linspace(frames[0], frames[-1], num_times)
    joints = np.zeros((PERSONS, num_times, JOINTS, 3), np.float32)
    for person, body in enumerate(sorted(bodies, key=_motion, reverse=True)[:PERSONS]):
        joints[person] = _at_times(body, times)
    return torch.from_numpy(joints).permute(3, 1, 2, 0).contiguous()


def parse_skeletons(path: str) -> tuple[int, list[Body]]:
    """Return the number of frames and the bodies; UserError as `read_skeletons`."""
    lines, bodies = _Lines(path, read_lines(path, "a skeleton file", "utf-8")), {}
    num_frames = lines.count(f"the number of frames, up to {MAX_FRAMES}", MAX_FRAMES)
    for frame in range(num_frames):
        for name, joints in _frame(lines):
            bodies.setdefault(name, {}).setdefault(frame, joints)  # of two bodies of one name the first counts
    if not bodies:
        raise UserError(f"{path}: expected a body, found none in {num_frames} frames: list it as a missing skeleton")
    return num_frames, list(bodies.values())


def _frame(lines: _Lines) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and joints (V, 3) of each body of the next frame."""
    for _ in range(lines.count("a frame's number of bodies, up to 99", 99)):
        words = lines.next("a line on a body").split(maxsplit=1)
        if not words:
            raise lines.fault("a line on a body", "an empty line", lines.place)
        if lines.count(f"{JOINTS} joints", JOINTS) != JOINTS:
            raise lines.fault(f"{JOINTS} joints", short(lines.lines[lines.place - 1]), lines.place)
        yield words[0], np.array([_joint(lines) for _ in range(JOINTS)])


def _joint(lines: _Lines) -> list[float]:
    line = lines.next("a joint")
    try:
        numbers = [float(word) for word in line.split(maxsplit=3)[:3]]
    except ValueError:
        numbers = []
    if len(numbers) < 3 or not np.isfinite(numbers).all():
        raise lines.fault("a joint's x, y and z", short(line), lines.place)
    return numbers


def _motion(body: Body) -> float:
    """Return how much a body moves: the variance of its joints over time, square metres."""
    return float(np.stack(list(body.values())).var(axis=0).sum())


def _at_times(body: Body, times: np.ndarray) -> np.ndarray:
    """Interpolate (F, V, 3) at T times, to (T, V, 3)."""
    there, tracks = list(body), np.stack(list(body.values())).reshape(len(body), -1)
    columns = [np.interp(times, there, track, left=0, right=0) for track in tracks.T]
    return np.stack(columns, axis=1).reshape(len(times), JOINTS, 3)

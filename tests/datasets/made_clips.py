"""Clips for tests whose frames show their number: in bars of a video, in the brightness of JPEG files, or in joints."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datasets.classification.clips import write_video
from datasets.generated.bodies import skeleton_text

BITS = 8  # bars of a video's frame, light where the number has the bit
DARK, LIGHT = 50, 210  # levels of 255
STEP, RAMP = 2, 15  # levels from a JPEG to the next, and from its middle to either side


def real_data(what: str) -> Path:
    """Return the folder of real data, or skip."""
    if not os.environ.get("NAS_DSF_DATA"):
        pytest.skip(f"NAS_DSF_DATA does not name a folder with {what}")
    return Path(os.environ["NAS_DSF_DATA"])


def level(number: int) -> int:
    """Return the level of a JPEG's middle."""
    return 35 + STEP * number


def write_numbered_video(path: Path, num_frames: int, size: tuple[int, int] = (64, 64), rate: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, (_bars(number, size) for number in range(num_frames)), size, rate)
    return path


def _bars(number: int, size: tuple[int, int]) -> av.VideoFrame:
    levels = np.array([LIGHT if number >> bit & 1 else DARK for bit in range(BITS)], np.uint8)
    row = levels.repeat(size[1] // BITS)[None, :, None]
    return av.VideoFrame.from_ndarray(np.broadcast_to(row, (*size, 3)).copy())


def write_numbered_jpegs(folder: Path, numbers: range, size: tuple[int, int], mode: str) -> None:
    """Write frames that are `level` in the middle, darker to the left and lighter to the right."""
    folder.mkdir(parents=True)
    ramp = np.linspace(-RAMP, RAMP, size[1])[None].repeat(size[0], axis=0)
    for number in numbers:
        pixels = Image.fromarray((level(number) + ramp).round().astype(np.uint8)).convert(mode)
        pixels.save(folder / f"{number:06d}.jpg", quality=95)


def write_numbered_skeleton(path: Path, num_frames: int) -> Path:
    """Write a body whose x is the frame's number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    joints = np.zeros((num_frames, 25, 3))
    joints[..., 0] = np.arange(num_frames)[:, None]
    path.write_text(skeleton_text([joints]))
    return path


def numbers_of(frames: Tensor) -> list[int]:
    """Return the numbers that frames (C, T, H, W) of a numbered video show."""
    bars = frames.float().mean(dim=(0, 2)).unflatten(1, (BITS, -1)).mean(dim=2)  # (T, BITS)
    return ((bars > (DARK + LIGHT) / 2).long() @ 2 ** torch.arange(BITS)).tolist()

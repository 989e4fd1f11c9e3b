"""Frames of a clip: which ones, one in each of equal segments of a crop in time; decoding in one pass, and writing.

Segments are those of temporal segment networks (1608.00859, section 3.1). A crop is kept as shares of the clip, so that
modalities with different numbers of frames are cut alike. Differs from BM-NAS' public code in that every sampled frame
is decoded; there the last one was always zeros.

Shapes: T sampled frames, H, W size of a frame.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from datasets.classification.video import CODECS, QUALITY, opened
from utils.errors import UserError

Crop = tuple[float, float]  # where it begins and ends, as shares of the clip
WHOLE: Crop = (0.0, 1.0)
LEAST_SHARE = 0.9  # of a clip that a drawn crop keeps
IN_TIME, IN_SEGMENT, IN_PICTURE = range(3)  # what is drawn from an example's seed, each from a generator of its own


def generator(seed: int, what: int) -> np.random.Generator:
    """Return the generator of one kind of draw: what is drawn does not depend on the modalities that are read."""
    return np.random.default_rng((seed, what))


def draw_crop(seed: int | None) -> Crop:
    """Draw a crop in time of `LEAST_SHARE` to 1 of the clip; without a seed it is the whole clip."""
    if seed is None:
        return WHOLE
    share, place = generator(seed, IN_TIME).uniform((LEAST_SHARE, 0), 1)
    return place * (1 - share), place * (1 - share) + share


def cropped(num_frames: int, crop: Crop) -> range:
    """Return the frames of a crop, at least one, of a clip of `num_frames` >= 1."""
    first = min(math.floor(crop[0] * num_frames), num_frames - 1)
    return range(first, min(max(math.ceil(crop[1] * num_frames), first + 1), num_frames))


def segment_frames(frames: range, num: int, seed: int | None) -> list[int]:
    """Choose a frame of each of `num` equal segments: the middle one, or with a seed a drawn one.

    Args:
        frames: at least one; fewer than `num` are shown several times.
    Returns:
        T = num frames in order, each of `frames`.
    """
    places = np.full(num, 0.5) if seed is None else generator(seed, IN_SEGMENT).random(num)
    steps = ((np.arange(num) + places) * len(frames) / num).astype(int)
    return [frames[step] for step in steps.clip(max=len(frames) - 1)]


def read_frames(path: str, choose: Callable[[int], Sequence[int]]) -> Tensor:
    """Decode some frames of a video, from its beginning to the last of them, once.

    Args:
        choose: gives the frames, counted from 0, for the video's number of frames; a frame may be there twice.
    Returns:
        uint8 (3, T, H, W), RGB.
    Raises:
        UserError: no video, or one that ends or stops making sense before the last of the frames.
    """
    num_frames = _num_frames(path)
    numbers, pixels = choose(num_frames), {}
    with opened(path) as container:
        container.streams.video[0].codec_context.thread_count = 1  # loaders have a process per core
        for number, frame in enumerate(container.decode(video=0)):
            if number in numbers and not frame.is_corrupt:
                pixels[number] = frame.to_ndarray(format="rgb24")
            if number >= max(numbers):
                break
    if missing := set(numbers) - set(pixels):
        raise UserError(f"{path}: expected a video of {num_frames} frames, found one whose frame {min(missing)} is cut")
    return torch.from_numpy(np.stack([pixels[number] for number in numbers])).permute(3, 0, 1, 2).contiguous()


def frame_size(path: str) -> tuple[int, int]:
    """Return (H, W) of a video; UserError where it is none."""
    with opened(path) as container:
        return container.streams.video[0].height, container.streams.video[0].width


def write_video(path: Path, frames: Iterable[av.VideoFrame], size: tuple[int, int], rate: int) -> None:
    """Write frames of even sides (H, W), at `rate` per second; the same bytes for the same frames.

    Raises:
        OSError: no room.
    """
    with av.open(str(path), "w") as container:
        codec = next(name for name in CODECS if name in av.codecs_available)
        # No B-frames: AVI has no times of display, and of small frames x264 makes other bytes each time.
        stream = container.add_stream(codec, rate=rate, options=QUALITY[codec] | {"bf": "0"})
        (stream.height, stream.width), stream.pix_fmt = size, "yuv420p"
        stream.codec_context.thread_count = 1  # the content may depend on the number
        for number, frame in enumerate(frames):
            frame = frame.reformat(size[1], size[0], "yuv420p", interpolation="BICUBIC")  # as FFmpeg's -s
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _num_frames(path: str) -> int:
    """Return the number of frames in the header, or without one the number of packets."""
    with opened(path) as container:
        found = container.streams.video[0].frames or sum(packet.size > 0 for packet in container.demux(video=0))
    if not found:
        raise UserError(f"{path}: expected a video, found one without frames")
    return found

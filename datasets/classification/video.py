"""Videos as pictures and back, by PyAV: frames of one or two files side by side in time, and a writer.

Shapes: a frame is uint8 (3, h, w) in RGB, or (1, h, w) in grey.
"""

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from torch import Tensor

from datasets.images import Counts, eight_bits
from utils.errors import UserError
from utils.untrusted import plain_file

SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")
CODECS = ("libx264", "mpeg4")  # tried in turn: builds without the first are free of its licence
QUALITY = {"libx264": {"crf": "20"}, "mpeg4": {"qscale": "3"}}


def is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[InputContainer]:
    """Open a video; what FFmpeg finds wrong with it inside the block is a UserError, too."""
    try:
        with av.open(str(plain_file(path))) as container:
            if not container.streams.video:
                raise UserError(f"{path}: expected a video, found a file without pictures")
            yield container
    except UserError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{path}: expected a video, found one that cannot be decoded ({error})") from error


class Video:
    """The frames of a file.

    Args:
        path: the file.
        grey: frames of one channel; 16 bits become 8 as of pictures.
        counts: as of `read_thermal`.

    Raises:
        UserError: the file is no video that FFmpeg reads; also when a frame of it is asked for.
    """

    def __init__(self, path: Path, grey: bool, counts: Counts | None = None):
        self.path, self.grey, self.counts = path, grey, counts
        with opened(path) as container:
            stream = container.streams.video[0]
            self.rate = stream.average_rate or Fraction(25)
            self.count = stream.frames  # 0 where the file does not say

    def __iter__(self) -> Iterator[tuple[float, Tensor]]:
        """Give (seconds since the beginning, frame)."""
        with opened(self.path) as container:
            for number, frame in enumerate(container.decode(video=0)):
                yield number / float(self.rate) if frame.time is None else frame.time, self._pixels(frame)

    def _pixels(self, frame: av.VideoFrame) -> Tensor:
        if not self.grey:
            return torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
        if not frame.format.name.startswith("gray16"):
            return torch.from_numpy(frame.to_ndarray(format="gray"))[None]
        values = frame.to_ndarray(format="gray16le")
        return torch.from_numpy(eight_bits(values, self.counts))[None]


def side_by_side(first: Video, second: Video) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each frame of the first video with the frame of the second that is shown then; ends with the shorter."""
    others = iter(second)
    time, now = next(others, (0.0, None))
    following = next(others, None)
    half = 0.5 / float(second.rate)
    for moment, frame in first:
        while following is not None and following[0] <= moment + half:
            time, now = following
            following = next(others, None)
        if now is None or (following is None and moment > time + 2 * half):
            return
        yield frame, now


@contextlib.contextmanager
def video_writer(path: Path, rate: Fraction) -> Iterator[Callable[[Tensor], None]]:
    """Yield a function that writes frames, uint8 (3, h, w) of one size, into a file."""
    with av.open(str(path), "w") as container:

        def write(frame: Tensor) -> None:
            height, width = (side - side % 2 for side in frame.shape[-2:])  # colour is kept for 2 x 2 pixels
            if not container.streams.video:
                codec = next(name for name in CODECS if name in av.codecs_available)
                stream = container.add_stream(codec, rate=rate, options=QUALITY[codec])
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            pixels = np.ascontiguousarray(frame[:, :height, :width].permute(1, 2, 0).numpy())
            container.mux(container.streams.video[0].encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))

        try:
            yield write
        finally:
            for stream in container.streams.video:
                container.mux(stream.encode())

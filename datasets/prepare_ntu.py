"""Re-encode the videos of NTU RGB+D at 256x256 and 30 frames per second, as `ntu.py` reads them.

    python -m datasets.prepare_ntu --dir DIR

`DIR/nturgb+d_rgb/*_rgb.avi` to `DIR/nturgb+d_rgb_256x256_30/`, by PyAV, without a program ffmpeg. Each file is whole
when it appears; those that are there are skipped. A video that is broken does not stop the others.
"""

import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from tqdm import tqdm

from datasets.classification.clips import write_video
from datasets.classification.ntu import ENDINGS, FOLDERS
from utils.args import Parser, command
from utils.errors import UserError
from utils.files import faults_named

SOURCE = "nturgb+d_rgb"
SIDE, RATE = 256, 30  # pixels, frames per second


class BrokenVideo(Exception):
    """A source that cannot be decoded; says why."""


@command
def main(argv: list[str]) -> None:
    parser = Parser("Re-encode NTU RGB+D's videos at 256x256 and 30 frames per second.")
    parser.add_argument("--dir", required=True, metavar="DIR", help=f"folder of {SOURCE}/*{ENDINGS['rgb']}")
    args = parser.parse_args(argv)
    done, skipped = prepare_ntu(Path(args.dir))
    print(f"ntu: {Path(args.dir) / FOLDERS['rgb']} ({done} videos written, {skipped} were there)")


def prepare_ntu(folder: Path) -> tuple[int, int]:
    """Re-encode the videos that are not there yet; returns their number and that of the others.

    Raises:
        UserError: no videos or no room; and in the end, where videos are broken, names these.
    """
    sources = sorted((folder / SOURCE).glob(f"*{ENDINGS['rgb']}"))
    if not sources:
        raise UserError(f"{folder / SOURCE}: expected videos *{ENDINGS['rgb']}, found none")
    out, broken = folder / FOLDERS["rgb"], {}
    with faults_named(out):
        out.mkdir(exist_ok=True)
    left = [path for path in sources if not (out / path.name).exists()]
    for path in tqdm(left, "videos", leave=False, disable=None):
        try:
            re_encode(path, out / path.name)
        except BrokenVideo as error:
            broken[path.name] = error
    if broken:
        first = f"{next(iter(broken))} ({next(iter(broken.values()))})"
        others = ", ".join([first, *list(broken)[1:]])
        raise UserError(f"{folder / SOURCE}: expected videos, found {len(broken)} that cannot be decoded: {others}")
    return len(left), len(sources) - len(left)


def re_encode(source: Path, target: Path) -> None:
    """Write a video at `SIDE` and `RATE`, under another name until it is whole.

    Raises:
        BrokenVideo: the source cannot be decoded, or ends before it says.
        UserError: no room.
    """
    temporary = target.with_suffix(".tmp.avi")  # its ending tells FFmpeg the container
    try:
        with faults_named(target):
            write_video(temporary, _resampled(source), (SIDE, SIDE), RATE)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _resampled(source: Path) -> Iterator[av.VideoFrame]:
    """Give a video's frames at `RATE`: some twice or not at all where it has another one."""
    try:
        with av.open(str(source)) as video:
            if not video.streams.video:
                raise BrokenVideo("a file without pictures")
            stream, number = video.streams.video[0], 0
            stream.thread_type = "AUTO"
            pace = RATE / (stream.average_rate or Fraction(RATE))
            # Frames come in order, but their times in these files are in that of the packets, so frames are counted.
            for number, frame in enumerate(video.decode(stream), 1):
                for _ in range(math.floor(number * pace) - math.floor((number - 1) * pace)):
                    yield frame
            if number < max(stream.frames, 1):
                raise BrokenVideo(f"{number} frames of {stream.frames}")
    except (av.FFmpegError, OSError) as error:
        raise BrokenVideo(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())

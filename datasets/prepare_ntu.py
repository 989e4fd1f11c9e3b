"""Re-encode the videos of NTU RGB+D at 256x256 and 30 frames per second, as `ntu.py` reads them.

    python -m datasets.prepare_ntu --dir DIR

Videos are read from `DIR/nturgb+d_rgb/*_rgb.avi` and written to `DIR/nturgb+d_rgb_256x256_30/`. PyAV encodes them, so
the program ffmpeg is not needed. A file appears when it is complete. Files that exist are skipped. A broken video does
not stop the others.
"""

import math
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
    """A video that cannot be decoded. The message says why."""


@command
def main(argv: list[str]) -> None:
    parser = Parser("Re-encode NTU RGB+D's videos at 256x256 and 30 frames per second.")
    parser.add_argument("--dir", required=True, metavar="DIR", help=f"folder of {SOURCE}/*{ENDINGS['rgb']}")
    args = parser.parse_args(argv)
    done, skipped = prepare_ntu(Path(args.dir))
    print(f"ntu: {Path(args.dir) / FOLDERS['rgb']} ({done} videos written, {skipped} were there)")


def prepare_ntu(folder: Path) -> tuple[int, int]:
    """Re-encode the videos that do not exist yet. Return their number and the number of those that were skipped.

    Raises:
        UserError: there are no videos, the disk is full, or some videos are broken. The last is raised at the end.
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
        first, *others = broken
        names = ", ".join([f"{first} ({broken[first]})", *others])
        raise UserError(f"{folder / SOURCE}: expected videos, found {len(broken)} that cannot be decoded: {names}")
    return len(left), len(sources) - len(left)


def re_encode(source: Path, target: Path) -> None:
    """Write a video at `SIDE` and `RATE`, under a temporary name until it is complete.

    Raises:
        BrokenVideo: the source cannot be decoded, or has fewer frames than its header says.
        UserError: the disk is full.
    """
    temporary = target.with_suffix(".tmp.avi")  # FFmpeg takes the container from the suffix
    try:
        with faults_named(target):
            write_video(temporary, _resampled(source), (SIDE, SIDE), RATE)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _resampled(source: Path) -> Iterator[av.VideoFrame]:
    """Yield the frames of a video at `RATE`. Frames are repeated or dropped where its own rate differs."""
    try:
        with av.open(str(source)) as video:
            if not video.streams.video:
                raise BrokenVideo("a file without pictures")
            stream, number = video.streams.video[0], 0
            stream.thread_type = "AUTO"
            pace = RATE / (stream.average_rate or Fraction(RATE))
            # Frames come in the right order, but these files give them the times of the packets. So frames are counted.
            for number, frame in enumerate(video.decode(stream), 1):
                for _ in range(math.floor(number * pace) - math.floor((number - 1) * pace)):
                    yield frame
            if number < max(stream.frames, 1):
                raise BrokenVideo(f"{number} frames of {stream.frames}")
    except (av.FFmpegError, OSError) as error:
        raise BrokenVideo(str(error)) from error


if __name__ == "__main__":
    raise SystemExit(main())

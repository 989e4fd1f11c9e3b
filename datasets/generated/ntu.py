"""Write made-up clips in NTU RGB+D's format: videos, skeletons and the list of missing ones.

    python -m datasets.generated.ntu OUT --per_subject 20 --size 256 --seed 1

The video shows the first factor of a class, a disc's colour and motion (6), the skeleton the second, which limb moves
how (10); 6 x 10 are the 60 actions. OUT is what the ntu commands read: videos are at 30 frames per second already.
"""

from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from datasets.classification.clips import write_video
from datasets.classification.ntu import ACTIONS, ENDINGS, FOLDERS, MISSING, SUBJECTS
from datasets.generated import ANY, by_subject, parse, used_labels
from datasets.generated.bodies import AXES, bodies, skeleton_text
from datasets.generated.moving import moving_disc
from datasets.prepare_ntu import RATE
from utils.args import command
from utils.errors import UserError
from utils.files import faults_named, new_folder

LISTS = SUBJECTS | {"test": {3, 6, 7, 10, 11, 12, 20, 21}}  # eight of the twenty
NUM_SECOND, NUM_MOTIONS = 10, 2
FRAMES = (26, 34)  # of a clip: least, and one more than most
WITHOUT = 20  # every so many clips, one has no skeleton
CAMERAS, TIMES = 3, 2  # of one recording, as in the published names


NUMBERS = {
    "per_subject": (20, (1, 1000), "clips of each of the 28 subjects (20)"),
    "size": (256, (32, 512), "of a frame in pixels (256, as published)"),
    "classes": (ACTIONS, ANY, f"classes that occur ({ACTIONS}, as published)"),
}


@command
def main(argv: list[str]) -> None:
    out, numbers = parse("Write made-up clips in NTU RGB+D's format.", argv, "clip", NUMBERS)
    if numbers["size"] % 2:
        raise UserError(f"--size: expected an even number of pixels, found {numbers['size']}")
    print(f"ntu: {out} ({write_ntu(out, **numbers)} clips)")


def write_ntu(out: Path, per_subject: int, size: int, seed: int, classes: int = ACTIONS) -> int:
    """Write the folder; returns the number of clips.

    Args:
        out: new or empty.
        per_subject: clips of each subject; each list has all classes as often as can be.
        size: of a frame, even, pixels.
        classes: how many of the 60 occur, as `used_labels` has it.
    Raises:
        UserError: OUT holds something or cannot be written; no such number of classes.
    """
    labels = used_labels(classes, ACTIONS, NUM_SECOND)
    new_folder(out)
    clips = {
        _name(subject, number, label): label
        for _, subject, own in by_subject(LISTS, labels, per_subject, seed)
        for number, label in enumerate(own)
    }
    for folder in FOLDERS.values():
        (out / folder).mkdir()
    random = np.random.default_rng((seed, 2))
    missing = sorted(random.choice(list(clips), max(1, len(clips) // WITHOUT), replace=False).tolist())
    for number, (name, label) in enumerate(tqdm(clips.items(), "clips", leave=False, disable=None)):
        with faults_named(out):
            write_clip(out, name, label, size, (seed, 0, number), name not in missing)
    with faults_named(out):
        (out / MISSING[0]).write_text("".join(f"{name}\n" for name in missing), encoding="utf-8")
    return len(clips)


def write_clip(out: Path, name: str, label: int, size: int, seed: tuple[int, ...], has_skeleton: bool) -> None:
    """Write one video and its skeleton; neither depends on the other's factor."""
    first, second = divmod(label, NUM_SECOND)
    num_frames = int(np.random.default_rng((*seed, 0)).integers(*FRAMES))
    disc = moving_disc(np.random.default_rng((*seed, 1)), num_frames, (size, size), *divmod(first, NUM_MOTIONS))
    frames = (av.VideoFrame.from_ndarray(frame) for frame in disc)
    write_video(out / FOLDERS["rgb"] / (name + ENDINGS["rgb"]), frames, (size, size), RATE)
    if has_skeleton:
        persons = bodies(np.random.default_rng((*seed, 2)), num_frames, *divmod(second, len(AXES)))
        path = out / FOLDERS["skeleton"] / (name + ENDINGS["skeleton"])
        path.write_text(skeleton_text(persons), encoding="utf-8")


def _name(subject: int, number: int, label: int) -> str:
    setup, rest = divmod(number, CAMERAS * TIMES)
    time, camera = divmod(rest, CAMERAS)
    return f"S{setup + 1:03d}C{camera + 1:03d}P{subject:03d}R{time + 1:03d}A{label + 1:03d}"


if __name__ == "__main__":
    raise SystemExit(main())

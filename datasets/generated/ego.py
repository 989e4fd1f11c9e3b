"""Write made-up gestures in EgoGesture's format: frames of RGB and depth, and the annotation file.

    python -m datasets.generated.ego OUT --per_subject 20 --size 120 --seed 1

RGB shows the first factor of a class, a disc's colour and motion (9), depth the second, where something comes nearer or
goes (10); the 83 gestures are the first of the 90 pairs. Each recording holds several gestures, with frames between
them that belong to none.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets.classification.ego_gesture import ANNOTATIONS
from datasets.generated import ANY, by_subject, parse, used_labels
from datasets.generated.moving import MOTIONS, depth_map, moving_disc
from utils.args import command
from utils.files import faults_named, new_folder
from utils.run_folder import write_json

SUBJECTS = {"training": (3, 4, 5, 6, 8, 10), "validation": (1, 7, 12), "testing": (2, 9, 11)}
CLASSES, NUM_SECOND = 83, 10
FRAMES, BETWEEN = (24, 42), (2, 6)  # of a gesture, and between two: least, and one more than most
PER_RECORDING, SCENES = 4, 6
QUALITY = 90  # of the JPEG files


NUMBERS = {
    "per_subject": (20, (1, 1000), "gestures of each of the 12 subjects (20)"),
    "size": (120, (24, 480), "height in pixels, the width is 4/3 of it (120)"),
    "classes": (CLASSES, ANY, f"classes that occur ({CLASSES}, as published)"),
}


@command
def main(argv: list[str]) -> None:
    out, numbers = parse("Write made-up gestures in EgoGesture's format.", argv, "gesture", NUMBERS)
    print(f"ego_gesture: {out} ({write_ego(out, **numbers)} gestures)")


def write_ego(out: Path, per_subject: int, size: int, seed: int, classes: int = CLASSES) -> int:
    """Write the folder; returns the number of gestures.

    Args:
        out: new or empty.
        per_subject: gestures of each subject; each list has all classes as often as can be.
        size: height of a frame, pixels.
        classes: how many of the 83 occur, as `used_labels` has it.
    Raises:
        UserError: OUT holds something or cannot be written; no such number of classes.
    """
    labels, database = used_labels(classes, CLASSES, NUM_SECOND), {}
    names = [f"gesture {number:02d}" for number in range(1, CLASSES + 1)]
    new_folder(out)
    dealt = by_subject(SUBJECTS, labels, per_subject, seed)
    for subset, subject, own in tqdm(dealt, "subjects", sum(map(len, SUBJECTS.values())), leave=False, disable=None):
        for number, start in enumerate(range(0, per_subject, PER_RECORDING)):
            group, scene = divmod(number, SCENES)
            path = f"Subject{subject:02d}/Scene{scene + 1}/Color/rgb{group + 1}"
            some = own[start : start + PER_RECORDING]
            for label, first, last in _write_recording(out, path, some, size, (seed, 0, subject, number)):
                frames = {"label": names[label], "start_frame": str(first), "end_frame": str(last)}
                database[f"{path}_{label}_{first}"] = {"subset": subset, "annotations": frames}
    write_json(out / ANNOTATIONS, {"labels": names, "database": database})
    return len(database)


def _write_recording(
    out: Path, path: str, labels: list[int], size: int, seed: tuple[int, ...]
) -> list[tuple[int, int, int]]:
    """Write the frames of some gestures in a row; returns class, first and last frame of each."""
    folders = out / path, out / path.replace("Color/rgb", "Depth/depth")
    spans, following = [], 1
    with faults_named(out):
        for folder in folders:
            folder.mkdir(parents=True)
        for number, label in enumerate(labels):
            idle, *pictures = render_gesture(label, size, (*seed, number))
            for folder, frames in zip(folders, pictures):
                for place, frame in enumerate(frames, following):
                    Image.fromarray(frame).save(folder / f"{place:06d}.jpg", quality=QUALITY)
            last = following + len(pictures[0]) - 1
            spans.append((label, following + idle, last))
            following = last + 1
    return spans


def render_gesture(label: int, size: int, seed: tuple[int, ...]) -> tuple[int, np.ndarray, np.ndarray]:
    """Return a number of idle frames, and RGB (T, H, W, 3) and depth (T, H, W), uint8, that begin with them.

    Neither picture depends on the other's factor; in idle frames the first picture stands still.
    """
    first, second = divmod(label, NUM_SECOND)
    random, shape = np.random.default_rng((*seed, 0)), (size, round(size * 4 / 3))
    idle, num_frames = int(random.integers(*BETWEEN)), int(random.integers(*FRAMES))
    rgb = moving_disc(np.random.default_rng((*seed, 1)), num_frames, shape, *divmod(first, len(MOTIONS)))
    depth = depth_map(np.random.default_rng((*seed, 2)), num_frames, shape, *divmod(second, 2))
    return idle, *(np.concatenate((frames[:1].repeat(idle, axis=0), frames)) for frames in (rgb, depth))


if __name__ == "__main__":
    raise SystemExit(main())

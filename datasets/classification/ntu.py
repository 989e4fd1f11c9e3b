"""NTU RGB+D (Shahroudy et al., 1604.02808): clips of 60 actions, as video and as skeletons; cross-subject lists.

FOLDER has `nturgb+d_rgb_256x256_30/*_rgb.avi`, which `python -m datasets.prepare_ntu` makes, and
`nturgb+d_skeletons/*.skeleton`. A name is SsssCcccPpppRrrrAaaa: subject P, action A. The search's lists are BM-NAS'
(2104.09379, section 4.2). Differs from its public code in that video and skeleton are paired by name, not by their
places in sorted lists, and that both are cut in time alike.
"""

import re
from functools import partial
from pathlib import Path

from torch import Tensor

from datasets.classification.clips import cropped, draw_crop, frame_size, read_frames, segment_frames
from datasets.classification.examples import Example, LabelledData, first_of_each
from datasets.classification.skeletons import read_skeletons
from utils.errors import UserError, short
from utils.untrusted import names_in, read_lines

MODALITIES = ("rgb", "skeleton")
FOLDERS = {"rgb": "nturgb+d_rgb_256x256_30", "skeleton": "nturgb+d_skeletons"}
ENDINGS = {"rgb": "_rgb.avi", "skeleton": ".skeleton"}
MISSING = ("missing_skeletons.txt", *(f"NTU_RGBD{n}_samples_with_missing_skeletons.txt" for n in ("", "120")))
LABELS = "label_map.txt"
ACTIONS = 60
NAME = re.compile(r"S\d{3}C\d{3}P(\d{3})R\d{3}A(\d{3})")
# Subjects; the official training subjects that a search leaves out are "rest", all others "test".
SUBJECTS = {"train": {1, 8, 15, 17, 19, 27, 31, 35}, "dev": {2, 5, 9, 14}, "rest": {4, 13, 16, 18, 25, 28, 34, 38}}
FRAMES = {"rgb": 8, "skeleton": 32}
SHOWN = 3  # names in a remark


def open_ntu(folder: str, small: bool = False) -> LabelledData:
    """Index the folder; of the files only the size of one video is read.

    Args:
        folder: that of the two folders; `missing_skeletons.txt` in it, or the list under its public name, names clips
            that are left out, `label_map.txt` the 60 actions, one a line.
        small: the first examples of each list alone.
    Raises:
        UserError: a folder is missing, there are no pairs, or a list is malformed.
    """
    root = Path(folder)
    files = {modality: _files(root / FOLDERS[modality], ENDINGS[modality]) for modality in MODALITIES}
    names, warnings = _pairs(files, _missing(root))
    if not names:
        raise UserError(f"{root}: expected clips with video and skeleton of one name, found {'; '.join(warnings)}")
    lists = {"train": [], "dev": [], "rest": [], "test": []}
    for name in names:
        subject, action = _numbers(name)
        paths = {modality: files[modality][name] for modality in MODALITIES}
        lists[list_of(subject)].append(Example(name, paths, (action - 1,), group=f"P{subject:03d}"))
    first = files["rgb"][names[0]]
    height, width = frame_size(first)
    if height != width:
        made = "expected a square video, as `python -m datasets.prepare_ntu` makes it"
        raise UserError(f"{first}: {made}, found {width}x{height}")
    examples = first_of_each(lists, small)
    load = partial(load_clip, height)
    return LabelledData("ntu", _classes(root), False, MODALITIES, examples, load, warnings=tuple(warnings))


def list_of(subject: int) -> str:
    """Return the list that a subject's clips are in."""
    return next((name for name, subjects in SUBJECTS.items() if subject in subjects), "test")


def load_clip(side: int, example: Example, modalities: tuple[str, ...], seed: int | None) -> dict[str, Tensor]:
    """Read "rgb", uint8 (3, 8, side, side), and "skeleton", float32 (3, 32, 25, 2) in metres.

    With a seed a crop in time is drawn, the same for both, and the frames of the video within its segments.
    """
    crop, read = draw_crop(seed), {}
    if "rgb" in modalities:
        path = example.paths["rgb"]
        read["rgb"] = read_frames(path, lambda num: segment_frames(cropped(num, crop), FRAMES["rgb"], seed))
        height, width = read["rgb"].shape[2:]
        if (height, width) != (side, side):
            raise UserError(f"{path}: expected {side}x{side} px, as the first video, found {width}x{height}")
    if "skeleton" in modalities:
        read["skeleton"] = read_skeletons(example.paths["skeleton"], FRAMES["skeleton"], crop)
    return read


def _files(folder: Path, ending: str) -> dict[str, str]:
    """Return the paths by clip."""
    there = names_in(folder, f"a folder of *{ending}")
    names = {file.removesuffix(ending): str(folder / file) for file in there if file.endswith(ending)}
    return {name: path for name, path in names.items() if NAME.fullmatch(name)}


def _missing(root: Path) -> set[str]:
    """Return the clips that the lists name; what stands before the first of them are words."""
    names = set()
    for path in (root / file for file in MISSING if (root / file).exists()):
        lines = [line.strip() for line in read_lines(path, "a text file")]
        first = next((n for n, line in enumerate(lines) if NAME.fullmatch(line)), len(lines))
        for number, line in enumerate(lines[first:], first + 1):
            if line and not NAME.fullmatch(line):
                raise UserError(f"{path}: line {number}: expected a clip, as S001C002P005R002A008, found {short(line)}")
            names.add(line)
    return names


def _pairs(files: dict[str, dict[str, str]], missing: set[str]) -> tuple[list[str], list[str]]:
    """Return the clips to be read, in order, and remarks on the others."""
    videos, skeletons = set(files["rgb"]), set(files["skeleton"])
    actions = {name for name in videos | skeletons if 1 <= _numbers(name)[1] <= ACTIONS}
    left_out = {
        f"actions after A{ACTIONS:03d}": (videos | skeletons) - actions,
        "listed as missing skeletons": actions & missing,
        "video without skeleton": (actions & videos) - skeletons - missing,
        "skeleton without video": (actions & skeletons) - videos - missing,
    }
    warnings = [f"left out, {why}: {_some(names)}" for why, names in left_out.items() if names]
    return sorted((actions & videos & skeletons) - missing), warnings or ["no files of clips"] * (not actions)


def _some(names: set[str]) -> str:
    return f"{len(names)} ({', '.join(sorted(names)[:SHOWN])}{', ...' * (len(names) > SHOWN)})"


def _numbers(name: str) -> tuple[int, int]:
    """Return subject and action."""
    return tuple(map(int, NAME.fullmatch(name).groups()))


def _classes(root: Path) -> list[str]:
    path = root / LABELS
    if not path.exists():
        return [f"A{action:03d}" for action in range(1, ACTIONS + 1)]
    names = [line.strip() for line in read_lines(path, "a text file") if line.strip()]
    if not len(set(names)) == len(names) == ACTIONS:
        found = f"{len(set(names))} of {len(names)}"
        raise UserError(f"{path}: expected {ACTIONS} different names of actions, found {found}")
    return names

"""EgoGesture (Zhang et al. 2018): 83 hand gestures in first-person RGB and depth frames.

FOLDER has `SubjectXX/SceneY/Color/rgbN/%06d.jpg`, `SubjectXX/SceneY/Depth/depthN/%06d.jpg` and an annotation file,
`egogestureall.json` or the only one: `labels`, and in `database` for each gesture `subset` (training, validation or
testing), `label`, `start_frame` and `end_frame`, the last of its frames, all in the entry or in its `annotations`. The
frames' folder is the entry's `path`, or what its name begins with.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from datasets.classification.clips import IN_PICTURE, generator, segment_frames
from datasets.classification.examples import Example, LabelledData, first_of_each
from datasets.images import read_rgb, read_thermal, resize_grey
from utils.errors import UserError, near, short
from utils.run_folder import read_json
from utils.untrusted import checked, is_names, is_object

READERS = {"rgb": read_rgb, "depth": read_thermal}
MODALITIES = tuple(READERS)
ANNOTATIONS = "egogestureall.json"
SUBSETS = {"training": "train", "validation": "dev", "testing": "test"}
PLACE = re.compile(r"((Subject\d+)/Scene\d+)/(?:Color/rgb|Depth/depth)(\d+)(?!\d)")
FRAMES, SIDE = 32, 112
MAX_FRAME = 999_999  # that a name of six digits can have
MIDDLE = (0.5, 0.5)


def open_ego(folder: str, small: bool = False) -> LabelledData:
    """Index the folder: the annotation file is read, folders of frames are looked up.

    Args:
        folder: that of the subjects' folders.
        small: the first examples of each list alone.
    Raises:
        UserError: no annotation file or a malformed one, names the entry and field; or a folder of frames is missing.
    """
    root = Path(folder)
    path = _annotation_file(root)
    data = read_json(path)
    classes = _classes(f"{path}: field labels", data.get("labels"))
    lists = {name: [] for name in SUBSETS.values()}
    database, place = data.get("database"), f"{path}: field database"
    checked(database, lambda value: is_object(value) and bool(value), "gestures by name", place)
    for name, entry in database.items():
        subset, example = _example(root, f"{path}: {short(name)}", name, entry, classes)
        lists[subset].append(example)
    examples = first_of_each(lists, small)
    _check_folders(examples)
    return LabelledData("ego_gesture", classes, False, MODALITIES, examples, load)


def load(example: Example, modalities: tuple[str, ...], seed: int | None) -> dict[str, Tensor]:
    """Read "rgb", uint8 (3, 32, 112, 112), and "depth", uint8 (1, 32, 112, 112).

    The short side becomes 112 px, then the middle is cut out; with a seed, a drawn place and drawn frames within their
    segments, the same for both.
    """
    place = MIDDLE if seed is None else tuple(generator(seed, IN_PICTURE).random(2))
    numbers = segment_frames(range(*example.span), FRAMES, seed)
    read = {}
    for modality in modalities:
        folder = Path(example.paths[modality])
        frames = {n: _square(READERS[modality](str(folder / f"{n:06d}.jpg")), place) for n in set(numbers)}
        read[modality] = torch.stack([frames[n] for n in numbers], dim=1)
    return read


def _square(image: Tensor, place: tuple[float, float]) -> Tensor:
    """Resize uint8 (C, h, w) with antialiasing, and cut out (C, SIDE, SIDE), `place` from the top and the left."""
    height, width = image.shape[-2:]
    size = [max(SIDE, round(side * SIDE / min(height, width))) for side in (height, width)]
    image = resize_grey(image, size) if len(image) == 1 else F.resize_image(image, size, antialias=True)
    top, left = (min(int(share * (side - SIDE + 1)), side - SIDE) for share, side in zip(place, size))
    return image[:, top : top + SIDE, left : left + SIDE]


def _annotation_file(root: Path) -> Path:
    published = root / ANNOTATIONS
    found = [published] if published.is_file() else sorted(root.glob("*.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:6]) or "none"
        raise UserError(f"{root}: expected EgoGesture's {ANNOTATIONS}, or one other *.json, found {names}")
    return found[0]


def _classes(place: str, labels: Any) -> list[str]:
    checked(labels, lambda value: is_names(value, (str, int)), "names of gestures", place)
    classes = [str(label) for label in labels]
    return checked(classes, lambda names: len(set(names)) == len(names), "each name once", place)


def _example(root: Path, place: str, name: str, entry: Any, classes: list[str]) -> tuple[str, Example]:
    """Return the list that an entry belongs to, and its example."""
    inner = entry.get("annotations", {}) if isinstance(entry, dict) else None
    if not isinstance(inner, dict):
        raise UserError(f"{place}: expected subset and annotations, found {short(entry)}")
    fields = entry | inner
    subset, label, path = fields.get("subset"), str(fields.get("label")), fields.get("path", name)
    checked(subset, lambda subset: subset in list(SUBSETS), ", ".join(SUBSETS), f"{place}: field subset")
    if label not in classes:
        raise UserError(f"{place}: field label: expected one of labels, found {short(label)}{near(label, classes)}")
    found = PLACE.match(path) if isinstance(path, str) else None
    if not found:
        raise UserError(f"{place}: field path: expected SubjectXX/SceneY/Color/rgbN, found {short(path)}")
    scene, subject, number = found.groups()
    folders = {"rgb": root / scene / f"Color/rgb{number}", "depth": root / scene / f"Depth/depth{number}"}
    files, span = {modality: str(folder) for modality, folder in folders.items()}, _span(place, fields)
    return SUBSETS[subset], Example(name, files, (classes.index(label),), subject, span)


def _span(place: str, fields: dict) -> tuple[int, int]:
    expected, keys = f"a frame's number, 0 to {MAX_FRAME}", ("start_frame", "end_frame")
    first, last = (int(checked(fields.get(key), _is_frame, expected, f"{place}: field {key}")) for key in keys)
    checked(last, lambda last: last >= first, f"at least start_frame, {first}", f"{place}: field end_frame")
    return first, last + 1


def _is_frame(value: Any) -> bool:
    text = str(value)  # the public file has numbers as texts
    return text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= MAX_FRAME


def _check_folders(examples: dict[str, list[Example]]) -> None:
    folders = {path: None for listed in examples.values() for example in listed for path in example.paths.values()}
    if missing := [path for path in folders if not Path(path).is_dir()]:
        number = f"as of {len(missing)} of {len(folders)}"
        raise UserError(f"{missing[0]}: expected a folder of frames, found none ({number})")

"""M3FD: RGB-infrared pairs of streets and campus (Liu et al. 2022), with six classes.

Images lie in `Ir/` and `Vis/`, one name for both. COCO files lie in `meta/`: any `*train*.json`, `*val*.json` and
`*test*.json`; where there is no test list, val is tested on.
"""

from pathlib import Path

from datasets.detection.sources import ImageList, Source, find_lists
from utils.errors import UserError

CLASSES = ("people", "car", "bus", "motorcycle", "lamp", "truck")
ALIASES = {name.capitalize(): name for name in CLASSES}  # as in the XML files that the COCO files are made from
FOLDERS = {"thermal": "Ir", "rgb": "Vis"}


def locate_m3fd(folder: Path) -> Source:
    """Find the lists.

    Args:
        folder: the one that holds Ir/, Vis/ and meta/.
    Raises:
        UserError: the folder is not laid out so.
    """
    if missing := [name for name in (*FOLDERS.values(), "meta") if not (folder / name).is_dir()]:
        raise UserError(f"{folder}: expected M3FD's folders Ir, Vis and meta, found no {', '.join(missing)}")
    files = find_lists([folder / "meta"])
    if not {"train", "test"} <= set(files):
        found = ", ".join(sorted(path.name for path in (folder / "meta").iterdir())) or "nothing"
        raise UserError(f"{folder / 'meta'}: expected *train*.json, and *test*.json or *val*.json, found {found}")
    folders = {modality: folder / name for modality, name in FOLDERS.items()}
    lists = {origin: ImageList(path, folders) for origin, path in files.items()}
    return Source("m3fd", folder, CLASSES, ALIASES, lists, "COCO JSON")

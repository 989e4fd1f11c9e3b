"""Image files that no list names: halves of pairs, which are faults, and whole pairs.

All lists are looked at together, since they may share folders, and modalities may too (FLIR's align/ form): there a
file whose name the rule for the other modality changes is of the modality that the lists name. A list that cannot be
read says nothing of the files in its folders, so those are left alone.
"""

from pathlib import Path, PurePosixPath

from datasets.detection.annotations import is_file_name
from datasets.detection.coco_json import read_coco
from datasets.detection.pairing import MODALITIES, SPELLED, is_folder, without_suffix
from datasets.detection.sources import PairList, Source
from datasets.images import SUFFIXES
from tools.data_checks.pairs import Problem
from utils.errors import UserError

Folders = dict[str, Path]  # by modality


def named_images(one: PairList) -> set[str] | None:
    """Return the names of a list's images, whatever else is wrong in it; None where they cannot be read."""
    if one.xml_files:
        return set(one.xml_files)
    try:
        images = read_coco(one.annotations).get("images")
    except UserError:
        return None
    entries = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    return {image["file_name"] for image in entries if is_file_name(image.get("file_name"))} or None


def unlisted_files(source: Source) -> tuple[list[Problem], list[Path]]:
    """Look for image files that no list names.

    Returns:
        A problem for each whose partner is not there, and one file of each whole pair. Where neither modality bears the
        annotated names, partners cannot be told, and there are none of both.
    """
    listed = {origin: named_images(one) for origin, one in source.lists.items()}
    key = _bearer(source, {name for names in listed.values() for name in names or ()})
    if key is None:
        return [], []
    claimed, closed = set(), set()
    for origin, one in source.lists.items():
        for modality, folder in one.folders.items():
            if listed[origin] is None or not is_folder(folder):
                closed |= set(one.folders.values())
            renamed = {source.names[modality](_stem(name)) for name in listed[origin] or ()}
            claimed |= {_path(folder, name) for name in renamed if is_file_name(name)}
    halves, whole = {}, {}
    for folders in {tuple(one.folders.values()): one.folders for one in source.lists.values()}.values():
        if not closed & set(folders.values()):
            _sort(source, folders, key, claimed, halves, whole)
    return [halves[path] for path in sorted(halves)], sorted(whole.values())


def _bearer(source: Source, names: set[str]) -> str | None:
    """Give the modality whose files have the annotated names."""
    same = (m for m in MODALITIES if all(source.names[m](_stem(name)) == _stem(name) for name in names))
    return next(same, None)


def _sort(source: Source, folders: Folders, key: str, claimed: set[Path], halves: dict, whole: dict) -> None:
    """Add the files that are not `claimed` of one pair of folders to `halves` {path: problem} or `whole` {path: file}.

    Args:
        key: the modality that bears the annotated names, and so gives the partner's.
    """
    other = next(m for m in MODALITIES if m != key)
    mine, theirs = (_images(folders[m], claimed) for m in (key, other))
    partner = {path: _path(folders[other], source.names[other](_name(path, folders[key]))) for path in mine}
    if folders[key] == folders[other]:
        partner = {path: wanted for path, wanted in partner.items() if wanted != path}
        theirs = {path: file for path, file in theirs.items() if path not in partner}
    whole |= {path: mine[path] for path, wanted in partner.items() if wanted in theirs or wanted in claimed}
    for path in partner.keys() - whole.keys():
        halves[path] = _half(mine[path], key, partner[path].name, folders[other])
    for path in theirs.keys() - set(partner.values()):
        halves[path] = _half(theirs[path], other, None, folders[key])


def _half(file: Path, modality: str, partner: str | None, folder: Path) -> Problem:
    other = SPELLED[next(m for m in MODALITIES if m != modality)]
    expected = f"its {other} partner{f' {partner}' if partner else ''} in {folder}"
    return Problem("files without partner", f"{file}: expected {expected}, as no list names it, found none")


def _images(folder: Path, claimed: set[Path]) -> dict[Path, Path]:
    """Give {path without suffix: path} of the images not `claimed` in a folder, and in those below that lists name."""
    below = {path.parent for path in claimed if folder in path.parents} | {folder}
    files = sorted(file for place in below for file in place.iterdir() if file.suffix.lower() in SUFFIXES)
    files = [file for file in files if not file.name.startswith(".")]  # what macOS leaves beside files
    return {path: file for file in files if (path := file.with_suffix("")) not in claimed}


def _path(folder: Path, name: str) -> Path:
    """Give where `pairing.pair_images` looks for a name: some sets name folders of the place where they were made."""
    wanted = PurePosixPath(name)
    below = folder / wanted.parent
    return (below if is_folder(below) else folder) / wanted.name


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _stem(name: str) -> str:
    return str(without_suffix(name))

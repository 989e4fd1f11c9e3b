"""Image files that no list names: halves of pairs, which are faults, and whole pairs or single images.

All lists are looked at together, since they may share folders, and modalities may too (FLIR's align/ form): there a
file whose name the rule for the other modality changes belongs to the modality that the lists name. Folders of a list
that cannot be read are not looked at.
"""

import os
from pathlib import Path, PurePosixPath

from datasets.detection.annotations import is_file_name
from datasets.detection.coco_json import read_coco
from datasets.detection.sources import ImageList, Source, images_in, spelled, without_suffix
from tools.data_checks.records import Problem
from utils.errors import UserError


def named_images(one: ImageList) -> set[str] | None:
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
        A problem for each whose partner is not there, and one file of each whole pair, or each single image. Where no
        modality has the annotated names, partners are not known, and both are empty.
    """
    listed = {origin: named_images(one) for origin, one in source.lists.items()}
    names = {_stem(name) for names in listed.values() for name in names or ()}
    key = next((m for m in source.modalities if all(source.image_name(m, name) == name for name in names)), None)
    if key is None:
        return [], []
    claimed, closed = set(), set()
    for origin, one in source.lists.items():
        for modality, folder in one.folders.items():
            if listed[origin] is None or not os.path.isdir(folder):
                closed |= set(one.folders.values())
            renamed = {source.image_name(modality, _stem(name)) for name in listed[origin] or ()}
            claimed |= {_path(folder, name) for name in renamed if is_file_name(name)}
    halves, whole = {}, {}
    for folders in {tuple(one.folders.values()): one.folders for one in source.lists.values()}.values():
        if not closed & set(folders.values()):
            _sort(source, folders, key, claimed, halves, whole)
    return [halves[path] for path in sorted(halves)], sorted(whole.values())


def _sort(source: Source, folders: dict[str, Path], key: str, claimed: set[Path], halves: dict, whole: dict) -> None:
    """Add the files that are not `claimed` of one pair of folders to `halves` {path: problem} or `whole` {path: file}.

    Args:
        key: the modality that has the annotated names, which give the partner's.
    """
    if len(source.channels) == 1:
        whole |= _images(folders[key], claimed)
        return
    other = next(m for m in source.channels if m != key)
    mine, theirs = (_images(folders[m], claimed) for m in (key, other))
    names = {path: source.image_name(other, path.relative_to(folders[key]).as_posix()) for path in mine}
    partner = {path: _path(folders[other], name) for path, name in names.items()}
    if folders[key] == folders[other]:
        partner = {path: wanted for path, wanted in partner.items() if wanted != path}
        theirs = {path: file for path, file in theirs.items() if path not in partner}
    whole |= {path: mine[path] for path, wanted in partner.items() if wanted in theirs or wanted in claimed}
    for path in partner.keys() - whole.keys():
        halves[path] = _half(mine[path], other, partner[path].name, folders[other])
    for path in theirs.keys() - set(partner.values()):
        halves[path] = _half(theirs[path], key, None, folders[key])


def _half(file: Path, other: str, partner: str | None, folder: Path) -> Problem:
    """Say that the file of the other modality, called `partner` if that is known, is not in a folder."""
    expected = f"its {spelled(other)} partner{f' {partner}' if partner else ''} in {folder}"
    return Problem("files without partner", f"{file}: expected {expected}, as no list names it, found none")


def _images(folder: Path, claimed: set[Path]) -> dict[Path, Path]:
    """Give {path without suffix: path} of the images not `claimed` in a folder, and in those below that lists name."""
    below = {path.parent for path in claimed if folder in path.parents} | {folder}
    files = sorted(Path(file) for place in below for files in images_in(place).values() for file in files)
    return {path: file for file in files if (path := file.with_suffix("")) not in claimed}


def _path(folder: Path, name: str) -> Path:
    """Return where `sources.find_images` looks for a name: some sets name folders of the place where they were made."""
    wanted = PurePosixPath(name)
    below = folder / wanted.parent
    return (below if os.path.isdir(below) else folder) / wanted.name


def _stem(name: str) -> str:
    return str(without_suffix(name))

"""Reader of Pascal VOC annotations (Everingham et al. 2010): one XML file per image, and a list of names.

A box is xmin, ymin, xmax, ymax; its width is xmax - xmin, as in the COCO copies of such sets, without VOC's own + 1:
only so are FLIR-Aligned's boxes the same in all its layouts. VOC's own files count pixels from 1, others from 0.
"difficult" objects are boxes as any, or are ignored as crowds: not learned from, and no fault where they are detected.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from datasets.detection.annotations import FILE_NAME, Box, ParsedAnnotations, collect, is_file_name, is_side
from utils.errors import Report, UserError, refuse, reported, short
from utils.untrusted import checked, is_number, plain_file, read_lines

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def parse_voc(
    files: dict[str, Path],
    classes: list[str],
    aliases: dict[str, str],
    report: Report = refuse,
    first_pixel: int = 0,
    ignore_difficult: bool = False,
) -> ParsedAnnotations:
    """Read and check the XML files of one list.

    Args:
        files: at least one, by the image's name without suffix, which may have folders.
        classes: names of the class channels, in order.
        aliases: other names of classes, as {"bicycle": "bike"}.
        report: gets a UserError for each file or object that is wrong; that image or box is left out.
        first_pixel: the number of the leftmost and uppermost pixel; it is subtracted from corners.
        ignore_difficult: "difficult" objects are crowds.
    Returns:
        The images in the order of `files`, with the boxes of `classes`. Image ids are the keys of `files`; class
        channel k has category id k + 1.
    """
    images, boxes = {}, []
    for name, path in files.items():
        with reported(report):
            root = read_root(path)
            images[name] = _read_image(path, root, PurePosixPath(name))
            boxes += _boxes(path, root, name, aliases, report, first_pixel, ignore_difficult)
    return collect(images, boxes, {name: number for number, name in enumerate(classes, 1)}, {}, report)


def read_names(path: Path, name_of: Callable[[str], str] = str) -> list[str]:
    """Read a list of image names, one a line.

    Args:
        path: the list.
        name_of: gives the name that a line stands for.
    Raises:
        UserError: the file cannot be read, is empty, or has a name twice or one that leads elsewhere.
    """
    lines = read_lines(path, "a list of image names")
    names = {}
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise UserError(f"{path}: line {number}: expected a name, found a NUL character: no text file")
        if not line.strip():
            continue
        checked(line, lambda line: is_file_name(line.strip()), FILE_NAME, f"{path}: line {number}")
        name = name_of(line.strip())
        if name in names:
            raise UserError(f"{path}: line {number}: expected each name once, found {name} of line {names[name]} again")
        names[name] = number
    if not names:
        raise UserError(f"{path}: expected a list of image names, found an empty file")
    return list(names)


class _Builder(ElementTree.TreeBuilder):
    """Refuses definitions of entities, with which a few lines can stand for any length of text."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("a DOCTYPE, which is not read")


def read_root(path: Path) -> Element:
    """Parse an annotation file; UserError where it cannot be read."""
    try:
        root = ElementTree.parse(plain_file(path), ElementTree.XMLParser(target=_Builder())).getroot()
    except OSError as error:
        raise UserError(f"{path}: expected a Pascal VOC file, found none to read ({error.strerror})") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: an encoding that expat lacks
        found = "an empty file" if path.stat().st_size == 0 else f"text that stops making sense ({error})"
        raise UserError(f"{path}: expected whole Pascal VOC XML, found {found}") from error
    if root.tag != "annotation":
        raise UserError(f"{path}: expected an <annotation>, found <{root.tag[:60]}>")
    return root


def _read_image(path: Path, root: Element, name: PurePosixPath) -> dict:
    sides = {side: _number(f"{path}: size", root.find("size"), side) for side in ("width", "height")}
    for side, value in sides.items():
        if value != int(value) or not is_side(int(value)):
            raise UserError(f"{path}: size.{side}: expected a positive integer (pixels), found {value:g}")
    # Many sets have wrong file names here (copied, renamed), so only its suffix is used, where the rest of it fits.
    written = PurePosixPath((root.findtext("filename") or "").strip())
    file_name = name.with_name(written.name) if written.stem == name.name else name
    return {"id": str(name), "file_name": str(file_name), **{side: int(value) for side, value in sides.items()}}


def _boxes(
    path: Path,
    root: Element,
    image_id: str,
    aliases: dict[str, str],
    report: Report,
    first_pixel: int,
    ignore_difficult: bool,
) -> Iterator[Box]:
    for number, item in enumerate(root.iter("object")):
        with reported(report):
            place = f"{path}: object[{number}]"
            name = (item.findtext("name") or "").strip()
            if not name:
                raise UserError(f"{place}.name: expected a name, found none")
            bounds = item.find("bndbox")
            x1, y1, x2, y2 = (_number(f"{place}.bndbox", bounds, key) - first_pixel for key in CORNERS)
            bbox = [x1, y1, x2 - x1, y2 - y1]
            crowd = ignore_difficult and _is_difficult(place, item)
            yield Box(place, "bndbox", image_id, aliases.get(name, name), bbox, crowd, area=None)


def _is_difficult(place: str, item: Element) -> bool:
    text = (item.findtext("difficult") or "0").strip()
    return checked(text, lambda text: text in ("0", "1"), "0 or 1", f"{place}.difficult") == "1"


def _number(place: str, parent: Element | None, key: str) -> float:
    text = None if parent is None else parent.findtext(key)
    with contextlib.suppress(TypeError, ValueError):
        if is_number(value := float(text)):
            return value
    found = "no such field" if text is None else short(text.strip())
    raise UserError(f"{place}.{key}: expected a finite number, found {found}")

"""The page model: a page has sections, a section has blocks. page.html is the template.

A page is a single file without scripts or external links, so it can be mailed, printed and read offline.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup

from utils.errors import printable
from utils.files import replace_file


class Words(NamedTuple):
    """A paragraph."""

    text: str


class Facts(NamedTuple):
    """Names with values. With `folded`, they are hidden under this title until the reader opens it."""

    pairs: dict[str, str]
    folded: str = ""


class Table(NamedTuple):
    """A head and rows of texts; the first column names the row. `worded`: the other columns hold text, not numbers."""

    head: list[str]
    rows: list[list[str]]
    caption: str = ""
    worded: bool = False


class Picture(NamedTuple):
    """A chart as the source of an SVG, text alternative included."""

    svg: Markup
    width: float  # maximum, in inches
    caption: str = ""


class Pictures(NamedTuple):
    """Charts side by side where the screen is wide enough."""

    pictures: list[Picture]


class Photo(NamedTuple):
    """An image as a data URL, its text alternative and the title below it."""

    address: Markup
    alt: str
    title: str


class Gallery(NamedTuple):
    """Rows of images, each row below a line of text."""

    rows: list[tuple[str, list[Photo]]]
    legend: Sequence[tuple[str, str, str]] = ()  # CSS class of page.html, colour or "", text


Block = Words | Facts | Table | Picture | Pictures | Gallery  # each has a case in page.html


class Section(NamedTuple):
    title: str
    blocks: list[Block]


class Page(NamedTuple):
    """Headline numbers and sections. Sections without blocks are not shown."""

    title: str
    subtitle: str
    headline: dict[str, str]
    sections: list[Section]


def write_page(page: Page, path: Path) -> Path:
    """Write a page as one file; UserError if the disk is full."""
    text = _template().render(page=page, sections=[section for section in page.sections if section.blocks])
    replace_file(path, lambda file: file.write(text.encode()))
    return path


@cache
def _template() -> Template:
    options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True, "finalize": _shown}
    return Environment(loader=FileSystemLoader(Path(__file__).parent), **options).get_template("page.html")


def _shown(value: object) -> object:
    """Escape characters that cannot be printed; markup stays as it is."""
    return printable(value) if type(value) is str else value

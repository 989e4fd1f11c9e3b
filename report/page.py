"""The page model: a page has sections, a section has blocks. page.html is the template.

A page is a single file without scripts or external links, so it can be mailed, printed and read offline.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup

from utils.errors import printable
from utils.files import replace_file

WIDE = 4  # tables with more columns become cards on a narrow screen


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    kind: ClassVar[str] = "words"
    text: str


@dataclass(frozen=True)
class Facts:
    """Names with values. With `folded`, they are hidden under this title until the reader opens it."""

    kind: ClassVar[str] = "facts"
    pairs: dict[str, str]
    folded: str = ""


@dataclass(frozen=True)
class Table:
    """A head and rows of texts; the first column names the row. `worded`: the other columns hold text, not numbers."""

    kind: ClassVar[str] = "table"
    head: list[str]
    rows: list[list[str]]
    caption: str = ""
    worded: bool = False

    @property
    def is_wide(self) -> bool:
        return len(self.head) > WIDE


@dataclass(frozen=True)
class Picture:
    """A chart as the source of an SVG, text alternative included."""

    kind: ClassVar[str] = "picture"
    svg: Markup
    width: float  # maximum, in inches
    caption: str = ""


@dataclass(frozen=True)
class Pictures:
    """Charts side by side where the screen is wide enough."""

    kind: ClassVar[str] = "pictures"
    pictures: list[Picture]


@dataclass(frozen=True)
class Photo:
    """An image as a data URL, its text alternative and the title below it."""

    address: Markup
    alt: str
    title: str


@dataclass(frozen=True)
class Gallery:
    """Rows of images, each row below a line of text."""

    kind: ClassVar[str] = "gallery"
    rows: list[tuple[str, list[Photo]]]
    legend: list[tuple[str, str, str]] = field(default_factory=list)  # CSS class of page.html, colour or "", text


Block = Words | Facts | Table | Picture | Pictures | Gallery


@dataclass(frozen=True)
class Section:
    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Page:
    """Headline numbers and sections. Sections without blocks are not shown."""

    title: str
    subtitle: str
    headline: dict[str, str]
    sections: list[Section]


def write_page(page: Page, path: Path) -> Path:
    """Write a page as one file; UserError if the disk is full."""
    shown = [section for section in page.sections if section.blocks]
    text = _template().render(page=page, sections=shown)
    replace_file(path, lambda file: file.write(text.encode()))
    return path


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    return environment.get_template("page.html")


def _shown(value: object) -> object:
    """Escape characters that cannot be printed; markup stays as it is."""
    return printable(value) if type(value) is str else value

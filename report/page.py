"""A page of sections, and what a section is made of; page.html is its form.

One file without scripts and without addresses of anything else: it can be mailed, printed and read in a train.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup

from utils.errors import printable
from utils.files import replace_file

WIDE = 4  # columns from which a table becomes cards on a narrow screen


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    kind: ClassVar[str] = "words"
    text: str


@dataclass(frozen=True)
class Facts:
    """Names with values; `folded`: shown when asked for, under this title."""

    kind: ClassVar[str] = "facts"
    pairs: dict[str, str]
    folded: str = ""


@dataclass(frozen=True)
class Table:
    """A head and rows of texts; the first column names the row. `worded`: the others hold words, not numbers."""

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
    """A drawing, as the source of an SVG that carries its text alternative."""

    kind: ClassVar[str] = "picture"
    svg: Markup
    width: float  # inches at most
    caption: str = ""


@dataclass(frozen=True)
class Pictures:
    """Drawings side by side, where there is room."""

    kind: ClassVar[str] = "pictures"
    pictures: list[Picture]


@dataclass(frozen=True)
class Photo:
    """A photograph as a data address, its text alternative and what stands below it."""

    address: Markup
    alt: str
    title: str


@dataclass(frozen=True)
class Gallery:
    """Rows of photographs that belong together, each under a line of words."""

    kind: ClassVar[str] = "gallery"
    rows: list[tuple[str, list[Photo]]]
    legend: list[tuple[str, str, str]] = field(default_factory=list)  # class of page.html, colour or nothing, words


Block = Words | Facts | Table | Picture | Pictures | Gallery


@dataclass(frozen=True)
class Section:
    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Page:
    """What a page shows: headline numbers first, then sections; those without blocks are left out."""

    title: str
    subtitle: str
    headline: dict[str, str]
    sections: list[Section]


def write_page(page: Page, path: Path) -> Path:
    """Write a page as one file; UserError where there is no room."""
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
    """Escape what no screen can show; drawings and photographs are as they are."""
    return printable(value) if type(value) is str else value

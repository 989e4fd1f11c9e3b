"""The page model: a page has sections, a section has blocks. page.html is the template.

A page is a single file without scripts or external links, so it can be mailed, printed and read offline.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup

from utils.errors import printable
from utils.files import replace_file


class Block:
    """Something that a section shows. `kind` is its case in page.html."""

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Words(Block):
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Facts(Block):
    """Names with values. With `folded`, they are hidden under this title until the reader opens it."""

    pairs: dict[str, str]
    folded: str = ""


@dataclass(frozen=True)
class Table(Block):
    """A head and rows of texts; the first column names the row. `worded`: the other columns hold text, not numbers."""

    head: list[str]
    rows: list[list[str]]
    caption: str = ""
    worded: bool = False


@dataclass(frozen=True)
class Picture(Block):
    """A chart as the source of an SVG, text alternative included."""

    svg: Markup
    width: float  # maximum, in inches
    caption: str = ""


@dataclass(frozen=True)
class Pictures(Block):
    """Charts side by side where the screen is wide enough."""

    pictures: list[Picture]


@dataclass(frozen=True)
class Photo:
    """An image as a data URL, its text alternative and the title below it."""

    address: Markup
    alt: str
    title: str


@dataclass(frozen=True)
class Gallery(Block):
    """Rows of images, each row below a line of text."""

    rows: list[tuple[str, list[Photo]]]
    legend: list[tuple[str, str, str]] = field(default_factory=list)  # CSS class of page.html, colour or "", text


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

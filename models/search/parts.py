"""What tools need of each part of an architecture without its model: a reader of any genotype, and a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.search.architecture import Architecture, Reader, read_architecture
from models.search.fusion_cells.genotype_file import AnyFusionReader
from models.search.tower_cells.genotype import to_text
from models.search.tower_cells.genotype_file import TowerReader


@dataclass(frozen=True)
class Part:
    """A part of an architecture.

    Args:
        reader: reads its genotypes, whatever model they are of.
        draw: writes a genotype's picture to a path and returns it.
        figures: draws each cell of a genotype alone, in the order of its levels.
        to_text: returns a genotype in the text form of public code, if there is one.
    """

    reader: Reader
    draw: Callable[[Any, Path], Path]
    figures: Callable[[Any], list[Any]]
    to_text: Callable[[Any], str] | None = None


def _draw_fusion(genotype: Any, path: Path) -> Path:
    from models.search.fusion_cells.draw import draw_genotype  # imports matplotlib, which takes its time

    return draw_genotype(genotype, path)


def _fusion_figures(genotype: Any) -> list[Any]:
    from models.search.fusion_cells.draw import draw_levels, panels_of

    return draw_levels(genotype, panels_of(genotype))


def _draw_towers(genotype: Any, path: Path) -> Path:
    from models.search.tower_cells.draw import draw_towers

    return draw_towers(genotype, path)


def _tower_figures(genotype: Any) -> list[Any]:
    from models.search.fusion_cells.draw import draw_levels
    from models.search.tower_cells.draw import panels_of

    return draw_levels(genotype, panels_of(genotype))


PARTS: dict[str, Part] = {
    "fusion": Part(AnyFusionReader(), _draw_fusion, _fusion_figures),
    "head": Part(TowerReader(), _draw_towers, _tower_figures, to_text),
}


def read_any(path: str | Path) -> Architecture:
    """Read a genotype file of any model; raises UserError, see `read_architecture`."""
    return read_architecture(path, {name: part.reader for name, part in PARTS.items()}, complete=False)


def public_text(architecture: Architecture) -> str:
    """Return the text form of an architecture of one part; "" where there is none."""
    name, *more = architecture.parts
    write = None if more else PARTS[name].to_text
    return write(architecture.parts[name]) if write else ""


def draw_architecture(architecture: Architecture, path: str | Path) -> list[Path]:
    """Write a picture of each part and return their paths: `path` of the first, NAME_PART.png of the others."""
    first, pictures = next(iter(architecture.parts)), []
    for name, genotype in architecture.parts.items():
        picture = Path(path) if name == first else Path(path).with_stem(f"{Path(path).stem}_{name}")
        pictures.append(PARTS[name].draw(genotype, picture))
    return pictures

"""The two published pairs of cells, read from their files."""

from models.search.architecture import read_architecture
from models.search.tower_cells.genotype_file import TowerReader
from utils.subprocesses import ROOT

FOLDER = ROOT / "checkpoints" / "genotypes"
READERS = {"head": TowerReader()}
PAPER, OTHER = (read_architecture(FOLDER / f"fad_{n}.json", READERS).parts["head"].cells for n in ("paper", "other"))

"""Draw a genotype: python -m tools.plot_genotype FILE|RUN [--out FILE.png]."""

import sys
from pathlib import Path

from models.search.draw import draw_genotype
from models.search.genotype_io import check_names, genotype_from_json
from models.search.genotypes import Genotype
from models.search.spaces import is_neighbour
from utils.args import Parser, command
from utils.errors import UserError
from utils.run_folder import read_json


@command
def main(argv: list[str]) -> None:
    parser = Parser("Draw every level's cell of a genotype into one PNG.")
    parser.add_argument("genotype", metavar="FILE|RUN", help="a genotype.json, or a run folder that holds one")
    parser.add_argument("--out", metavar="FILE.png", help="the picture (genotype.png beside the genotype)")
    args = parser.parse_args(argv)
    path = Path(args.genotype)
    path = path / "genotype.json" if path.is_dir() else path
    out = Path(args.out) if args.out else path.with_suffix(".png")
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise UserError(f"--out {out}: expected a .png file in a folder that exists")
    genotype = read_any(path)
    try:
        print(f"picture: {draw_genotype(genotype, out)}")
    except OSError as error:
        raise UserError(f"--out {out}: expected a file that can be written, found: {error}") from None


def read_any(path: Path) -> Genotype:
    """Read genotype JSON of any streams: inputs, levels and channels are the file's own.

    Raises:
        UserError: the file is missing or no genotype; names the field.
    """
    data = read_json(path)
    check_names(data, str(path))
    taps = [name for name in data["inputs"] if not is_neighbour(name)]
    return genotype_from_json(data, str(path), taps, data["levels"], data["C"])


if __name__ == "__main__":
    sys.exit(main())

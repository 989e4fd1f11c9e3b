"""Draw a genotype: python -m tools.plot_genotype FILE|RUN [--out FILE.png]."""

import sys
from pathlib import Path

from models.search.parts import draw_architecture, read_any
from utils.args import Parser, command
from utils.errors import UserError


@command
def main(argv: list[str]) -> None:
    parser = Parser("Draw the cells of a genotype, one PNG file per part that was searched.")
    parser.add_argument("genotype", metavar="FILE|RUN", help="a genotype.json, or a run folder that holds one")
    parser.add_argument(
        "--out", metavar="FILE.png", help="the picture; further parts: FILE_PART.png (genotype.png beside the genotype)"
    )
    args = parser.parse_args(argv)
    path = Path(args.genotype)
    path = path / "genotype.json" if path.is_dir() else path
    out = Path(args.out) if args.out else path.with_suffix(".png")
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise UserError(f"--out {out}: expected a .png file in a folder that exists")
    architecture = read_any(path)
    try:
        for picture in draw_architecture(architecture, out):
            print(f"picture: {picture}")
    except OSError as error:
        raise UserError(f"--out {out}: expected a file that can be written, found: {error}") from None


if __name__ == "__main__":
    sys.exit(main())

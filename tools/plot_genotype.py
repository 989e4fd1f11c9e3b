"""Draw a genotype: python -m tools.plot_genotype FILE|RUN [--out FILE.png]."""

from pathlib import Path

from models.search.parts import draw_architecture, read_any
from utils.args import Parser, command
from utils.files import faults_named
from utils.option_types import output_file


@command
def main(argv: list[str]) -> None:
    parser = Parser("Draw the cells of a genotype, one PNG file per part that was searched.")
    parser.add_argument("genotype", metavar="FILE|RUN", help="a genotype.json, or a run folder that holds one")
    text = "the picture; further parts: FILE_PART.png (genotype.png beside the genotype)"
    parser.add_argument("--out", metavar="FILE.png", type=output_file(".png"), help=text)
    args = parser.parse_args(argv)
    path = Path(args.genotype)
    path = path / "genotype.json" if path.is_dir() else path
    out, architecture = args.out or path.with_suffix(".png"), read_any(path)
    with faults_named(out):
        for picture in draw_architecture(architecture, out):
            print(f"picture: {picture}")


if __name__ == "__main__":
    raise SystemExit(main())

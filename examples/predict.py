"""Detect in one pair from Python, with a training run's folder alone.

    python examples/predict.py RUN --rgb A --thermal B [--score 0.3]

Prints a line per object, the most certain first; one of the two pictures may be missing.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.detection.predictor import Predictor
from utils.args import command


@command
def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="folder of a training run, or a .safetensors file of tools.export")
    parser.add_argument("--rgb", help="RGB picture (none)")
    parser.add_argument("--thermal", help="thermal picture (none)")
    parser.add_argument("--score", type=float, default=0.3, help="least score of an object, 0 to 1 (0.3)")
    args = parser.parse_args(argv)
    predictor = Predictor(args.run)
    for one in predictor(args.rgb, args.thermal, score=args.score):
        left, top, right, bottom = (round(side) for side in one["box_xyxy"])
        print(f"{one['class']} {one['score']:.2f} at x {left} to {right}, y {top} to {bottom} px")


if __name__ == "__main__":
    raise SystemExit(main())

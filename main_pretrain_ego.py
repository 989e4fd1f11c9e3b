"""Pretrain the encoders of EgoGesture, each by itself: writes --checkpointdir, which search and training start from."""

import sys

from tasks.classification.presets import EGO
from utils.args import command
from utils.classify.pretraining import pretrain


@command
def main(argv: list[str]) -> None:
    pretrain(EGO, argv)


if __name__ == "__main__":
    sys.exit(main())

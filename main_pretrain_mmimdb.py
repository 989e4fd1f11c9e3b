"""Pretrain the encoders of MM-IMDB, each by itself: writes --checkpointdir, which search and training start from."""

import sys

from tasks.classification.presets import MMIMDB
from utils.args import command
from utils.classify.pretraining import pretrain


@command
def main(argv: list[str]) -> None:
    pretrain(MMIMDB, argv)


if __name__ == "__main__":
    sys.exit(main())

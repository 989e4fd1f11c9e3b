"""Train a found network for MM-IMDB (or one modality, a late fusion, a random genotype), or test a trained one.

The epoch is chosen on `val`; the test list is read with --eval_exp_dir alone.
"""

import sys

from tasks.classification.presets import MMIMDB
from utils.args import command
from utils.classify.commands import found


@command
def main(argv: list[str]) -> None:
    found(MMIMDB, argv)


if __name__ == "__main__":
    sys.exit(main())

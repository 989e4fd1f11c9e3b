"""Search the fusion of BM-NAS for MM-IMDB on frozen encoders: writes RUN/genotype.json.

Weights learn on the train list, logits on one half of the dev list; the epoch is chosen on the other half.
Next: main_darts_found_mmimdb.py DIR --search_exp_dir RUN.
"""

import sys

from tasks.classification.presets import MMIMDB
from utils.args import command
from utils.classify.commands import search


@command
def main(argv: list[str]) -> None:
    search(MMIMDB, argv)


if __name__ == "__main__":
    sys.exit(main())

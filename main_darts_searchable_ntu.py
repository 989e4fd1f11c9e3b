"""Search the fusion of BM-NAS for NTU RGB+D on frozen encoders: writes RUN/genotype.json.

Weights learn on the train list, logits on one half of the dev list; the epoch is chosen on the other half.
Next: main_darts_found_ntu.py DIR --search_exp_dir RUN.
"""

import sys

from tasks.classification.presets import NTU
from utils.args import command
from utils.classify.commands import search


@command
def main(argv: list[str]) -> None:
    search(NTU, argv)


if __name__ == "__main__":
    sys.exit(main())

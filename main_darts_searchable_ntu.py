"""Search the fusion of BM-NAS for NTU RGB+D on frozen encoders: writes RUN/genotype.json.

Weights learn on the train list, logits on one half of the dev list; the epoch is chosen on the other half.
Next: main_darts_found_ntu.py DIR --search_exp_dir RUN.
"""

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("search", TASKS["ntu"], argv)


if __name__ == "__main__":
    raise SystemExit(main())

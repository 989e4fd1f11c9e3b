"""Train a found network for MM-IMDB (or one modality, a late fusion, a random genotype), or test a trained one.

The epoch is chosen on `val`; the test list is read with --eval_exp_dir alone.
"""

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("found", TASKS["mmimdb"], argv)


if __name__ == "__main__":
    raise SystemExit(main())

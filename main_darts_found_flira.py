"""Train a found network (or a hand-made fusion, one modality, a random genotype), or test a trained one."""

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("found", TASKS["flira"], argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""Search the head towers of FAD on FCOS: writes RUN/genotype.json (docs/fad.md)."""

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("search", TASKS["fad"], argv)


if __name__ == "__main__":
    raise SystemExit(main())

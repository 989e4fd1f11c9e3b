"""Search the fusion architecture of NAS-DSF on frozen streams: writes RUN/genotype.json."""

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("search", TASKS["flira"], argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""Train the detector with plain towers that a search of FAD can start from: writes --checkpointdir (docs/fad.md)."""

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("pretrain", TASKS["fad"], argv)


if __name__ == "__main__":
    raise SystemExit(main())

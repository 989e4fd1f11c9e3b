"""Train searched, published, random or plain towers on FCOS, or test a trained detector (docs/fad.md)."""

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("found", TASKS["fad"], argv)


if __name__ == "__main__":
    raise SystemExit(main())

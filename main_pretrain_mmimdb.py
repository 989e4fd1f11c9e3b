"""Pretrain the encoders of MM-IMDB, each by itself: writes --checkpointdir, which search and training start from."""

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("pretrain", TASKS["mmimdb"], argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""Pretrain the encoders of EgoGesture, each by itself: writes --checkpointdir, which search and training start from."""

import sys

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("pretrain", TASKS["ego"], argv)


if __name__ == "__main__":
    sys.exit(main())

"""Pretrain the encoders of NTU RGB+D, each by itself: writes --checkpointdir, which search and training start from."""

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("pretrain", TASKS["ntu"], argv)


if __name__ == "__main__":
    raise SystemExit(main())

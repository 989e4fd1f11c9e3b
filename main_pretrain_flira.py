"""Pretrain the single-modality detectors, then the shared head: writes --checkpointdir (docs/pretraining.md)."""

from commands import run_command
from tasks import TASKS
from utils.args import command


@command
def main(argv: list[str]) -> None:
    run_command("pretrain", TASKS["flira"], argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""Signals that ask a run to stop: SIGTERM, Ctrl-C (SIGINT), and SIGUSR1, which SLURM can send before time is up."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stopped(BaseException):
    """A signal ended the run; the message says what is saved. It becomes exit code 3.

    Like KeyboardInterrupt no Exception, since libraries would take that for a fault of what they call.

    Args:
        saved: behind a step, where all ranks save; otherwise at once.
    """

    def __init__(self, text: str, saved: bool = False):
        super().__init__(text)
        self.saved = saved


class Stop:
    """Which signal came, by name; none yet where this is empty.

    Args:
        run: the folder that goes on with --resume, for messages.

    Attributes:
        waits: a run is under way that looks here between its steps; otherwise a signal raises at once.
    """

    def __init__(self, run: Path):
        self.run, self.came, self.waits = run, "", False

    def __call__(self, number: int, frame: object) -> None:
        """Note a signal, as the handler of it; from now on Ctrl-C is the system's again, and ends the process."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.came = signal.Signals(number).name
        if not self.waits:
            words = f"stopped by {self.came} while no step was under way: --resume {self.run} goes on from the last "
            raise Stopped(words + "checkpoint, or begins afresh where there is none")


@contextlib.contextmanager
def caught(stop: Stop) -> Iterator[None]:
    """Note the signals that come inside the block, in which a run is at work."""
    before = {number: signal.signal(number, stop) for number in CAUGHT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

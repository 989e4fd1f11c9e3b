"""Run the project's commands inside this process: importing torch hundreds of times would take as long as they do."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from commands import run_command
from tasks import TASKS
from utils.args import ended


class Output(io.StringIO):
    """Keep what is printed, and print it."""

    def __init__(self, stream):
        super().__init__()
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(text)
        self.stream.flush()
        return super().write(text)


def call(task: str, section: str, *words: object) -> str:
    """Run a command as its main would; return what it printed.

    Args:
        task: a name of TASKS.
        section: "pretrain", "search" or "found".
        words: its arguments.

    Raises:
        SystemExit: the command failed; with its exit code, since it has said why.
    """
    output = Output(sys.stdout)
    print("$", task, section, *words, flush=True)
    with contextlib.redirect_stdout(output):
        if code := ended(partial(run_command, section, TASKS[task]), [str(word) for word in words]):
            raise SystemExit(code)
    return output.getvalue()


@contextlib.contextmanager
def inside(folder: str | Path) -> Iterator[None]:
    """Change the working directory inside the block."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)

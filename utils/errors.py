"""The one exception for what the user can mend: it becomes one line and exit code 2 (specs: Exit codes)."""

import contextlib
import difflib
import errno
from collections.abc import Callable, Iterable, Iterator

import torch


class UserError(ValueError):
    """A bad option, file or datum. The message names the file or option, the field, what was expected and found."""


Report = Callable[[UserError], None]  # what to do with a fault: stop at it, or note it and go on


def refuse(error: UserError) -> None:
    """Stop at the first fault."""
    raise error


@contextlib.contextmanager
def reported(report: Report) -> Iterator[None]:
    """Hand a UserError raised inside to `report`; where that returns, go on behind the block."""
    try:
        yield
    except UserError as error:
        report(error)


@contextlib.contextmanager
def memory_faults_named() -> Iterator[None]:
    """Turn a lack of memory, of a GPU or of the machine, into a UserError that names the options that need less."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        text = str(error).partition("\n")[0]
        if not _is_lack_of_memory(error, text):
            raise
        raise UserError(
            f"out of memory: {text or 'not enough for a Python object'}; what needs less: a smaller --batchsize, with "
            "--accum N for the same pairs per step; --amp; a smaller --image_size; fewer --workers; in search and "
            "training --cache_features disk (docs/speed.md)"
        ) from error


def _is_lack_of_memory(error: Exception, text: str) -> bool:
    if isinstance(error, OSError):  # a mapping, or a process, for which there is no room
        return error.errno == errno.ENOMEM
    # torch's is a RuntimeError, of a class of its own on a GPU alone, and not always there.
    said = "can't allocate memory" in text or "out of memory" in text
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or said


def near(word: str, known: Iterable[str]) -> str:
    """Return ' (did you mean X?)' for the known word nearest to `word`, or nothing where none is near."""
    by_small = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_small, n=1)
    return f" (did you mean {by_small[close[0]]}?)" if close else ""

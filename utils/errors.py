"""The one exception for what the user can mend: it becomes one line and exit code 2 (specs: Exit codes).

Also how values and names of other people's files are shown in such lines: `short` and `printable`.
"""

import contextlib
import difflib
import errno
import itertools
import reprlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

MAX_LINE = 4000  # characters of a printed line


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
def known_faults_named() -> Iterator[None]:
    """Turn what torch refuses for reasons of its own into a UserError that names the options that mend it.

    A lack of memory, of a GPU or of the machine; operations that --deterministic does not allow.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        import torch  # takes a second, and commands that print their options need none

        text = str(error).partition("\n")[0]
        if "deterministic" in text and torch.are_deterministic_algorithms_enabled():
            raise UserError(f"--deterministic: {text.partition('. ')[0]}; leave the option out") from error
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
    # torch raises a RuntimeError, and on a GPU sometimes a subclass of its own, whose text says "out of memory" too.
    return isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text


class _Short(reprlib.Repr):
    """`repr` of bounded work, however large or often shared what is inside; as `repr` itself where that is short."""

    def __init__(self):
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 60, 60
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 20

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out numbers of thousands of digits.
        return repr(x) if abs(x) < 10**40 else f"an integer of {x.bit_length()} bits"

    def repr_dict(self, x: dict, level: int) -> str:
        """As repr, in the dict's own order."""
        if level <= 0 and x:
            return "{...}"
        parts = [f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in itertools.islice(x.items(), 20)]
        return f"{{{', '.join(parts + ['...'] * (len(x) > 20))}}}"


_repr = _Short().repr


def short(value: Any) -> str:
    """Return a value as messages show it, in 60 characters at most."""
    text = _repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def printable(text: str) -> str:
    r"""Return text as one line that a terminal shows and does not obey, `MAX_LINE` characters at most.

    Line ends become spaces. Other control and format characters (escape sequences, marks that turn the direction of
    writing) and halves of surrogate pairs are spelled, as \x1b.
    """
    line = " ".join(text[: MAX_LINE + 1].splitlines())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 3]}..."


def flags(names: Iterable[str]) -> str:
    """Return options as they are typed: "--a, --b"."""
    return ", ".join(f"--{name}" for name in names)


def near(word: str, known: Iterable[str]) -> str:
    """Return ' (did you mean X?)' for the known word nearest to `word`, or nothing where none is near."""
    by_small = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_small, n=1)
    return f" (did you mean {by_small[close[0]]}?)" if close else ""

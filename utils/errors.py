"""The one exception for what the user can mend: it becomes one line and exit code 2 (specs: Exit codes)."""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator


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


def near(word: str, known: Iterable[str]) -> str:
    """Return ' (did you mean X?)' for the known word nearest to `word`, or nothing where none is near."""
    by_small = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_small, n=1)
    return f" (did you mean {by_small[close[0]]}?)" if close else ""

"""Files that cannot be read: which samples a run leaves out because of them, and how many it may."""

from collections.abc import Callable

from tqdm import tqdm

from utils.distributed import Ranks
from utils.errors import UserError


class BadFiles:
    """The samples of a run that are left out because one of their files cannot be read. Each is named once.

    Args:
        limit: how many may be left out. None: none, and the message does not offer to allow some, since a test score
            is one over all samples.
    """

    def __init__(self, limit: int | None):
        self.limit = limit
        self.names: list[str] = []
        self.faults: list[tuple[str, str]] = []  # found by this process
        self.log: Callable[[str], None] = tqdm.write

    def add(self, name: str, fault: str) -> None:
        """Count a sample; UserError where it is one too many."""
        if name in self.names:
            return
        if len(self.names) >= (self.limit or 0):
            hints = {None: "", 0: " (--max_bad_files N leaves out up to N such samples)"}
            raise UserError(fault + hints.get(self.limit, f" (--max_bad_files {self.limit} were left out before)"))
        self.names.append(name)
        self.faults.append((name, fault))
        self.log(f"left out, {len(self.names)} of at most {self.limit}: {fault}")

    def merge(self, ranks: Ranks) -> None:
        """Count what each rank has left out, where ranks have read different samples."""
        for name, fault in ranks.all_gather(self.faults):
            self.add(name, fault)

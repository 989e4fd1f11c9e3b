"""Progress bars of long work: on a terminal only, and of several ranks only the first one's."""

from collections.abc import Iterable

from tqdm import tqdm

from utils.distributed import ranks


def bar(items: Iterable | None, title: str, total: int | None = None) -> tqdm:
    """Return items that show how far they are; without items, a bar to be moved on by `update`."""
    return tqdm(items, title, total, leave=False, disable=None if ranks().first else True)

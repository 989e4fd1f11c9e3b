"""--small_dataset: the first examples of each list alone, to try a command out."""

from datasets.labelled import Example

SMALL = 64  # examples of a list


def first_of_each(examples: dict[str, list[Example]], small: bool) -> dict[str, list[Example]]:
    """Return the lists, or the first `SMALL` examples of each."""
    return {name: listed[:SMALL] if small else listed for name, listed in examples.items()}

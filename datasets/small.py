"""--small_dataset: some examples of each list alone, to try a command out."""

from itertools import zip_longest

from datasets.classification.examples import Example

SMALL = 64  # examples of a list


def first_of_each(examples: dict[str, list[Example]], small: bool) -> dict[str, list[Example]]:
    """Return the lists, or `SMALL` examples of each: the first of each group, then the second, in the list's order."""
    return {name: take_subset(listed) if small else listed for name, listed in examples.items()}


def take_subset(listed: list[Example]) -> list[Example]:
    groups: dict[str, list[Example]] = {}
    for example in listed:
        groups.setdefault(example.group, []).append(example)
    in_turn = [example for row in zip_longest(*groups.values()) for example in row if example]
    kept = {example.name for example in in_turn[:SMALL]}
    return [example for example in listed if example.name in kept]

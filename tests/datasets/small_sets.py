"""What a small data set of two examples a list keeps of the whole one."""

from datasets.classification.examples import LabelledData


def check_small(whole: LabelledData, small: LabelledData) -> None:
    """Assert that it keeps the order, and the first example of each of two subjects where a list has as many."""
    for name, listed in whole.records.items():
        first = {one.group: one for one in reversed(listed)}  # of each subject its first
        kept = small.records[name]
        assert [one for one in listed if one in kept] == kept
        assert len(kept) == 2
        if len(first) > 1:
            assert all(first[one.group] == one for one in kept)
            assert len({one.group for one in kept}) == 2

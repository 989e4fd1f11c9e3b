"""The best combinations of one entry each from several ranked lists: of choices in a cell, and of parts."""

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Any

Ranked = list[tuple[float, Any]]  # log probability (up to a constant) and what is chosen, the likeliest first


def best_combinations(choices: Sequence[Ranked], count: int) -> list[tuple[float, list]]:
    """Return the combinations of one entry per list of the largest sums with these, by a heap over the lists."""
    total = sum(ranked[0][0] for ranked in choices)
    best: list[tuple[float, list]] = []
    heap, seen = [(-total, (0,) * len(choices))], {(0,) * len(choices)}
    while heap and len(best) < count:
        cost, places = heapq.heappop(heap)
        best.append((-cost, [ranked[place][1] for ranked, place in zip(choices, places, strict=True)]))
        for n, ranked in enumerate(choices):
            successor = (*places[:n], places[n] + 1, *places[n + 1 :])
            if successor[n] < len(ranked) and successor not in seen:
                seen.add(successor)
                step = ranked[places[n]][0] - ranked[successor[n]][0]
                heapq.heappush(heap, (cost + (step if math.isfinite(step) else math.inf), successor))
    return best


def best_first(ranked: Iterable[tuple[float, Any]]) -> Ranked:
    """Return the entries, the likeliest first; equal ones keep their order."""
    return sorted(ranked, key=lambda pair: -pair[0])


def log_weight(weight: float) -> float:
    """Return the logarithm, minus infinity of 0."""
    return math.log(weight) if weight > 0 else -math.inf

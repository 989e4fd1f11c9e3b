"""Regularised evolution (1802.01548, algorithm 1): the fittest of a few drawn is mutated, the oldest dies."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from utils.progress_bar import bar


def evolve(
    space: Any, fitness: Callable[[Any], float], seed: int, population: int, tournament: int, rounds: int
) -> list[tuple[float, Any]]:
    """Return everyone who lived with their fitness, the fittest first, the earlier first where two are equally fit.

    Args:
        space: samples individuals, and mutates one in one place.
        fitness: the higher, the fitter; asked once for equal individuals.
        population: P, the youngest that may become parents.
        tournament: S, of which the fittest does.
        rounds: individuals in all, the first P of them drawn.
    """
    rng, scores, alive = random.Random(seed), {}, deque(maxlen=population)
    for number in bar(range(rounds), "evolution"):
        if number < population:
            child = space.sample(rng)
        else:
            contenders = rng.sample(list(alive), min(tournament, len(alive)))
            child = space.mutate(max(contenders, key=scores.__getitem__), rng)
        if child not in scores:
            scores[child] = fitness(child)
        alive.append(child)
    return sorted(((score, one) for one, score in scores.items()), key=lambda pair: -pair[0])

"""Regularised evolution (1802.01548, algorithm 1): the fittest of a few drawn is mutated, the oldest dies."""

import random
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from utils.progress_bar import bar

Individual = TypeVar("Individual")


def evolve(
    draw: Callable[[random.Random], Individual],
    mutate: Callable[[Individual, random.Random], Individual],
    fitness: Callable[[Individual], float],
    rng: random.Random,
    population: int,
    tournament: int,
    rounds: int,
) -> list[tuple[float, Individual]]:
    """Return everyone who lived with their fitness, the fittest first, the earlier first where two are equally fit.

    Args:
        draw: an individual to begin with.
        mutate: returns another one, changed in one place.
        fitness: the higher, the fitter; asked once for equal individuals.
        population: P, the youngest that may become parents.
        tournament: S, of which the fittest does.
        rounds: individuals in all, the first P of them drawn.
    """
    known: dict[Individual, float] = {}
    alive: deque[Individual] = deque(maxlen=population)
    for number in bar(range(rounds), "evolution"):
        if number < population:
            child = draw(rng)
        else:
            contenders = rng.sample(list(alive), min(tournament, len(alive)))
            child = mutate(max(contenders, key=known.__getitem__), rng)
        if child not in known:
            known[child] = fitness(child)
        alive.append(child)
    return sorted(((score, one) for one, score in known.items()), key=lambda pair: -pair[0])

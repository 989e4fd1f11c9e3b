"""Regularised evolution on a problem with a known best: repeatable, better than chance, each asked once."""

from types import SimpleNamespace

from engine.evolution import evolve

LENGTH = 16


def run(seed: int, rounds: int = 120):
    asked = []

    def fitness(bits):
        asked.append(bits)
        return float(sum(bits))

    def draw(rng):
        return tuple(rng.randrange(2) for _ in range(LENGTH))

    def mutate(bits, rng):
        place = rng.randrange(LENGTH)
        return (*bits[:place], 1 - bits[place], *bits[place + 1 :])

    return evolve(SimpleNamespace(sample=draw, mutate=mutate), fitness, seed, 12, 4, rounds), asked


def test_it_climbs_and_repeats():
    lived, asked = run(1)
    assert lived == run(1)[0]
    assert lived != run(2)[0]
    assert len(asked) == len(set(asked)) == len(lived)
    assert [score for score, _ in lived] == sorted((score for score, _ in lived), reverse=True)
    assert lived[0][0] > max(sum(bits) for bits in asked[:12])
    assert lived[0][0] >= LENGTH - 2


def test_the_oldest_dies_however_fit():
    """With a population of one, the parent is always the youngest."""
    parents = []

    def mutate(number, rng):
        parents.append(number)
        return number + 1

    evolve(SimpleNamespace(sample=lambda rng: 0, mutate=mutate), lambda number: -number, 0, 1, 1, 5)
    assert parents == [0, 1, 2, 3]

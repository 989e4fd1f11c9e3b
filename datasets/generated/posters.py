"""Posters of the generated films: marks, each of which stands for a genre, on a dull ground with noise."""

from collections.abc import Callable

import numpy as np

SIZE = (256, 160)
CELLS = (4, 3)  # of a poster, in each of which one mark has room
RADIUS = (20, 28)  # of a mark, pixels
JITTER = 6  # pixels from a cell's middle
NOISE = 14  # levels of 255
CONTRAST = (60, 110)  # levels of 255

Mark = Callable[[np.ndarray, np.ndarray], np.ndarray]  # y and x from the middle, in radii, to what is painted, -1 to 1
COLOURS = {"red": (230, 60, 50), "green": (50, 190, 70), "blue": (60, 90, 230), "yellow": (230, 210, 60)}


def _within(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.maximum(abs(y), abs(x)) < 1


def _waves(along: np.ndarray) -> np.ndarray:
    return np.sign(np.sin(2.5 * np.pi * along))


SHAPES: dict[str, Mark] = {
    "ring": lambda y, x: abs(np.hypot(y, x) - 0.75) < 0.22,
    "cross": lambda y, x: _within(y, x) & (np.minimum(abs(y), abs(x)) < 0.25),
    "triangle": lambda y, x: (abs(x) < (y + 1) / 2) & (abs(y) < 1),
    "frame": lambda y, x: _within(y, x) & (np.maximum(abs(y), abs(x)) > 0.6),
}
STRIPES: dict[str, Mark] = {
    "across": lambda y, x: _within(y, x) * _waves(y),
    "upright": lambda y, x: _within(y, x) * _waves(x),
    "slanted": lambda y, x: _within(y, x) * _waves((y + x) / np.sqrt(2)),
    "checks": lambda y, x: _within(y, x) * _waves(y) * _waves(x),
}
MARKS = (*COLOURS, *SHAPES, *STRIPES)


def draw_poster(random: np.random.Generator, marks: list[int]) -> np.ndarray:
    """Draw a poster with some of `MARKS`, each in a place of its own: uint8 RGB (256, 160, 3)."""
    y, x = np.indices(SIZE)
    cells = random.permutation(CELLS[0] * CELLS[1])
    low, high = random.uniform(60, 150, (2, 1)) + random.uniform(-25, 25, (2, 3))
    poster = low + (high - low) * (y / SIZE[0])[..., None]
    for mark in random.permutation(marks):
        row, column = divmod(int(cells[mark]), CELLS[1])
        middle = (np.array((row, column)) + 0.5) * SIZE / CELLS + random.uniform(-JITTER, JITTER, 2)
        radius = random.uniform(*RADIUS)
        _paint(random, poster, MARKS[mark], (y - middle[0]) / radius, (x - middle[1]) / radius)
    return (poster + random.normal(0, NOISE, poster.shape)).round().clip(0, 255).astype(np.uint8)


def _paint(random: np.random.Generator, poster: np.ndarray, mark: str, y: np.ndarray, x: np.ndarray) -> None:
    """Paint a colour over the poster, or make it lighter or darker where a shape or a stripe is."""
    if mark in COLOURS:
        poster[np.hypot(y, x) < 1] = np.array(COLOURS[mark]) + random.uniform(-20, 20, 3)
    else:
        strength = random.uniform(*CONTRAST) * random.choice((-1, 1))
        poster += strength * (SHAPES | STRIPES)[mark](y, x)[..., None]

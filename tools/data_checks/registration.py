"""How far the RGB images lie from the thermal ones, over a set of pairs, and which single pair lies elsewhere.

The two look different but have edges in common, so log gradient magnitudes are correlated, after Reddy and Chatterji
1996 (phase correlation). Differs in that each frequency is divided by the root of its magnitude and not by all of it
(of single real pairs, that puts 128 of 141 within 3 px of the whole set, all of it 105), and in that the correlations
of pairs, each with mean 0 and deviation 1, are added up before the peak is looked for.

Shapes: S = 2 * REACH + 1 shifts each way; h, w size of a pair.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

REACH = 64  # largest shift looked for, in working pixels
WORKING_SIDE = 640  # longer images are shrunk to about this
NUM_GROUPS = 10
AGREE_PX = 3  # working pixels from the whole set's shift within which a group of pairs agrees with it
MIN_AGREEMENT = 0.7  # share of the groups below which there is no shift to speak of
CELL = 4  # of the coarse correlations kept of each pair, working pixels
NEAR_PX, FAR_PX = 12, 20  # working pixels from the set's shift
# A pair lies elsewhere whose peak is far, this high, and this many times as high as what is near the set's shift: of
# 141 real pairs none, of 180 real images with another pair's partner none, and with RGB moved by 40 px 8 in 10.
MIN_HEIGHT, MIN_LEAD = 7.0, 1.5


class Shift(NamedTuple):
    """RGB lies (dx, dy) pixels of the original right of and below thermal.

    `spread` is the root mean square distance of ten groups of pairs from that, `agreement` the share of them near it.
    """

    dx: int
    dy: int
    spread: float
    agreement: float
    pairs: int

    @property
    def reliable(self) -> bool:
        return self.agreement >= MIN_AGREEMENT


def working_factor(sides: list[int]) -> int:
    """Return by how much to shrink images so that the median of their longer sides is about WORKING_SIDE pixels."""
    return max(1, round(float(np.median(sides)) / WORKING_SIDE)) if sides else 1


def correlate(rgb: np.ndarray, thermal: np.ndarray, factor: int = 1) -> np.ndarray | None:
    """Correlate the edges of one pair.

    Args:
        rgb: (3, h, w).
        thermal: (1, h, w), of 8 or 16 bits.
        factor: to shrink both by; what follows is in these working pixels.
    Returns:
        float32 (S, S): at [REACH + dy, REACH + dx] how well RGB fits, lying (dx, dy) from thermal; mean 0 and deviation
        1 up to a quarter of the shorter side, 0 beyond. None where an image has no edges or is too small.
    """
    one, other = (_edges(_shrunk(image, factor)) for image in (rgb, thermal))
    reach = min(REACH, min(one.shape) // 4)
    if reach < 1:
        return None
    size = [-(-(side + reach) // 64) * 64 for side in one.shape]  # room for the shift, in lengths that are fast
    product = np.fft.rfft2(one, size) * np.fft.rfft2(other, size).conj()
    # Rounding noise must not count as a frequency.
    scores = np.fft.irfft2(product / np.sqrt(np.abs(product) + 1e-12 * np.abs(product).max() + 1e-30), size)
    scores = np.roll(scores, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    if scores.std() == 0:
        return None
    return np.pad((scores - scores.mean()) / scores.std(), REACH - reach).astype(np.float32)


class Registration:
    """Adds up the correlations of pairs; of each pair a coarse one is kept.

    Args:
        factor: by which the pairs were shrunk.
    """

    def __init__(self, factor: int):
        self.factor = factor
        self.sums = np.zeros((NUM_GROUPS, 2 * REACH + 1, 2 * REACH + 1))
        self.peaks, self.heights, self.coarse = [], [], []

    def add(self, scores: np.ndarray) -> None:
        """Add one pair's correlation; the pairs go to the groups in turn."""
        self.sums[len(self.peaks) % NUM_GROUPS] += scores
        self.peaks.append(_peak(scores))
        self.heights.append(float(scores.max()))
        self.coarse.append(_coarse(scores))

    def shift(self) -> Shift | None:
        """Return the shift of the set; None without pairs."""
        if not self.peaks:
            return None
        whole = _peak(self.sums.sum(axis=0))
        groups = np.array([_peak(total) for total in self.sums[: len(self.peaks)]])
        distances = np.hypot(*(groups - whole).T)
        spread = float(np.sqrt((distances**2).mean())) * self.factor
        dx, dy = (int(side) * self.factor for side in whole)
        agreement = round(float((distances <= AGREE_PX).mean()), 2)
        return Shift(dx, dy, round(spread, 1), agreement, len(self.peaks))

    def elsewhere(self) -> dict[int, tuple[int, int]]:
        """Return {number of the pair, as added: (dx, dy) in original pixels} of pairs that lie apart from the set."""
        shift = self.shift()
        if shift is None or not shift.reliable:
            return {}
        whole = np.array([shift.dx, shift.dy]) // self.factor
        places = np.arange(len(self.coarse[0])) * CELL + CELL / 2 - REACH
        near = np.hypot(places[None, :] - whole[0], places[:, None] - whole[1]) <= NEAR_PX
        found = {}
        for number, (peak, height, coarse) in enumerate(zip(self.peaks, self.heights, self.coarse)):
            far = np.hypot(*(peak - whole)) > FAR_PX
            if far and height >= MIN_HEIGHT and height >= MIN_LEAD * coarse[near].max():
                found[number] = tuple(int(side) * self.factor for side in peak)
        return found


def _shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    """Give the mean of the channels, float32, of blocks of factor x factor pixels."""
    grey = sum(channel.astype(np.float32) for channel in image) / len(image)  # several times as fast as NumPy's mean
    if factor == 1:
        return grey
    height, width = (side // factor for side in grey.shape)
    blocks = grey[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return blocks.mean(axis=(1, 3))


def _edges(grey: np.ndarray) -> np.ndarray:
    """Give log gradient magnitudes without their mean, fading out towards the border, which is no edge."""
    down = grey[2:, 1:-1] - grey[:-2, 1:-1]
    right = grey[1:-1, 2:] - grey[1:-1, :-2]
    edges = np.log1p(np.sqrt(right * right + down * down))
    return (edges - edges.mean()) * _window(edges.shape) if edges.size else edges


@lru_cache(maxsize=16)
def _window(size: tuple[int, int]) -> np.ndarray:
    return (np.hanning(size[0])[:, None] * np.hanning(size[1])).astype(np.float32)


def _peak(scores: np.ndarray) -> np.ndarray:
    """Give (dx, dy) of the highest score."""
    y, x = np.unravel_index(scores.argmax(), scores.shape)
    return np.array([x, y]) - REACH


def _coarse(scores: np.ndarray) -> np.ndarray:
    """Give the highest score of each cell, float16: a sixteenth of the numbers."""
    padded = np.pad(scores, (0, -len(scores) % CELL), mode="edge")
    cells = len(padded) // CELL
    return padded.reshape(cells, CELL, cells, CELL).max(axis=(1, 3)).astype(np.float16)

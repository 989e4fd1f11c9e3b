"""Exact mean and standard deviation of all pixels of a list of pairs, from counts of every value.

Thermal images of 16 bits are measured as the network will see them: mapped to eight between the set's two counts.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from datasets.detection.paired_detection import Normalization, PairRecord
from datasets.images import STRETCH, Counts, eight_bits, read_rgb, read_thermal_values
from utils.errors import UserError

LEVELS, COUNTS = 256, 65536  # values of 8 and 16 bits


@dataclass(frozen=True)
class PixelStatistics:
    """`normalization`: (mean of 3, deviation of 3) in 0..1 by modality.

    `thermal_counts`: 16-bit values that become black and white, None for thermal of 8 bits.
    """

    normalization: Normalization
    thermal_counts: Counts | None


def pixel_statistics(records: list[PairRecord], counts: Counts | None, workers: int) -> PixelStatistics:
    """Read all pairs and measure them.

    Args:
        records: at least one.
        counts: what the data set names as `thermal_counts`; None: measured where thermal has 16 bits.
        workers: threads.
    Raises:
        UserError: a file cannot be decoded, or thermal files have 8 and 16 bits.
    """
    rgb, grey = _count_all(records, workers)
    if len(grey) == COUNTS:
        counts = counts or _percentiles(grey)
        grey = np.bincount(eight_bits(np.arange(COUNTS), counts), grey, LEVELS)
    else:
        counts = None
    channels = {"rgb": list(rgb), "thermal": [grey] * 3}
    numbers = {m: tuple(zip(*(_mean_and_std(values) for values in mine))) for m, mine in channels.items()}
    return PixelStatistics(numbers, counts)


def _count_all(records: list[PairRecord], workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Add up what `_count` gives of each pair."""
    rgb, thermal = np.zeros((3, LEVELS), np.int64), {}
    pool = ThreadPoolExecutor(workers)
    try:
        for mine, theirs in tqdm(pool.map(_count, records), "read pairs", len(records), leave=False, disable=None):
            rgb += mine
            thermal[len(theirs)] = thermal.get(len(theirs), 0) + theirs
    finally:
        pool.shutdown(cancel_futures=True)  # else Ctrl-C would wait for all pairs
    if len(thermal) > 1:
        raise UserError("thermal images: expected all of 8 or all of 16 bits, found both")
    (grey,) = thermal.values()
    return rgb, grey


def _count(record: PairRecord) -> tuple[np.ndarray, np.ndarray]:
    """Give how often each value is in a pair: RGB (3, 256), thermal (256,) or (65536,)."""
    rgb, thermal = read_rgb(record.rgb_path).numpy(), read_thermal_values(record.thermal_path).numpy()
    levels = COUNTS if thermal.dtype == np.uint16 else LEVELS
    channels = np.stack([np.bincount(channel.ravel(), minlength=LEVELS) for channel in rgb])
    return channels, np.bincount(thermal.ravel(), minlength=levels)


def _percentiles(values: np.ndarray) -> Counts:
    """Give the values that STRETCH percent of the pixels do not exceed, from how often each value is there."""
    below = np.cumsum(values)
    dark, bright = (int(np.searchsorted(below, below[-1] * percent / 100)) for percent in STRETCH)
    return float(dark), float(max(bright, dark + 1))


def _mean_and_std(values: np.ndarray) -> tuple[float, float]:
    """Give mean and deviation in 0..1 from how often each of 256 levels is there."""
    levels = np.arange(LEVELS) / (LEVELS - 1)
    mean = np.average(levels, weights=values)
    return float(mean), float(np.sqrt(np.average((levels - mean) ** 2, weights=values)))

"""Exact mean and standard deviation of all pixels of a list of records, from counts of every value.

Grey images of 16 bits are measured as the network reads them: mapped to eight bits between the data set's two counts.
"""

from itertools import chain

import numpy as np

from datasets.detection.dataset import DetectionRecord
from datasets.detection.transforms import COLOUR, Normalization
from datasets.images import STRETCH, Counts, eight_bits, read_rgb, read_thermal_values
from tools.data_checks.records import in_threads
from utils.errors import UserError

LEVELS, COUNTS = 256, 65536  # values of 8 and 16 bits
Histograms = dict[str, np.ndarray]  # by modality, how often each value is in each channel: (channels, values)


def pixel_statistics(
    records: list[DetectionRecord], channels: dict[str, int], counts: Counts | None, workers: int
) -> tuple[Normalization, Counts | None]:
    """Read all records and measure them.

    Args:
        records: at least one.
        channels: of the images of each modality.
        counts: the data set's `thermal_counts`; None: measured where grey images have 16 bits.
        workers: threads.
    Returns:
        (mean of 3, deviation of 3) in 0..1 by modality, and the 16-bit values that become black and white, None for
        grey images of 8 bits.
    Raises:
        UserError: a file cannot be decoded, or grey images have 8 and 16 bits.
    """
    histograms, measured = _add_up(records, channels, workers), None
    for modality, values in histograms.items():
        if values.shape[1] == COUNTS:
            measured = counts or _percentiles(values[0])
            levels = eight_bits(np.arange(COUNTS), measured)
            histograms[modality] = np.bincount(levels, values[0], LEVELS)[None]
    normalization = {}
    for modality, values in histograms.items():
        mean, std = zip(*(_mean_and_std(row) for row in np.broadcast_to(values, (COLOUR, LEVELS))))
        normalization[modality] = mean, std
    return normalization, measured


def _add_up(records: list[DetectionRecord], channels: dict[str, int], workers: int) -> Histograms:
    """Return the sum of the histograms of all records."""
    total: Histograms = {}
    with in_threads(lambda record: _histogram(record, channels), records, workers, "read images") as reading:
        for modality, values in chain.from_iterable(histograms.items() for histograms in reading):
            if modality in total and total[modality].shape != values.shape:
                raise UserError(f"{modality} images: expected all of 8 or all of 16 bits, found both")
            total[modality] = total.get(modality, 0) + values
    return total


def _histogram(record: DetectionRecord, channels: dict[str, int]) -> Histograms:
    histograms = {}
    for modality, path in record.paths.items():
        image = (read_rgb(path) if channels[modality] == COLOUR else read_thermal_values(path)).numpy()
        levels = COUNTS if image.dtype == np.uint16 else LEVELS
        histograms[modality] = np.stack([np.bincount(channel.ravel(), minlength=levels) for channel in image])
    return histograms


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

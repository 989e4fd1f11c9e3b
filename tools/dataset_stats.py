"""Measure mean and deviation of a training list: python -m tools.dataset_stats DIR [--out FILE].

Gives the lines that the YAML file of an own set takes (datasets/detection/own_set.py): exact numbers over all pixels,
from counts of every value. Grey images of 16 bits are measured as the network reads them: mapped to eight bits between
the data set's two counts.
"""

import shlex
from itertools import chain

import numpy as np

from datasets.detection.dataset import DetectionRecord
from datasets.detection.detection_data import DetectionData
from datasets.detection.opening import open_data_set
from datasets.detection.transforms import COLOUR, Normalization
from datasets.images import STRETCH, Counts, eight_bits, read_rgb, read_thermal_values
from tools.check_data import add_data_options, check_output
from tools.data_checks.records import in_threads
from tools.data_checks.report import show
from utils.args import Parser, command
from utils.errors import UserError
from utils.files import replace_file
from utils.option_types import output_file

LEVELS, COUNTS = 256, 65536  # values of 8 and 16 bits
Histograms = dict[str, np.ndarray]  # by modality, how often each value is in each channel: (channels, values)


@command
def main(argv: list[str]) -> None:
    parser = Parser("Measure the training pixels' mean and standard deviation, as YAML for an own set.")
    add_data_options(parser)
    parser.add_argument("--out", metavar="FILE", type=output_file(), help="write it here (to the terminal)")
    args = parser.parse_args(argv)
    check_output("--out", args.out, args)
    data = open_data_set(args.data, args.dataset)
    measured = pixel_statistics(data, args.workers)
    text = in_yaml(data, *measured, f"python -m tools.dataset_stats {shlex.join(argv)}")
    if args.out is None:
        show(text)
        return
    replace_file(args.out, lambda file: file.write(f"{text}\n".encode()))
    print(f"statistics: {args.out}")


def in_yaml(data: DetectionData, normalization: Normalization, counts: Counts | None, command_line: str) -> str:
    """Return what was measured, with comments that say on what; `command_line` measures it again."""
    measured_on = f"{len(data.records['train']):,} training {data.unit}"
    lines = [f"# Measured on all pixels of the {measured_on}, in 0..1, by:", f"# {command_line}", "normalization:"]
    for modality, (mean, std) in normalization.items():
        lines.append(f"  {modality}: {{mean: [{_four(mean)}], std: [{_four(std)}]}}")
    if counts:
        dark, bright = counts
        lines.append(f"thermal_counts: [{dark:.10g}, {bright:.10g}]  # applied when thermal was measured: paste both")
    return "\n".join(lines)


def _four(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.4f}" for number in numbers)


def pixel_statistics(data: DetectionData, workers: int) -> tuple[Normalization, Counts | None]:
    """Read all training records and measure them.

    Args:
        data: at least one record; where it has no `thermal_counts`, these are measured, too.
        workers: threads.
    Returns:
        (mean of 3, deviation of 3) in 0..1 by modality, and the 16-bit values that become black and white, None for
        grey images of 8 bits.
    Raises:
        UserError: a file cannot be decoded, or grey images have 8 and 16 bits.
    """
    histograms, measured = _add_up(data.records["train"], data.channels, workers), None
    for modality, values in histograms.items():
        if values.shape[1] == COUNTS:
            measured = data.thermal_counts or _percentiles(values[0])
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


if __name__ == "__main__":
    raise SystemExit(main())

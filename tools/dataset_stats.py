"""Measure mean and deviation of a training list: python -m tools.dataset_stats DIR [--out FILE].

Gives the lines that the YAML file of an own set takes (datasets/detection/own_set.py).
"""

import shlex

from datasets.detection.detection_data import DetectionData
from datasets.detection.opening import open_data_set
from datasets.detection.transforms import Normalization
from datasets.images import Counts
from tools.check_data import add_data_options, check_output
from tools.data_checks.pixel_statistics import pixel_statistics
from tools.data_checks.report import show
from utils.args import Parser, command
from utils.files import replace_file
from utils.option_types import output_file


@command
def main(argv: list[str]) -> None:
    parser = Parser("Measure the training pixels' mean and standard deviation, as YAML for an own set.")
    add_data_options(parser)
    parser.add_argument("--out", metavar="FILE", type=output_file(), help="write it here (to the terminal)")
    args = parser.parse_args(argv)
    check_output("--out", args.out, args)
    data = open_data_set(args.data, args.dataset)
    measured = pixel_statistics(data.records["train"], data.channels, data.thermal_counts, args.workers)
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


if __name__ == "__main__":
    raise SystemExit(main())

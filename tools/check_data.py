"""Say what a data set holds and everything that is wrong with it: python -m tools.check_data DIR [--json FILE]."""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from datasets.detection.detection_data import DetectionData
from datasets.detection.names import dataset_name, is_description
from datasets.detection.opening import open_source
from datasets.detection.registry import locate
from datasets.detection.sources import MissingImage, Source
from datasets.splits import make_split
from models.detection.anchor_fit import SCALES, anchor_shares, better_scale
from tools.data_checks.box_statistics import letterboxed_boxes, list_statistics
from tools.data_checks.records import CheckedRecord, Problem, duplicates, in_threads, inspect_record
from tools.data_checks.registration import AGREE_PX, Registration, working_factor
from tools.data_checks.report import in_words, show
from tools.data_checks.unlisted_files import named_images, unlisted_files
from utils.args import Parser, command
from utils.errors import UserError
from utils.files import faults_named
from utils.option_types import above_zero, image_size, output_file, positive
from utils.run_folder import write_json

SHIFT_SHARE = 0.0075  # of the longer side, beyond which a shift is named: 5 px of 640, a third of a small FLIR box


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
    check_output("--json", args.json, args)
    report = check(args)
    show(in_words(report))
    if args.json:
        write_json(args.json, report)
    if number := len(report["problems"]):
        raise UserError(f"{args.data}: {number} problem{'s' * (number > 1)}")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("Count what a data set holds, read every image, and list all faults; exit code 2 if there are any.")
    add_data_options(parser)
    add = parser.add_argument
    text = "input of the anchor table, N or HxW, in pixels (768)"
    add("--image_size", type=image_size, default=(768, 768), help=text)
    add("--anchor_scale", type=above_zero, default=4.0, help="side of the smallest anchor in strides (4)")
    add("--fusion_levels", type=positive, default=5, help="pyramid levels that have anchors, from P3 on (5)")
    add("--json", metavar="FILE", type=output_file(), help="write the same as JSON (none)")
    return parser.parse_args(argv)


def add_data_options(parser: Parser) -> None:
    """Add the options of every tool that reads a data set."""
    parser.add_argument("data", metavar="DIR", help="folder of the data set; nothing is written to it")
    text = "how DIR is laid out, or the YAML file of an own set (flir_aligned)"
    parser.add_argument("--dataset", metavar="NAME|YAML", type=dataset_name, default="flir_aligned", help=text)
    text = "threads that read images (one per core)"
    parser.add_argument("--workers", type=positive, default=os.cpu_count(), help=text)


def check_output(option: str, path: Path | None, args: argparse.Namespace) -> None:
    """Check that an output file can be written, and is outside the data folder and not the file of --dataset."""
    if path is None:
        return
    if path.resolve().is_relative_to(Path(args.data).resolve()):
        raise UserError(f"{option} {path}: expected a file outside the data folder {args.data}")
    if is_description(args.dataset) and path.resolve() == Path(args.dataset).resolve():
        raise UserError(f"{option} {path}: expected another file than that of --dataset")
    with faults_named(path), tempfile.TemporaryFile(dir=path.parent):
        pass


def check(args: argparse.Namespace) -> dict[str, Any]:
    """Read everything and return the report, in plain values.

    Raises:
        UserError: the data set is not there, or of no known layout.
    """
    source, faults = locate(args.data, args.dataset), []
    data = open_source(source, faults.append)
    checked, registration = read_records(data, source.modalities, args.workers)
    halves, unlisted = unlisted_files(source)
    kinds = {True: "missing images", False: "annotations"}
    problems = [Problem(kinds[isinstance(error, MissingImage)], str(error)) for error in faults]
    problems += _split_problems(source)
    twice = duplicates(checked)  # first, since that explains a wrong size
    problems += [problem for one in checked for problem in one.problems] + twice + halves
    blank = [f"{one.record.paths[m]}: one colour throughout" for one in checked for m in one.blank]
    shift = registration.shift()
    # A blank file is named once, whatever number of lists it is in.
    warnings = [*data.warnings, *dict.fromkeys(blank), *_shifts(data, checked, registration)]
    bits = {o: sorted({one.grey_bits for one in checked if one.origin == o and one.grey_bits}) for o in data.records}
    if unlisted:
        number = f"{len(unlisted)} {data.unit if len(unlisted) > 1 else data.unit[:-1]}"
        warnings.append(f"{source.folder}: {number} that no list names, the first {unlisted[0]}")
    report = {"data": args.data, "dataset": args.dataset, "layout": source.layout, "modalities": list(data.channels)}
    report["lists"] = {o: list_statistics(data, o) | {"thermal_bits": bits[o]} for o in data.records}
    report["anchors"] = anchors(data, args)
    report["misregistration"] = shift._asdict() | {"reliable": shift.reliable} if shift else {}
    problems = dict.fromkeys(problems)  # lists may share a file
    return report | {"problems": [problem._asdict() for problem in problems], "remarks": warnings}


def read_records(
    data: DetectionData, modalities: tuple[str, ...], workers: int
) -> tuple[list[CheckedRecord], Registration]:
    """Read all records, with a progress bar, and add up the correlations of pairs.

    Args:
        data: the data set.
        modalities: the annotated one first.
        workers: threads.
    """
    records = [(origin, record) for origin, listed in data.records.items() for record in listed]
    factor = working_factor([max(record.width, record.height) for _, record in records])
    channels = {modality: data.channels[modality] for modality in modalities}
    registration, checked = Registration(factor), []
    work = in_threads(lambda one: inspect_record(*one, channels, factor), records, workers, f"read {data.unit}")
    with work as reading:
        for one, correlation in reading:
            checked.append(one)
            if correlation is not None:
                registration.add(correlation)
    return checked, registration


def anchors(data: DetectionData, args: argparse.Namespace) -> dict[str, Any]:
    """Return the share of training boxes that own an anchor, by scale; "better" is None where none is."""
    boxes = letterboxed_boxes(data.records["train"], args.image_size)
    scales = tuple(sorted({*SCALES, args.anchor_scale}))
    shares = anchor_shares(boxes, args.image_size, args.fusion_levels, scales) if len(boxes) else {}
    facts = {"image_size": list(args.image_size), "levels": args.fusion_levels, "boxes": len(boxes)}
    facts |= {"anchor_scale": args.anchor_scale, "shares": {f"{scale:g}": round(shares[scale], 4) for scale in shares}}
    return facts | {"better": better_scale(shares, args.anchor_scale) if shares else None}


def _split_problems(source: Source) -> list[Problem]:
    """Try the cut of the training list by the names in it, so that a missing file is not two faults."""
    named = {o: {source.prefix(o) + name for name in named_images(one) or ()} for o, one in source.lists.items()}
    own_val = sorted(named["val"] - named["train"]) if "val" in named else None
    if not named["train"] or own_val == []:
        return []
    try:
        make_split(sorted(named["train"]), 0, own_val=own_val)
    except UserError as error:
        return [Problem("split", str(error))]
    return []


def _shifts(data: DetectionData, checked: list[CheckedRecord], registration: Registration) -> list[str]:
    """Name a shift between the images of the whole set, and pairs whose shift differs from it."""
    shift, compared = registration.shift(), [one for one in checked if one.compared]
    if shift is None or not shift.reliable:
        return []
    longest = max(max(one.record.width, one.record.height) for one in compared)
    lines = []
    if max(abs(shift.dx), abs(shift.dy)) > max(AGREE_PX, SHIFT_SHARE * longest):
        lines.append(f"{data.name}: RGB lies {shift.dx}, {shift.dy} px (right, down) from thermal in the whole set")
    for number, (dx, dy) in registration.elsewhere().items():
        where = f"RGB seems to lie {dx}, {dy} px (right, down) from thermal"
        lines.append(f"{compared[number].record.paths['rgb']}: {where}, the set {shift.dx}, {shift.dy}")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())

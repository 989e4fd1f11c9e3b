"""Say what a data set holds and everything that is wrong with it: python -m tools.check_data DIR [--json FILE]."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from commands.options import above_zero, image_size, positive
from datasets.detection.paired_detection import PairedData
from datasets.detection.pairing import MissingImage
from datasets.detection.registry import dataset_name, is_description, locate
from datasets.detection.sources import Source, open_source
from datasets.splits import make_split
from models.detection.anchor_fit import SCALES, anchor_shares, better_scale
from tools.data_checks.box_statistics import letterboxed_boxes, list_statistics
from tools.data_checks.pairs import Pair, Problem, duplicates, inspect_pairs
from tools.data_checks.registration import AGREE_PX, Registration, working_factor
from tools.data_checks.report import in_words, show
from tools.data_checks.unlisted_files import named_images, unlisted_files
from utils.args import Parser, command
from utils.errors import UserError
from utils.run_folder import write_json

SHIFT_SHARE = 0.0075  # of the longer side, beyond which a shift is named: 5 px of 640, a third of a small FLIR box


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
    out = None if args.json is None else check_output("--json", args.json, args.data, args.dataset)
    report = check(args)
    show(in_words(report))
    if out:
        try:
            write_json(out, report)
        except OSError as error:
            raise UserError(f"--json {out}: expected a file that can be written, found: {error}") from None
    if number := len(report["problems"]):
        raise UserError(f"{args.data}: {number} problem{'s' * (number > 1)}")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("Count what a data set holds, read every image, and list all faults; exit code 2 if there are any.")
    add_data_options(parser)
    add = parser.add_argument
    add(
        "--image_size", type=image_size, default=(768, 768), help="input of the anchor table, N or HxW, in pixels (768)"
    )
    add("--anchor_scale", type=above_zero, default=4.0, help="side of the smallest anchor in strides (4)")
    add("--fusion_levels", type=positive, default=5, help="pyramid levels that have anchors, from P3 on (5)")
    add("--json", metavar="FILE", help="write the same as JSON (none)")
    return parser.parse_args(argv)


def add_data_options(parser: Parser) -> None:
    """Add the options of every tool that reads a data set."""
    parser.add_argument("data", metavar="DIR", help="folder of the data set; nothing is written to it")
    text = "how DIR is laid out, or the YAML file of an own set (flir_aligned)"
    parser.add_argument("--dataset", metavar="NAME|YAML", type=dataset_name, default="flir_aligned", help=text)
    text = "threads that read images (one per core)"
    parser.add_argument("--workers", type=positive, default=os.cpu_count(), help=text)


def check_output(option: str, file: str, data: str, dataset: str) -> Path:
    """Check that an output file can be written and is outside the data folder.

    Args:
        option: the option that names the file, for messages.
        file: the output file.
        data: folder of the data set.
        dataset: value of --dataset; its YAML file must not be overwritten.
    """
    path = Path(file)
    if path.resolve().is_relative_to(Path(data).resolve()):
        raise UserError(f"{option} {file}: expected a file outside the data folder {data}")
    if is_description(dataset) and path.resolve() == Path(dataset).resolve():
        raise UserError(f"{option} {file}: expected another file than that of --dataset")
    if not file or not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise UserError(f"{option} {file!r}: expected a file in a folder that exists")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise UserError(f"{option} {file}: expected a file that can be written, found: {error}") from None


def check(args: argparse.Namespace) -> dict[str, Any]:
    """Read everything and return the report, in plain values.

    Raises:
        UserError: the data set is not there, or of no known layout.
    """
    source, faults = locate(args.data, args.dataset), []
    data = open_source(source, faults.append)
    pairs, registration = read_pairs(data, args.workers)
    halves, unlisted = unlisted_files(source)
    kinds = {True: "missing images", False: "annotations"}
    problems = [Problem(kinds[isinstance(error, MissingImage)], str(error)) for error in faults]
    problems += _split_problems(source)
    twice = duplicates(pairs)  # first, since that explains a wrong size
    problems += [problem for pair in pairs for problem in pair.problems] + twice + halves
    compared = [pair for pair in pairs if pair.compared]
    warnings = [*data.warnings, *_blank(pairs), *_shifts(data, compared, registration)]
    if unlisted:
        number = f"{len(unlisted)} pair{'s' * (len(unlisted) > 1)}"
        warnings.append(f"{source.folder}: {number} that no list names, the first {unlisted[0]}")
    return {
        "data": args.data,
        "dataset": args.dataset,
        "layout": source.layout,
        "lists": {o: list_statistics(data, o) | _bits(o, pairs) for o in data.records},
        "anchors": anchors(data, args),
        "misregistration": _misregistration(registration),
        "problems": [problem._asdict() for problem in dict.fromkeys(problems)],  # lists may share a file
        "remarks": warnings,
    }


def read_pairs(data: PairedData, workers: int) -> tuple[list[Pair], Registration]:
    """Read all pairs beside a progress bar, and add up their correlations."""
    records = [record for mine in data.records.values() for record in mine]
    factor = working_factor([max(record.width, record.height) for record in records])
    registration, pairs = Registration(factor), []
    reading = inspect_pairs(data.records, factor, workers)
    try:
        for pair, correlation in tqdm(reading, "read pairs", len(records), leave=False, disable=None):
            pairs.append(pair)
            if correlation is not None:
                registration.add(correlation)
    finally:
        reading.close()
    return pairs, registration


def anchors(data: PairedData, args: argparse.Namespace) -> dict[str, Any]:
    """Return the share of training boxes that own an anchor, by scale; "better" is None where none is."""
    boxes = letterboxed_boxes(data.records["train"], args.image_size)
    scales = tuple(sorted({*SCALES, args.anchor_scale}))
    shares = anchor_shares(boxes, args.image_size, args.fusion_levels, scales) if len(boxes) else {}
    return {
        "image_size": list(args.image_size),
        "levels": args.fusion_levels,
        "boxes": len(boxes),
        "anchor_scale": args.anchor_scale,
        "shares": {f"{scale:g}": round(share, 4) for scale, share in shares.items()},
        "better": better_scale(shares, args.anchor_scale) if shares else None,
    }


def _split_problems(source: Source) -> list[Problem]:
    """Try the cut of the training list by the names in it, so that a missing file is not two faults."""
    named = {}
    for origin, one in source.lists.items():
        prefix = f"{origin}/" if source.names_repeat else ""
        named[origin] = {prefix + name for name in named_images(one) or ()}
    own_val = sorted(named["val"] - named["train"]) if "val" in named else None
    if not named["train"] or own_val == []:
        return []
    try:
        make_split(sorted(named["train"]), 0, own_val=own_val)
    except UserError as error:
        return [Problem("split", str(error))]
    return []


def _bits(origin: str, pairs: list[Pair]) -> dict[str, Any]:
    bits = sorted({pair.thermal_bits for pair in pairs if pair.origin == origin and pair.thermal_bits})
    return {"thermal_bits": bits}


def _blank(pairs: list[Pair]) -> list[str]:
    """Name each blank file once, whatever number of lists it is in."""
    lines = [f"{pair.path(m)}: one colour throughout" for pair in pairs for m in pair.blank]
    return list(dict.fromkeys(lines))


def _shifts(data: PairedData, compared: list[Pair], registration: Registration) -> list[str]:
    """Name a shift of the whole set, and pairs that lie apart from it."""
    shift = registration.shift()
    if shift is None or not shift.reliable:
        return []
    longest = max(max(pair.record.width, pair.record.height) for pair in compared)
    lines = []
    if max(abs(shift.dx), abs(shift.dy)) > max(AGREE_PX, SHIFT_SHARE * longest):
        lines.append(f"{data.name}: RGB lies {shift.dx}, {shift.dy} px (right, down) from thermal in the whole set")
    for number, (dx, dy) in registration.elsewhere().items():
        where = f"RGB seems to lie {dx}, {dy} px (right, down) from thermal"
        lines.append(f"{compared[number].path('rgb')}: {where}, the set {shift.dx}, {shift.dy}")
    return lines


def _misregistration(registration: Registration) -> dict[str, Any]:
    shift = registration.shift()
    if shift is None:
        return {}
    known = {"dx": shift.dx, "dy": shift.dy, "spread": shift.spread, "agreement": round(shift.agreement, 2)}
    return known | {"pairs": shift.pairs, "reliable": shift.reliable}


if __name__ == "__main__":
    sys.exit(main())

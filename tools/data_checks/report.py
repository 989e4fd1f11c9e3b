"""The report of `tools/check_data.py` as text: short tables, then every problem and every remark on its line."""

import os
import sys
from typing import Any

from tools.data_checks.box_statistics import AREAS, PERCENTILES
from tools.data_checks.registration import REACH
from tools.demo.summary import aligned
from utils.errors import printable

MAX_COLUMNS = 12  # classes; more are listed in lines of their own
SHOWN_SIZES = 3  # of images; a set of crops has as many as images
COUNTED = ("images", "pairs", "boxes", "classes", "images_without_boxes", "sizes", "box_px", "thermal_bits")


def in_words(report: dict[str, Any]) -> str:
    """Return the text."""
    lists = report["lists"]
    parts = [
        f"{report['data']}: {report['dataset']}, layout: {report['layout']}",
        aligned(_counts(lists, "pairs" if len(report["modalities"]) > 1 else "files")),
        *(["\n".join(f"boxes of {o}: {_classes(one)}" for o, one in lists.items())] if not _columns(lists) else []),
        "\n".join(f"images of {origin}: {_images(one)}" for origin, one in lists.items()),
        aligned(_box_sizes(lists)),
        _anchors(report["anchors"]),
        *([_misregistration(report["misregistration"])] if len(report["modalities"]) > 1 else []),
        _problems(report["problems"]),
        "\n".join([f"remarks: {len(report['remarks'])}", *(f"  {line}" for line in report["remarks"])]),
    ]
    return "\n".join(printable(line) for line in "\n\n".join(parts).split("\n"))


def show(text: str) -> None:
    """Print the text; a reader that has seen enough (head) is no fault."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python would complain at exit, when it writes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _counts(lists: dict[str, dict], unit: str) -> list[list[str]]:
    notes = {name: None for one in lists.values() for name in one if name not in COUNTED}  # ordered, each once
    classes = _columns(lists)
    head = ["list", "images", unit, "boxes", *classes, "no boxes", *(name.replace("_", " ") for name in notes)]
    rows = []
    for origin, one in lists.items():
        counts = [one["classes"][name] for name in classes]
        numbers = [one["images"], one["pairs"], one["boxes"], *counts, one["images_without_boxes"]]
        numbers += [one.get(name, 0) for name in notes]
        rows.append([origin, *(f"{number:,}" for number in numbers)])
    return [head, *rows]


def _columns(lists: dict[str, dict]) -> list[str]:
    """Return the classes that have a column; none where there are too many."""
    classes = list(next(iter(lists.values()))["classes"])
    return classes if len(classes) <= MAX_COLUMNS else []


def _classes(one: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in one["classes"].items() if number) or "none"


def _images(one: dict[str, Any]) -> str:
    """Give the most frequent sizes and the depth of the thermal files."""
    sizes = [f"{size} ({number:,})" for size, number in list(one["sizes"].items())[:SHOWN_SIZES]]
    if (more := len(one["sizes"]) - SHOWN_SIZES) > 0:
        sizes.append(f"{more} other sizes")
    bits = " and ".join(map(str, one["thermal_bits"]))
    return f"{', '.join(sizes) or 'none'}{f'; thermal of {bits} bits' if bits else ''}"


def _box_sizes(lists: dict[str, dict]) -> list[list[str]]:
    names = {"width": "width", "height": "height", "sqrt_area": "root of area"}
    rows = [[f"box px at {', '.join(map(str, PERCENTILES))} %", *names.values(), *AREAS]]
    for origin, one in lists.items():
        if box := one["box_px"]:
            sides = [", ".join(f"{side:.0f}" for side in box[name]) for name in names]
            rows.append([origin, *sides, *(f"{box[name]:,}" for name in AREAS)])
    return rows


def _anchors(anchors: dict[str, Any]) -> str:
    if not anchors["shares"]:
        return "anchors: no training boxes"
    height, width = anchors["image_size"]
    about = f"anchors at {width}x{height}, {anchors['levels']} levels: share of the {anchors['boxes']:,} training boxes"
    shares = {scale: f"{100 * share:.1f}" for scale, share in anchors["shares"].items()}
    table = [["anchor_scale", *shares], ["share %", *shares.values()]]
    given, better = f"{anchors['anchor_scale']:g}", "none of these is better by a point"
    if anchors["better"] is not None:
        scale = f"{anchors['better']:g}"
        better = f"better: --anchor_scale {scale} with {shares[scale]} %"
    words = f"--anchor_scale {given} has {shares[given]} %; {better}"
    return "\n".join([f"{about} with an anchor of IoU 0.5", aligned(table), words])


def _misregistration(shift: dict[str, Any]) -> str:
    if not shift:
        return "misregistration: no pairs to compare"
    agreement = f"{100 * shift['agreement']:.0f} % of ten groups agree"
    if not shift["reliable"]:
        return f"misregistration: no shift within {REACH} px that the {shift['pairs']:,} pairs agree on ({agreement})"
    where = f"RGB lies {shift['dx']}, {shift['dy']} px (right, down) from thermal"
    return f"misregistration: {where}, spread {shift['spread']} px, over {shift['pairs']:,} pairs ({agreement})"


def _problems(problems: list[dict[str, str]]) -> str:
    """List the problems under their kinds, which come in the order of their first."""
    messages: dict[str, list[str]] = {}
    for problem in problems:
        messages.setdefault(problem["kind"], []).append(problem["message"])
    lines = [f"problems: {len(problems)}"]
    for kind, of_kind in messages.items():
        lines += [f"  {kind}: {len(of_kind)}", *(f"    {message}" for message in of_kind)]
    return "\n".join(lines)

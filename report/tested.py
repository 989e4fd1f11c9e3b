"""Sections of what was tested: scenes, failing sensors, precision and recall, the gallery."""

from datasets.data_module import DataModule
from datasets.detection.corruptions import KINDS
from models.detection.streams import MODALITIES
from report import drawings
from report.gallery import MIN_SCORE, NUM_PAIRS, gallery, readable
from report.page import Block, Section, Table, Words
from report.run import NONE, Run, counted, number, points
from utils.coco_eval import precision_by_recall
from utils.errors import UserError, short

SCENE = "AP_scene_"


def by_scene(run: Run) -> Section:
    """Return AP by scene, where the data names scenes."""
    scenes = {name.removeprefix(SCENE): run.value(name) for name in run.results if name.startswith(SCENE)}
    values = {name: 100 * value for name, value in scenes.items() if value is not None}
    if not values:
        return Section("By scene", [])
    alt = "AP by scene: " + ", ".join(f"{name} {value:.1f}" for name, value in values.items())
    rows = [
        [n, counted(run.value(f"pairs_scene_{n}")), points(v), points(run.value(f"AP50_scene_{n}"))]
        for n, v in scenes.items()
    ]
    return Section(
        "By scene",
        [
            drawings.bars("AP by scene", values, alt, "points of 100"),
            Table(["scene", "pairs", "AP", "AP50"], rows),
        ],
    )


def robustness(run: Run) -> Section:
    """Return what the failure of a sensor costs, where that was tested."""
    known = run.read("robustness.json")
    if not known:
        return Section("Robustness", [])
    from report.robustness_plot import draw

    rows = robustness_rows(known, f"{run.path / 'robustness.json'}")
    clean, table = number(rows[0]["AP"], 0), []
    for row in rows:
        what = row["kind"].replace("_", " "), row["sensor"], str(row["severity"] or NONE)
        lost = NONE if row["AP"] is None else f"{100 * (row['AP'] - clean):+.1f}"
        table.append([*what, points(row["AP"]), lost])
    table[0][-1] = NONE
    worst = sorted(table[1:], key=lambda line: line[3] == NONE or float(line[3]))[:3]
    alt = f"AP with sensors dead, corrupted and shifted; clean {points(clean)}; lowest: "
    alt += "; ".join(f"{kind} of {sensor}, severity {severity}: {score}" for kind, sensor, severity, score, _ in worst)
    figure = draw(known | {"part": run.results.get("part"), "method": run.method}, rows)
    return Section(
        "Robustness",
        [drawings.picture(figure, alt), Table(["what", "sensor", "severity", "AP", "against clean"], table)],
    )


def robustness_rows(known: dict, source: str) -> list[dict]:
    """Return the rows of robustness.json, the clean test and others; UserError where they are none."""
    rows = known.get("rows")
    if not isinstance(rows, list) or len(rows) < 2 or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{source}: rows: expected the clean test and others, found {short(rows)}")
    for place, row in enumerate(rows):
        fits = {
            "kind": row.get("kind") in ((*KINDS,) if place else ("clean",)),
            "sensor": row.get("sensor") in ((*MODALITIES, "both") if place else ("none",)),
            "severity": type(row.get("severity")) is int,
            "AP": "AP" in row and (row["AP"] is None or number(row["AP"]) is not None),
        }
        if wrong := [name for name, right in fits.items() if not right]:
            found = short(row.get(wrong[0]))
            raise UserError(f"{source}: rows[{place}]: {wrong[0]}: expected one of a test, found {found}")
    return rows


def found_boxes(run: Run, parts: DataModule | None, part: str) -> list[Section]:
    """Return precision against recall, and the gallery, on a part of the data, where detections were written.

    Raises:
        UserError: the data are not those that the run was scored on.
    """
    if parts is None or not part or not (run.path / "detections.json").exists():
        return []
    if not run.finished:  # detections and scores of the best epoch are not written at one moment
        told = "Precision against recall and the gallery come when the run has finished."
        return [Section("Gallery", [Words(told)])]
    detections = run.read_list("detections.json")
    check_detections(detections, parts, f"{run.path / 'detections.json'}")
    records = readable(parts, part, run.bad_files)
    ids = [record.image_id for record in records]
    known = parts.data.ground_truth[parts.list_of(part)], detections, ids, parts.data.category_ids, parts.data.classes
    precision = precision_by_recall(*known)
    areas = {name: sum(values) / len(values) for name, values in precision.items()}
    check_score(run, "AP50" if run.kind == "test" else "AP50_val", areas)
    blocks: list[Block] = []
    if precision:
        words = ", ".join(f"{name} {points(area)}" for name, area in areas.items())
        alt = f"Precision against recall at IoU 0.5; the area below is AP50 in points of 100: {words}"
        blocks.append(drawings.precision_recall(precision, alt))
    told = f"The {NUM_PAIRS} pairs of {part} with the most missed objects; "
    told += f"detections of a score of at least {MIN_SCORE:g}."
    pictures = [Words(told), gallery(parts, part, records, detections, run.sensor)]
    return [Section("Precision and recall", blocks), Section("Gallery", pictures)]


def check_detections(detections: list[dict], parts: DataModule, source: str) -> None:
    """Refuse what is no list of detections of the data's classes."""
    known = set(parts.data.category_ids)
    for place, one in enumerate(detections):
        box = one.get("bbox")
        right = isinstance(box, list) and len(box) == 4 and all(number(side) is not None for side in box)
        named = isinstance(one.get("image_id"), str | int) and type(one.get("category_id")) is int
        if not right or not named or number(one.get("score")) is None or one["category_id"] not in known:
            raise UserError(
                f"{source}: entry {place}: expected bbox, score and a category_id of the data, found {short(one)}"
            )


def check_score(run: Run, name: str, areas: dict[str, float]) -> None:
    """Refuse data on which the detections of a run do not score what it says: its own have moved or changed."""
    told, found = run.value(name), sum(areas.values()) / len(areas) if areas else None
    if (told is None) != (found is None) or (told is not None and abs(told - found) > 1e-6):
        raise UserError(
            f"{run.path}: data: expected those of the run, on which its detections have {name} {told}, found others "
            f"with {found}"
        )

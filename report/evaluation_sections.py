"""Sections of an evaluation: scenes, sensor failures, precision and recall, the gallery of detections."""

from datasets.detection.corruptions import KINDS
from models.detection.streams import MODALITIES
from report import drawings
from report.formatting import NONE, counted, number, points
from report.gallery import gallery
from report.page import Block, Section, Table, Words
from report.plots import MIN_SCORE, NUM_PAIRS
from report.robustness_plot import draw
from report.run import NUMBER, Run
from utils.coco_eval import Scoring
from utils.errors import UserError, short
from utils.untrusted import check_field

SCENE = "AP_scene_"


def by_scene(run: Run) -> Section:
    """Return AP by scene, if the data names scenes."""
    scenes = {name.removeprefix(SCENE): run.value(name) for name in run.results if name.startswith(SCENE)}
    values = {name: 100 * value for name, value in scenes.items() if value is not None}
    if not values:
        return Section("By scene", [])
    alt = "AP by scene: " + ", ".join(f"{name} {value:.1f}" for name, value in values.items())
    pairs, fifty = ({n: run.value(f"{what}_scene_{n}") for n in scenes} for what in ("pairs", "AP50"))
    rows = [[n, counted(pairs[n]), points(value), points(fifty[n])] for n, value in scenes.items()]
    chart = drawings.bars("AP by scene", values, alt, "points of 100")
    return Section("By scene", [chart, Table(["scene", "pairs", "AP", "AP50"], rows)])


def robustness(run: Run) -> Section:
    """Return AP with failing sensors, if that was tested."""
    content = run.read("robustness.json")
    if not content:
        return Section("Robustness", [])
    rows = robustness_rows(content, f"{run.path / 'robustness.json'}")
    clean, table = number(rows[0]["AP"], 0), []
    for row in rows:
        case = row["kind"].replace("_", " "), row["sensor"], str(row["severity"] or NONE)
        lost = NONE if row["AP"] is None else f"{100 * (row['AP'] - clean):+.1f}"
        table.append([*case, points(row["AP"]), lost])
    table[0][-1] = NONE
    worst = sorted(table[1:], key=lambda line: line[3] == NONE or float(line[3]))[:3]
    alt = f"AP with sensors dead, corrupted and shifted; clean {points(clean)}; lowest: "
    alt += "; ".join(f"{kind} of {sensor}, severity {severity}: {score}" for kind, sensor, severity, score, _ in worst)
    figure = draw(content | {"part": run.results.get("part"), "method": run.method}, rows)
    head = ["what", "sensor", "severity", "AP", "against clean"]
    return Section("Robustness", [drawings.picture(figure, alt), Table(head, table)])


def robustness_rows(content: dict, source: str) -> list[dict]:
    """Return the checked rows of robustness.json: the clean test and at least one other; UserError if they differ."""
    rows = content.get("rows")
    if not isinstance(rows, list) or len(rows) < 2 or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{source}: rows: expected the clean test and others, found {short(rows)}")
    for place, row in enumerate(rows):
        kinds, sensors = (KINDS, (*MODALITIES, "both")) if place else (("clean",), ("none",))
        fields = {
            "kind": (kinds.__contains__, " or ".join(kinds)),
            "sensor": (sensors.__contains__, " or ".join(sensors)),
            "severity": (lambda value: type(value) is int, "a whole number"),
            "AP": (lambda value: value is None or number(value) is not None, "a number or none"),
        }
        for name, check in fields.items():
            check_field(row, name, check, f"{source}: rows[{place}]")
    return rows


def detections(run: Run) -> list[Section]:
    """Return precision against recall and the gallery, if the run has its data and has written detections.

    Raises:
        UserError: the data is not the data that the run was scored on.
    """
    part = run.results.get("part", "" if run.kind == "test" else "val")
    if run.data_module is None or not part or not (run.path / "detections.json").exists():
        return []
    if not run.finished:  # detections.json and metrics.jsonl may be of different epochs
        note = "Precision against recall and the gallery come when the run has finished."
        return [Section("Gallery", [Words(note)])]
    data, truth = run.data_module.data, run.data_module.data.ground_truth[run.data_module.list_of(part)]
    check_detections(run, data.category_ids)
    ids = [record.image_id for record in run.records(part)]
    precision = Scoring(truth, run.detections, ids, data.category_ids, data.classes).precision_by_recall()
    areas = {name: sum(values) / len(values) for name, values in precision.items()}
    check_score(run, "AP50" if run.kind == "test" else "AP50_val", areas)
    words = ", ".join(f"{name} {points(area)}" for name, area in areas.items())
    alt = f"Precision against recall at IoU 0.5; the area below is AP50 in points of 100: {words}"
    blocks: list[Block] = [drawings.precision_recall(precision, alt)] if precision else []
    note = f"The {NUM_PAIRS} {run.unit} of {part} with the most missed objects; "
    note += f"detections of a score of at least {MIN_SCORE:g}."
    return [Section("Precision and recall", blocks), Section("Gallery", [Words(note), gallery(run, part)])]


def check_detections(run: Run, category_ids: list[int]) -> None:
    """Check that each entry of detections.json is a detection of one of the data's classes."""
    fields = {
        "image_id": (lambda value: isinstance(value, str | int), "text or a whole number"),
        "category_id": (lambda value: type(value) is int and value in category_ids, "a category_id of the data"),
        "bbox": (lambda box: isinstance(box, list) and len(box) == 4 and None not in map(number, box), "four numbers"),
        "score": NUMBER,
    }
    for place, entry in enumerate(run.detections):  # some ten thousand, so words are made for a wrong one alone
        for name, (fits, expected) in fields.items():
            if name not in entry or not fits(entry[name]):
                check_field(entry, name, (fits, expected), f"{run.path / 'detections.json'}: entry {place}")


def check_score(run: Run, name: str, areas: dict[str, float]) -> None:
    """Check that the detections of a run have the score that it reports; if not, the data has moved or changed."""
    expected, score = run.value(name), sum(areas.values()) / len(areas) if areas else None
    if (expected is None) != (score is None) or (expected is not None and abs(expected - score) > 1e-6):
        expected = f"expected those of the run, on which its detections have {name} {expected}"
        raise UserError(f"{run.path}: data: {expected}, found others with {score}")

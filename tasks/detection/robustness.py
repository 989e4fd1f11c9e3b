"""`--robustness`: a trained run tested with its sensors dead, corrupted or shifted; writes robustness.json and .png.

What is done to the pictures: datasets/detection/corruptions.py; the numbers: docs/robustness.md.
"""

import argparse
import time

from datasets.detection.corrupted import corrupted_loader
from datasets.detection.corruptions import KINDS
from engine.robustness import Answers, Condition, conditions_of, detect_under, sensors_of
from engine.step import Compute
from tasks.detection import task as detection
from utils.errors import UserError
from utils.found import Trained
from utils.progress_bar import bar
from utils.run_folder import RunFolder, read_json

FACTS = ("part", "pairs", "method", "eval_exp_dir", "epoch", "seed", "protocol", "split", "checkpoint_split", "commit")


def planned(args: argparse.Namespace, trained: Trained) -> dict[str, list[Condition]]:
    """Return the conditions of each kind that --robustness asks for; of all kinds where it names none.

    Raises:
        UserError: a kind that it names changes nothing that the network reads.
    """
    sensors = sensors_of(trained.model)
    conditions = {kind: conditions_of(kind, sensors) for kind in dict.fromkeys(args.robustness or KINDS)}
    without = [kind for kind, own in conditions.items() if not own]
    if args.robustness and without:
        raise UserError(f"--robustness {without[0]}: no effect on a network that reads {' and '.join(sensors)} alone")
    return {kind: own for kind, own in conditions.items() if own}


def test_robustness(
    trained: Trained,
    conditions: dict[str, list[Condition]],
    compute: Compute,
    run: RunFolder,
    metrics: dict[str, float | None],
    facts: dict[str, object],
) -> None:
    """Test under each condition; writes robustness.json and robustness.png into the run folder of the clean test.

    Args:
        metrics: of the clean test.
        facts: what results record of the run.
    """
    started = time.perf_counter()
    part, rows = trained.args.eval_part, [row_of(Condition("none", "clean", 0), metrics, metrics["AP"])]
    with bar(None, "conditions", sum(map(len, conditions.values()))) as shown:
        for kind, own in conditions.items():
            batches = corrupted_loader(trained.parts, part, kind, trained.state["args"]["seed"])
            for condition, answers in detect_under(trained.model, detection, compute, batches, own).items():
                if run.is_writer:
                    rows.append(row_of(condition, score(trained, part, answers), metrics["AP"]))
                shown.update()
            for line in in_words(rows, kind):
                run.log(line)
    if not run.is_writer:
        return
    told = {name: facts[name] for name in (*FACTS, "scenes") if name in facts}
    path = run.write_json("robustness.json", told | {"rows": rows})
    from report.robustness_plot import plot_robustness  # draws, which nothing else here does

    plot_robustness(told, rows, run.path / "robustness.png")
    timing = read_json(run.path / "timing.json")
    run.write_json("timing.json", timing | {"robustness_wall_seconds": round(time.perf_counter() - started, 3)})
    run.log(f"robustness: {path}")


def score(trained: Trained, part: str, answers: Answers) -> dict[str, float | None]:
    """Return the metrics of what was found."""
    evaluator = detection.make_evaluator(trained.parts, part)
    for batch, predictions in answers:
        evaluator.add(batch, predictions)
    return evaluator.compute()


def row_of(condition: Condition, metrics: dict[str, float | None], clean: float | None) -> dict[str, object]:
    """Return the row of a condition; "relative" is AP as a share of the clean AP, None where that is none or zero."""
    ap = metrics["AP"]
    relative = ap / clean if clean and ap is not None else None
    return condition._asdict() | {"AP": ap, "AP50": metrics["AP50"], "relative": relative}


def in_words(rows: list[dict], kind: str) -> list[str]:
    """Say the AP of a kind over its severities, a line per sensor."""
    own: dict[str, list[str]] = {}
    for row in rows:
        if row["kind"] == kind:
            number = "none" if row["AP"] is None else f"{row['AP']:.4f}"
            own.setdefault(row["sensor"], []).append(f"{row['severity']}: {number}")
    return [f"{kind}, {sensor}: AP at severity {', '.join(numbers)}" for sensor, numbers in own.items()]

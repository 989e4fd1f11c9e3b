"""`--robustness`: a trained run tested with its sensors dead, corrupted or shifted; writes robustness.json and .png.

What is done to the pictures: datasets/detection/corruptions.py; the numbers: docs/robustness.md.
"""

import time
from typing import Any

from datasets.data_module import DataModule
from datasets.detection.corruptions import KINDS, corrupted_loader
from engine.compute import Compute
from engine.task import ExtraTest, Metrics, Task
from tasks.detection.conditions import Answers, Condition, conditions_of, detect_under, sensors_of
from utils.errors import UserError
from utils.progress_bar import bar
from utils.run_folder import RunFolder, read_json

FACTS = ("part", "pairs", "method", "eval_exp_dir", "epoch", "seed", "protocol", "split", "checkpoint_split", "commit")


class Robustness(ExtraTest):
    """Test the run under each condition, after the clean test.

    Args:
        task: the detection task.
        kinds: of corruption; none: all.
    """

    def __init__(self, task: Task, kinds: list[str]):
        self.task, self.kinds, self.conditions = task, kinds, {}

    def plan(self, trained: list[Any]) -> dict[str, Any]:
        sensors = sensors_of(trained[0].model)
        conditions = {kind: conditions_of(kind, sensors) for kind in dict.fromkeys(self.kinds or KINDS)}
        without = [kind for kind, listed in conditions.items() if not listed]
        if self.kinds and without:
            found = " and ".join(sensors)
            raise UserError(f"--robustness {without[0]}: no effect on a network that reads {found} alone")
        self.conditions = {kind: listed for kind, listed in conditions.items() if listed}
        return {"conditions": sum(map(len, self.conditions.values()))}

    def finish(self, trained: list[Any], compute: Compute, run: RunFolder, metrics: Metrics, facts: dict) -> None:
        """Write robustness.json and robustness.png into the run folder of the clean test."""
        started, run_tested = time.perf_counter(), trained[0]
        rows = [row_of(Condition("none", "clean", 0), metrics, metrics["AP"])]
        part, seed = run_tested.options.eval_part, run_tested.state["args"]["seed"]
        with bar(None, "conditions", sum(map(len, self.conditions.values()))) as shown:
            for kind, conditions in self.conditions.items():
                batches = corrupted_loader(run_tested.data, part, kind, seed)
                found = detect_under(run_tested.model, self.task, compute, batches, conditions)
                for condition, answers in found.items():
                    if run.is_writer:
                        scores = score(self.task, run_tested.data, part, answers)
                        rows.append(row_of(condition, scores, metrics["AP"]))
                    shown.update()
                for line in in_words(rows, kind):
                    run.log(line)
        if run.is_writer:
            from report.robustness_plot import draw  # imports matplotlib, which nothing else here does

            shown_facts = {name: facts[name] for name in (*FACTS, "scenes") if name in facts}
            path = run.write_json("robustness.json", shown_facts | {"rows": rows})
            draw(shown_facts, rows).savefig(run.path / "robustness.png")
            run.log(f"robustness: {path}")
            timing = read_json(run.path / "timing.json")
            run.write_json("timing.json", timing | {"robustness_wall_seconds": round(time.perf_counter() - started, 3)})


def score(task: Task, data: DataModule, part: str, answers: Answers) -> Metrics:
    """Return the metrics of what was found."""
    evaluator = task.make_evaluator(data, part)
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

"""A run folder as a report reads it."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets.data_module import DataModule
from datasets.detection.dataset import DetectionRecord
from datasets.splits import Split
from engine.progress import metric_of
from models.detection.baselines import ONNX, words_of_onnx
from models.search.architecture import Architecture
from models.search.fusion_cells.genotype import Genotype
from models.search.parts import read_any
from report.formatting import LARGEST, number
from report.metrics import read_metrics
from utils import checkpoint
from utils.errors import UserError
from utils.files import faults_named
from utils.run_folder import ALPHAS, COMMAND, FOLD_SUFFIX, SEED_SUFFIX, RunFolder, read_json
from utils.untrusted import FOLDER, check_field

KINDS = ("pretrain", "search", "found", "test")
KIND = (KINDS.__contains__, f"a run folder, of kind {', '.join(KINDS)}")
NUMBER = (lambda value: number(value) is not None, "a number")
PART = (lambda value: value in ("test", "val"), "test or val")
GENOTYPE_ID = re.compile(r"genotype [0-9a-f]+")
SOURCES = {"search_exp_dir": "searched", "random_genotype": "random genotype", "genotype": "given genotype"}


@dataclass(frozen=True)
class Run:
    """A run folder, finished or not. Each file is read at its first use.

    Args:
        path: the run folder.
        data_module: the run's data, for precision against recall and the gallery.

    Raises:
        UserError: the folder is not a run folder, or a file in it is damaged.
    """

    path: Path
    data_module: DataModule | None = None

    @cached_property
    def command(self) -> dict[str, Any]:
        """The content of command.json."""
        return self.read(COMMAND)

    @cached_property
    def kind(self) -> str:
        check_field(self.command, "kind", KIND, f"{self.path / COMMAND}")
        return self.command["kind"]

    def read(self, name: str) -> dict[str, Any]:
        """Return a JSON object; {} if the file does not exist."""
        return read_json(self.path / name, default={})

    def read_list(self, name: str) -> list[dict[str, Any]]:
        """Return a JSON list of objects; [] if the file does not exist."""
        path = self.path / name
        items = read_json(path, list, default=[])
        if not all(isinstance(item, dict) for item in items):
            raise UserError(f"{path}: expected a list of JSON objects, found another")
        return items

    @cached_property
    def detections(self) -> list[dict[str, Any]]:
        """The content of detections.json."""
        return self.read_list("detections.json")

    @cached_property
    def args(self) -> dict[str, Any]:
        path = self.path / "args.json"
        args = read_json(path)
        check_field(args, "data", FOLDER, str(path))
        check_field({"epochs": 0} | args, "epochs", NUMBER, str(path))
        return args

    @cached_property
    def split(self) -> Split | None:
        path = self.path / "split.json"
        return Split.from_json(read_json(path), str(path)) if path.exists() else None

    @cached_property
    def results(self) -> dict[str, Any]:
        results = self.read("results.json")
        if results:
            check_field(results, "part", PART, f"{self.path / 'results.json'}")
        return results

    @cached_property
    def rows(self) -> list[dict]:
        """The epochs of all phases."""
        return read_metrics(self.path) if RunFolder(self.path).rows() else []

    @cached_property
    def alphas(self) -> list[dict]:
        """The relaxed weights of a search after each finished epoch."""
        finished_epochs = {row["epoch"] for row in self.rows if "phase" not in row}
        rows = RunFolder(self.path).rows(ALPHAS)
        all_weights = [dict(_leaves(row.get("levels"))) for row in rows]
        for row, weights in zip(rows, all_weights):
            fits = all(len(place) == 4 and place[1] in ("edges", "ops") for place in weights)
            if not fits or weights.keys() != all_weights[0].keys() or None in map(number, weights.values()):
                expected = "expected weights by level, kind (edges or ops), step and name"
                raise UserError(f"{self.path / ALPHAS}: {expected}, found another")
            check_field(row, "epoch", NUMBER, f"{self.path / ALPHAS}")
        return [row for row in rows if row["epoch"] in finished_epochs]

    @cached_property
    def environment(self) -> dict[str, str]:
        """The entries of env.txt; of a resumed run those of the last process."""
        path = self.path / "env.txt"
        with faults_named(path):
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return dict(line.partition(": ")[::2] for line in text.splitlines() if line)

    @property
    def finished(self) -> bool:
        return (self.path / "finished.json").exists() or bool(self.results)

    @cached_property
    def trained(self) -> "Run | None":
        """The training that a test evaluates, None if its folder does not exist; for other runs the run itself."""
        if self.kind != "test":
            return self
        folder = Path(str(self.results.get("eval_exp_dir", "")))
        # A relative path is relative to the folder of runs/.
        paths = (self.path.resolve().parents[1] / folder, folder)
        return next((Run(path) for path in paths if os.path.exists(path / "args.json")), None)

    @cached_property
    def architecture(self) -> Architecture | None:
        """The architecture that was derived or trained; for a test that of its training, if the folder exists."""
        path = self.trained.path / "genotype.json" if self.trained and "fused" not in self.results else None
        return read_any(path) if path and path.exists() else None

    @property
    def genotype(self) -> Genotype | None:
        """The fusion cells of the architecture, if it has any."""
        return self.architecture.parts.get("fusion") if self.architecture else None

    @cached_property
    def bad_files(self) -> list[str]:
        """Names of the samples that a training skipped because a file was unreadable; best.pt lists them."""
        if not any(row.get("bad_files") for row in self.rows):
            return []
        names = checkpoint.load(self.path / "best.pt").get("bad_files")
        return names if isinstance(names, list) else []

    def records(self, part: str) -> list[DetectionRecord]:
        """Return the records of a part of the data, without those that the run skipped."""
        unreadable = {*self.bad_files, *self.data_module.bad_files.names}
        return [record for record in self.data_module.records(part) if record.file_name not in unreadable]

    @property
    def is_onnx(self) -> bool:
        """Whether the network is the ONNX file of a detector trained elsewhere."""
        return str(self.args.get("baseline")).startswith(ONNX)

    @property
    def sensor(self) -> str:
        """The modality on whose images boxes are drawn: thermal, or rgb for networks that read only RGB."""
        channels = self.data_module.data.channels
        alone = self.args.get("camera", "rgb" if self.method.startswith("rgb") else None)
        return alone or ("thermal" if "thermal" in channels else "rgb")

    @cached_property
    def method(self) -> str:
        """What was searched, trained or tested; equal for runs that differ only in the seed."""
        if self.kind == "search":
            return f"{self.args.get('strategy')}, {self.args.get('space', self.args.get('tower_space'))}"
        if self.kind == "pretrain":
            return f"pretraining, {self.args.get('modality', self.args.get('camera'))}"
        if self.kind == "test":
            method = GENOTYPE_ID.sub("genotype", str(self.results.get("method")))
            if "fused" in self.results:
                return f"{method} of {GENOTYPE_ID.sub('genotype', str(self.results['fused']))}"
            return self.trained.method if self.trained else method
        if self.is_onnx:
            return words_of_onnx(self.args["baseline"], self.args.get("onnx_modality"))
        if self.args.get("baseline"):
            return f"{self.args['baseline']}{' widened' if self.args.get('widen') else ''}"
        return next((words for name, words in SOURCES.items() if self.args.get(name) is not None), "genotype")

    @cached_property
    def label(self) -> str:
        """The method and --save; runs of one method over several seeds or folds have the same label."""
        saved = (self.trained or self).args.get("save", "EXP") if "fused" not in self.results else "EXP"
        save = re.sub(rf"({SEED_SUFFIX}|{FOLD_SUFFIX})\d+$", "", str(saved))
        return self.method if save in ("EXP", self.method.replace(" ", "_")) else f"{self.method} ({save})"

    @property
    def seed(self) -> str:
        return str(self.results.get("seed", self.args.get("seed")))

    @property
    def seconds(self) -> float | None:
        """The seconds of all phases; None if the run does not say."""
        timing = self.read("timing.json")
        seconds = [number(value) for name, value in timing.items() if name.endswith("wall_seconds")]
        return sum(seconds) if seconds and None not in seconds else None

    @cached_property
    def metric(self) -> str:
        """The name of the metric by which the task chooses an epoch, such as AP."""
        if self.kind == "test":
            return next(iter(self.results), "AP")
        return metric_of(self.rows[0]) if self.rows else "AP"

    @property
    def unit(self) -> str:
        """What the data is counted in: pairs or examples; runs of older versions do not say."""
        unit = self.command.get("unit")
        return unit if isinstance(unit, str) else "pairs" if self.metric == "AP" else "examples"

    @property
    def score(self) -> float | None:
        """The metric: of a test its result, of other runs that of the best epoch."""
        return self.value(self.metric if self.kind == "test" else f"{self.metric}_val")

    def best_by(self, field: str, rows: Iterable[dict]) -> dict[str, float]:
        """Return the best metric on val of the epochs that share a value of a field; a score that is missing loses."""
        best: dict[str, float] = {}
        for row in rows:
            name = str(row.get(field, ""))
            best[name] = max(best.get(name, 0), number(row.get(f"{self.metric}_val"), 0))
        return best

    @cached_property
    def best(self) -> dict[str, Any] | None:
        """The best epoch on val of a run of one phase; the first of several that are equal."""
        rows = [row for row in self.rows if "phase" not in row]
        return max(rows, key=lambda row: number(row.get(f"{self.metric}_val"), -LARGEST), default=None)

    def value(self, name: str) -> float | None:
        """Return a number of a test's results, or of the best epoch of other runs; None if there is none."""
        row = self.results if self.kind == "test" else self.best or {}
        return number(row.get(name))


def _leaves(value: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give what nested objects hold, with the names that lead to it."""
    if not isinstance(value, dict) or not value:
        yield names, value
        return
    for name, inner in value.items():
        yield from _leaves(inner, *names, name)

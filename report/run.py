"""What a report reads of a run folder, and how it words numbers."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets.splits import Split
from engine.progress import metric_of
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.genotype_file import read_any
from report.plots import read_metrics
from utils import checkpoint
from utils.errors import UserError, short
from utils.files import faults_named
from utils.run_folder import ALPHAS, COMMAND, METRICS, SEED_SUFFIX, RunFolder, read_json

KINDS = ("pretrain", "search", "found", "test")
NONE = "–"
LARGEST = 1e300  # and not NaN, which is less than nothing
GENOTYPE_ID = re.compile(r"genotype [0-9a-f]+")


@dataclass(frozen=True)
class Run:
    """A run folder, finished or not; files are read when they are asked for.

    Raises:
        UserError: it is no run folder of ours, or a file in it is damaged.
    """

    path: Path

    @cached_property
    def kind(self) -> str:
        kind = self.read(COMMAND).get("kind") if (self.path / COMMAND).exists() else None
        if kind not in KINDS:
            raise UserError(
                f"{self.path}: expected a run folder, its {COMMAND} naming one of {', '.join(KINDS)}, "
                f"found {short(kind) if kind else 'none'}"
            )
        return kind

    def read(self, name: str) -> dict[str, Any]:
        """Return a JSON object; {} where the file is not there."""
        return read_json(self.path / name) if (self.path / name).exists() else {}

    def read_list(self, name: str) -> list[dict[str, Any]]:
        """Return a JSON list of objects; [] where the file is not there."""
        path = self.path / name
        if not path.exists():
            return []
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: expected a JSON file, found: {error}") from None
        if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
            raise UserError(f"{path}: expected a list of JSON objects, found another")
        return data

    @cached_property
    def args(self) -> dict[str, Any]:
        args, path = read_json(self.path / "args.json"), self.path / "args.json"
        if not isinstance(args.get("data"), str) or "\0" in args["data"]:
            raise UserError(f"{path}: data: expected a folder, found {short(args.get('data'))}")
        if "epochs" in args and number(args["epochs"]) is None:
            raise UserError(f"{path}: epochs: expected a number, found {short(args['epochs'])}")
        return args

    @cached_property
    def split(self) -> Split | None:
        path = self.path / "split.json"
        return Split.from_json(read_json(path), str(path)) if path.exists() else None

    @cached_property
    def results(self) -> dict[str, Any]:
        results = self.read("results.json")
        if results and results.get("part") not in ("test", "val"):
            raise UserError(
                f"{self.path / 'results.json'}: part: expected test or val, found {short(results.get('part'))}"
            )
        return results

    @cached_property
    def rows(self) -> list[dict]:
        """Epochs, of all phases."""
        rows = read_metrics(self.path) if RunFolder(self.path).rows() else []
        for row in rows:
            for name, value in row.items():
                if (name == "epoch" or name.startswith("count_")) and number(value) is None:
                    raise UserError(f"{self.path / METRICS}: {name}: expected a number, found {short(value)}")
        return rows

    @cached_property
    def alphas(self) -> list[dict]:
        """The relaxed weights of a search at the epochs that are over."""
        done = {row["epoch"] for row in self.rows if "phase" not in row}
        rows = RunFolder(self.path).rows(ALPHAS)
        shapes = [_shape(row.get("levels")) for row in rows]
        if not all(_is_weights(row.get("levels"), 4) for row in rows) or any(s != shapes[0] for s in shapes):
            raise UserError(f"{self.path / ALPHAS}: expected weights by level, kind, step and name, found another")
        kinds = {name for row in rows for level in row["levels"].values() for name in level}
        if kinds - {"edges", "ops"} or not all(type(row.get("epoch")) is int for row in rows):
            raise UserError(f"{self.path / ALPHAS}: expected epochs, and weights of edges and ops, found others")
        return [row for row in rows if row["epoch"] in done]

    @cached_property
    def environment(self) -> dict[str, str]:
        """What env.txt says of the process that ended the run."""
        path = self.path / "env.txt"
        with faults_named(path):
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return dict(line.partition(": ")[::2] for line in text.splitlines() if line)

    @property
    def finished(self) -> bool:
        return (self.path / "finished.json").exists() or bool(self.results)

    @cached_property
    def trained(self) -> "Run | None":
        """The training that a test is of, None where its folder is gone; any other run itself."""
        if self.kind != "test":
            return self
        named = Path(str(self.results.get("eval_exp_dir", "")))
        for path in (self.path.resolve().parents[1] / named, named):  # a relative one begins where runs/ lies
            if _is_there(path / "args.json"):
                return Run(path)
        return None

    @cached_property
    def fused(self) -> bool:
        """Whether a test is of two runs' boxes."""
        return "fused" in self.results

    @cached_property
    def genotype(self) -> Genotype | None:
        """The genotype that was found or trained; of a test that of the trained run, where its folder is there."""
        path = self.trained.path / "genotype.json" if self.trained and not self.fused else None
        return read_any(path) if path and path.exists() else None

    @cached_property
    def bad_files(self) -> list[str]:
        """Names of the pairs that a training left out; its checkpoint has them."""
        if not any(row.get("bad_files") for row in self.rows):
            return []
        names = checkpoint.load(self.path / "best.pt").get("bad_files")
        return names if isinstance(names, list) else []

    @property
    def sensor(self) -> str:
        """The sensor on whose picture boxes are drawn: thermal, but for networks of RGB alone."""
        return "rgb" if self.method.startswith("rgb") else "thermal"

    @cached_property
    def method(self) -> str:
        """What was searched, trained or tested, without what differs from seed to seed."""
        if self.kind == "search":
            return f"{self.args.get('strategy')}, {self.args.get('space')}"
        if self.kind == "pretrain":
            return f"pretraining, {self.args.get('modality')}"
        if self.kind == "test":
            named = GENOTYPE_ID.sub("genotype", str(self.results.get("method")))
            if self.fused:
                return f"{named} of {GENOTYPE_ID.sub('genotype', str(self.results['fused']))}"
            return self.trained.method if self.trained else named
        if self.args.get("baseline"):
            return f"{self.args['baseline']}{' widened' if self.args.get('widen') else ''}"
        sources = {"search_exp_dir": "searched", "random_genotype": "random genotype", "genotype": "given genotype"}
        return next((words for name, words in sources.items() if self.args.get(name) is not None), "genotype")

    @cached_property
    def label(self) -> str:
        """Method and --save, by which runs of other seeds are recognised."""
        saved = (self.trained or self).args.get("save", "EXP") if not self.fused else "EXP"
        save = re.sub(rf"{SEED_SUFFIX}\d+$", "", str(saved))
        return self.method if save in ("EXP", self.method.replace(" ", "_")) else f"{self.method} ({save})"

    @property
    def seed(self) -> str:
        return str(self.results.get("seed", self.args.get("seed")))

    @property
    def seconds(self) -> float | None:
        """Of all phases; None where the run does not say."""
        timing = self.read("timing.json")
        known = [number(value) for name, value in timing.items() if name.endswith("wall_seconds")]
        return sum(known) if known and None not in known else None

    @cached_property
    def metric(self) -> str:
        """The name of the number by which its task chooses an epoch: AP of detection."""
        if self.kind == "test":
            return next(iter(self.results), "AP")
        return metric_of(self.rows[0]) if self.rows else "AP"

    @property
    def unit(self) -> str:
        """What its data are counted in."""
        return "pairs" if self.metric == "AP" else "examples"

    @property
    def score(self) -> float | None:
        """That number: of a test its own, else that of the best epoch."""
        return self.value(self.metric if self.kind == "test" else f"{self.metric}_val")

    @cached_property
    def best(self) -> dict[str, Any] | None:
        """The epoch that counts, of a run of one phase: the first with the best METRIC on val."""
        rows = [row for row in self.rows if "phase" not in row]
        return max(rows, key=lambda row: number(row.get(f"{self.metric}_val"), -1), default=None)

    def value(self, name: str) -> float | None:
        """Return a number of the results of a test, or of the best epoch, else None."""
        row = self.results if self.kind == "test" else self.best or {}
        return number(row.get(name))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _is_weights(value: Any, depth: int) -> bool:
    """Return whether a value is a number, below so many layers of objects that are not empty."""
    if depth == 0:
        return number(value) is not None
    return isinstance(value, dict) and bool(value) and all(_is_weights(one, depth - 1) for one in value.values())


def _shape(value: Any) -> Any:
    """Return the names in nested objects."""
    return {name: _shape(one) for name, one in value.items()} if isinstance(value, dict) else None


def number(value: Any, otherwise: float | None = None) -> Any:
    """Return a value that is a finite number, else the other."""
    return value if type(value) in (int, float) and abs(value) < LARGEST else otherwise


def points(value: Any) -> str:
    """Return a share of 0..1 in points of 100."""
    return NONE if number(value) is None else f"{100 * value:.1f}"


def counted(value: Any) -> str:
    """Return a whole number with its thousands apart."""
    return NONE if number(value) is None else f"{value:,.0f}"


def duration(seconds: Any) -> str:
    """Return seconds as people say them."""
    if number(seconds) is None:
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"

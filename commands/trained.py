"""A finished training, rebuilt from its best.pt: options, data and network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from commands.run import cache_options
from engine.compute import Compute
from engine.encoder_weights import RECORDED
from engine.feature_caching import cached
from engine.feature_fill import Encoding
from engine.nonfinite import Guard
from engine.step import Session, validator
from engine.task import Metrics, Task
from models.search.architecture import Architecture, architecture_from_json
from models.search.parameters import count_parameters
from utils import checkpoint
from utils.args import Options, same
from utils.distributed import ranks
from utils.errors import UserError, short
from utils.run_folder import commit
from utils.untrusted import check_fields, options_from_run


@dataclass(frozen=True)
class Trained:
    """A finished training: its folder, checkpoint, options, data, network and architecture (None: a baseline)."""

    task: Task
    path: Path
    state: dict
    options: Options
    data: Any
    model: nn.Module
    architecture: Architecture | None

    @property
    def method(self) -> str:
        """What results say was tested."""
        return f"genotype {self.architecture.id}" if self.architecture else self.task.method(self.options)

    @property
    def num_parameters(self) -> int:
        return self.task.num_parameters(self.model)

    def test(self, part: str, compute: Compute, log: Callable[[str], None]) -> tuple[Metrics, list[dict]]:
        """Return the metrics of a part, and the answers that they are of."""
        model = compute.place(self.model)
        data = cached(Encoding(self.data, model, compute), cache_options(self.options), log, plain=(part,))
        session = Session(model, self.task, compute, Guard(compute.device))
        validate, answers = validator(session, data, part, full=True)
        metrics = validate()
        for line in self.task.answer_warnings(self.data, self.model, part, answers):
            log(line)
        return metrics, answers

    def facts(self, part: str) -> dict[str, Any]:
        """Return what results record beside the metrics."""
        state, meta = self.state, self.architecture.meta if self.architecture else {}
        progress = state["progress"]
        fusion = count_parameters(self.model) - count_parameters(self.model.streams) - count_parameters(self.model.head)
        facts = {"part": part, "pairs": len(self.data.records(part)), "method": self.method}
        facts |= {"eval_exp_dir": str(self.path), "epoch": progress["best_epoch"]}
        facts |= {f"{self.task.metric}_val": progress["best"], "seed": state["args"]["seed"]}
        facts |= {"bad_files": len(state["bad_files"]), "parameters": self.num_parameters}
        facts |= {"parameters_fusion": fusion}
        facts |= self.task.costs(self.model, self.options)
        facts |= {"protocol": state["protocol"], "split": state["split"]}
        facts |= {"genotype_protocol": meta.get("protocol"), "genotype_split": meta.get("split")}
        facts |= {"checkpoint_split": state["checkpoint_split"], "commit": commit()}
        facts |= {"normalization": self.options.normalization}
        facts |= {RECORDED: state[RECORDED]} if RECORDED in state else {}
        return facts | self.task.results_facts(self.options, self.data)


def rebuild(task: Task, options: Options, folder: str) -> Trained:
    """Build the network of a run's best.pt, with the run's options and its data; typed options must agree.

    Raises:
        UserError: no such run, an option that contradicts it, or `val` of another split than it was trained on.
    """
    path = Path(folder) / "best.pt"
    state = ranks().broadcast_from_first(lambda: checkpoint.load(path))
    check_fields(state, str(path), options=task.rebuilt_from, fields=task.fields)
    options = task.check_options(tested_options(task, options, state["args"], folder))
    task = task.with_options(options)
    task.check_trained(options, state, str(path))
    data = task.tested_data(options, task.open_data(options), state, str(path))
    options = task.complete(options, data)
    task.check_data(options, data, state, str(path))
    if options.eval_part == "val" and data.split.hash != state["split"]:
        found = f"expected split {state['split'][:60]} as in training, found {data.split.hash}"
        raise UserError(f"--eval_part val: {found}")
    streams = task.build_streams(options, data, pretrained=False)
    architecture = None
    if state["genotype"]:
        architecture = architecture_from_json(state["genotype"], str(path), task.readers(options, streams))
    model = task.build_network(options, data, streams, architecture, pretrained=False)
    checkpoint.load_state(model, state["model"], str(path))
    return Trained(task, Path(folder), state, options, data, model, architecture)


def tested_options(task: Task, options: Options, trained_with: dict, folder: str) -> Options:
    """Return the options with those that the network was trained with; typed ones must agree."""
    for name in filter(options.is_typed, task.agreeing):
        values = options[name], trained_with.get(name)
        if not same(*values) and not task.is_same_data(name, *values):
            expected = f"expected {short(values[1])} as in {folder}"
            raise UserError(f"--{name}: {expected}, found {short(options[name])}")
    # A test leaves out no example: a score is one over all of them.
    options = options.replaced({"max_bad_files": None}, {"max_bad_files": "run"})
    names = (*task.rebuilt_from, "overfit")
    return options_from_run(options, trained_with, names, over_config=True, source=f"{folder}: args")

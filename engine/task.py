"""What differs between tasks: the hooks that the commands call, with defaults for those that a simple task leaves out.

A task is registered in tasks/__init__.py. The commands (pretrain, search, train, test) are written once, over `Task`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from utils.distributed import SINGLE_PROCESS, Ranks

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, device, nn

    from datasets.data_module import DataModule, LoaderOptions
    from datasets.splits import Split
    from engine.compute import Compute
    from utils.args import Options, Parser
    from utils.run_folder import RunFolder

Metrics = dict[str, float | None]
State = dict[str, "Tensor"]


def loader_options(options: Options) -> LoaderOptions:
    """Return how the loaders of a data module make batches."""
    from datasets.data_module import LoaderOptions  # with torch, which the parsers of options do not need

    values = options.keywords("seed", "workers", "max_bad_files", batch_size="batchsize", pin_memory="pin_mem")
    return LoaderOptions(**values)


def data_module(data: Any, split: Split, options: Options) -> DataModule:
    """Return a data set with its split, and loaders as the options say."""
    from datasets.data_module import DataModule
    from datasets.loader import BadFiles

    return DataModule(data, split, loader_options(options), BadFiles(options.max_bad_files))


class Evaluator(Protocol):
    """Collects predictions and scores them; `answers` is what of them can be written as JSON."""

    answers: list[dict]

    def add(self, batch: dict, predictions: Any) -> None: ...

    def compute(self) -> Metrics: ...


@dataclass(frozen=True)
class Stage:
    """The training of one network in a pretraining.

    Args:
        name: of the phase, a part of file names.
        model: returns the network, on any device, from the trained networks of the stages before, and logs what it
            starts from; None: there is nothing to train yet.
        data: of which `parts` are learned from, and `val` is evaluated on.
        shared: the network depends on what other pretrainings have left in checkpointdir, so that it is trained while
            its folder is locked.
        features: the kind of features that a cache may keep, of the model's `feature_kinds`; "": the encoder learns.
    """

    name: str
    model: Callable[[dict[str, nn.Module], Callable[[str], None]], nn.Module | None]
    data: Any
    epochs: int
    parts: tuple[str, ...] = ("train",)
    shared: bool = False
    features: str = ""


@dataclass(frozen=True)
class Pretraining:
    """The stages of a pretraining and what they leave in checkpointdir.

    Args:
        files: returns the tensors by file name, from the trained networks by stage.
        modalities: all whose split pretrain.json may record; the stages that are not shared are named after some.
        facts: returns what pretrain.json records beside the splits.
        check: refuses what checkpointdir holds already and does not fit; called again before files are written.
        next_command: from the names of the files, the main to run next and options for it.
    """

    stages: list[Stage]
    files: Callable[[dict[str, nn.Module]], dict[str, State]]
    modalities: tuple[str, ...] = ()
    facts: Callable[[], dict[str, Any]] = dict
    check: Callable[[], None] = lambda: None
    next_command: Callable[[Iterable[str]], tuple[str, dict[str, Any]]] | None = None


class ExtraTest:
    """What a test does beside scoring one run; each method may be left out."""

    def partners(self) -> list[str]:
        """Return the folders of further trained runs that take part."""
        return []

    def plan(self, trained: list[Any]) -> dict[str, Any]:
        """Check the rebuilt runs, the one under test first; return what a dry run prints."""
        return {}

    def combine(
        self, trained: list[Any], answers: list[list[dict]], facts: list[dict]
    ) -> tuple[list[dict], Metrics, dict] | None:
        """Return answers, metrics and facts that take the place of those of the run under test."""
        return None

    def finish(self, trained: list[Any], compute: Compute, run: RunFolder, metrics: Metrics, facts: dict) -> None:
        """Test further, after results.json was written."""


class Task:
    """The hooks of a task.

    Attributes:
        name: the key in TASKS, and the end of the mains' names.
        title: says in words what the task is.
        metric: the number, 0..1, larger is better, by which an epoch is chosen.
        logged: the numbers that a line of the log has.
        predictions_file: where the answers of the best epoch on `val` are written.
        from_pretraining, from_search: options that are taken from pretrain.json of checkpointdir, and from the search
            run, unless they are given.
        rebuilt_from: options that a trained network and its data are rebuilt from.
        agreeing: those of them that may be typed for a test if they are the same as in training.
        searchable_parts: parts of the network that can be searched, of fusion, neck, head and cells.
        other_parts: parts that cannot, or not yet.
        fields: of best.pt, beside those of every task: the type of each (utils/untrusted.py).
        needs_all_parts: whether a genotype file must have every part; else one that it lacks is made by hand.
        trainable: whether a network has anything to train; else a training scores it on `val`.
        encoders_learn: whether searches and trainings can start encoders themselves, and train them along.
    """

    name: str
    title: str
    metric: str
    logged: tuple[str, ...]
    predictions_file = "predictions.json"
    from_pretraining: tuple[str, ...] = ()
    from_search: tuple[str, ...] = ("checkpointdir",)
    rebuilt_from: tuple[str, ...] = ()
    agreeing: tuple[str, ...] = ()
    searchable_parts: tuple[str, ...] = ("fusion",)
    other_parts: tuple[str, ...] = ("head",)
    fields: dict[str, Any] = {}  # noqa: RUF012
    needs_all_parts = True
    trainable = True
    encoders_learn = False

    def load(self) -> Task:
        """Return the task itself; an entry of TASKS imports it here."""
        return self

    def with_options(self, options: Options) -> Task:
        """Return the task with what it takes from the options of a run."""
        return self

    def add_options(self, parser: Parser, section: str) -> None:
        """Add the options of "pretrain", "search" or "found", and set defaults of shared ones."""

    def check_options(self, options: Options) -> Options:
        """Refuse options that contradict each other; return them with those that follow from others."""
        return options

    def open_data(self, options: Options) -> Any:
        """Open the data set and cut it: a data module."""
        raise NotImplementedError

    def complete(self, options: Options, data: Any) -> Options:
        """Return the options with those that follow from the data and from files of checkpointdir."""
        return options

    def warnings(self, options: Options, section: str) -> list[str]:
        """Return lines about options for the log of a run that starts."""
        return []

    def next_options(self, options: Options, section: str) -> dict[str, Any]:
        """Return options of the command that follows "search" or "found", for the line that says how to run it."""
        return {}

    def write_description(self, options: Options, folder: Path) -> None:
        """Write what describes the data set into the folder of a run."""

    def facts(self, data: Any, section: str) -> dict[str, Any]:
        """Return plain values about the data that checkpoints of "search" or "found" carry."""
        return {}

    def results_facts(self, options: Options, data: Any) -> dict[str, Any]:
        """Return what results record of the data."""
        return {}

    def is_same_data(self, name: str, value: Any, trained_with: Any) -> bool:
        """Return whether an option that differs from training stands for the same data all the same."""
        return False

    def check_pretrained(self, options: Options, data: Any) -> str:
        """Refuse files of checkpointdir that were made on other data; return what results record of their split."""
        return "none recorded"

    def check_trained(self, options: Options, state: dict, source: str) -> None:
        """Refuse a checkpoint whose tensors do not have the sizes that its options say."""

    def tested_data(self, options: Options, data: Any, state: dict, source: str) -> Any:
        """Return the data that a trained network is tested on, where these differ from what was opened."""
        return data

    def check_data(self, options: Options, data: Any, state: dict, source: str) -> None:
        """Refuse data that a trained network was not trained for."""

    def build_streams(self, options: Options, data: Any, pretrained: bool = True) -> Any:
        """Build the frozen encoders; `pretrained`: with the weights of checkpointdir."""
        raise NotImplementedError

    def searched_parts(self, options: Options) -> tuple[str, ...]:
        """Return the parts that a search searches: those of --search_parts, else all that can be."""
        return tuple(options.search_parts.split(",")) if options.search_parts else self.searchable_parts

    def frozen_parts(self, options: Options) -> tuple[str, ...]:
        """Return the parts whose weights do not learn in a search, beside the encoders."""
        return tuple(options.freeze_parts.split(",")) if options.freeze_parts else ()

    def spaces(self, options: Options, streams: Any) -> dict[str, Any]:
        """Return the search space of each part that is searched, as the options describe it."""
        raise NotImplementedError

    def given_parts(self, options: Options, streams: Any) -> dict[str, Any]:
        """Return the genotypes by part that a search of other parts takes from a file; its genotype has them too."""
        return {}

    def readers(self, options: Options, streams: Any) -> dict[str, Any]:
        """Return what reads the genotype of each part (models/search/architecture.py); every space is a reader."""
        return self.spaces(options, streams)

    def build_supernet(self, options: Options, data: Any) -> Any:
        """Build the network that is searched: `searchables()` gives its supernets by part and place."""
        raise NotImplementedError

    def build_network(
        self, options: Options, data: Any, streams: Any, architecture: Any, pretrained: bool = True
    ) -> Any:
        """Build the network of an architecture; of None, the baseline of the options."""
        raise NotImplementedError

    def brackets(self, model: Any) -> dict[str, nn.Module]:
        """Return the parts of a network whose parameters are counted, by name."""
        return {"streams": model.streams, "fusion": model.fusions, "head": model.head}

    def num_parameters(self, model: Any) -> int:
        """Return the number of parameters of a network."""
        from models.search.parameters import count_parameters  # with torch

        return count_parameters(model)

    def method(self, options: Options) -> str:
        """Return what results call the network of a baseline."""
        return options.baseline

    def introduction(self, data: Any, model: Any) -> list[str]:
        """Return lines about a network for the log of its run."""
        return []

    def answer_warnings(self, data: Any, model: Any, part: str, answers: list[dict]) -> list[str]:
        """Return lines for the log about all answers to a part, where they are odd without being wrong."""
        return []

    def pretraining(self, options: Options, data: Any) -> Pretraining:
        """Return the stages of a pretraining; none where the task has no pretraining."""
        return Pretraining([], lambda models: {})

    def losses(self, model: Any, batch: dict, ranks: Ranks = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Return a dict with "loss"; where ranks share a batch, the mean of their dicts is that of the whole batch."""
        raise NotImplementedError

    def predict(self, model: Any, batch: dict) -> Any:
        """Return the predictions of a batch."""
        raise NotImplementedError

    def make_evaluator(self, data: Any, part: str, full: bool = False) -> Evaluator:
        """Return the evaluator of a part; `full`: with all that a test records."""
        raise NotImplementedError

    def least_batch(self, options: Options) -> int:
        """Return the size of the smallest batch that batch norms can learn from."""
        return 1

    def example_batch(self, options: Options, where: device) -> dict | None:
        """Return a batch of empty inputs for estimates of memory and cost; None: there are none."""
        return None

    def costs(self, model: Any, options: Options) -> dict[str, Any]:
        """Return what results record of the cost of a network."""
        return {}

    def extra_tests(self, options: Options) -> Sequence[ExtraTest]:
        """Return what a test does beside scoring the run."""
        return []

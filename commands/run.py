"""The frame of every run: which run goes on, how it starts, what it says and writes at its end.

Options that were not given come from the run that goes on; given ones must be those of the run, but for those that
cannot change what it computes (FREE).
"""

import contextlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datasets.data_module import DataModule
from engine.checkpointer import Checkpointer
from engine.compute import Compute, pick_compute
from engine.encoder_weights import RECORDED
from engine.feature_caching import CacheOptions, why_changing
from engine.feature_fill import Encoding
from engine.memory_estimate import memory_estimate
from engine.nonfinite import Guard
from engine.pretrained import pretrained_with
from engine.progress import Progress
from engine.step import Session
from engine.task import Task
from report import report
from utils import __version__
from utils.args import Options
from utils.distributed import ranks, ranks_here
from utils.errors import UserError
from utils.lock import locked_by_first
from utils.run_folder import COMMAND, FINISHED, RunFolder, write_json
from utils.seed import seed_everything
from utils.signals import caught

SHOWN_WARNINGS = 5
# Typed ones go before a config's, so the next command needs them again; without a config they follow from the files.
OVER_CONFIG = ("backbone", "C", "num_input_nodes", "fusion_levels", "image_size", "anchor_scale")
PUBLISHED_SPELLING = {"num_classes": "num-classes", "paper_protocol": "paper-protocol"}


def compute_of(options: Options) -> Compute:
    return pick_compute(**options.keywords("device", "amp", "clip_grad", "accum", "compile", "deterministic"))


@dataclass(frozen=True)
class RunContext:
    """What a command has built before it learns.

    Args:
        kind: "pretrain", "search" or "found".
        data: the data module.
        facts: plain values that checkpoints and genotypes carry beside options and split.
        model: on its device; None: it is not built yet.
    """

    kind: str
    task: Task
    options: Options
    data: DataModule
    compute: Compute
    facts: dict = field(default_factory=dict)
    model: Any = None

    @classmethod
    def open(cls, kind: str, task: Task, options: Options) -> "RunContext":
        """Open the data, and complete the options by what follows from them and from checkpointdir.

        Draws follow from the seed from here on.
        """
        seed_everything(options.seed)
        compute, data, facts = compute_of(options), task.open_data(options), {}
        check_cache_options(options, data)
        if kind != "pretrain":
            facts = {"checkpoint_split": task.check_pretrained(options, data)} | task.facts(data, kind)
            record = pretrained_with(options.checkpointdir)
            facts |= {RECORDED: record[RECORDED]} if RECORDED in record else {}
        return cls(kind, task, task.complete(options, data), data, compute, facts)

    def with_model(self, model: nn.Module, **facts: Any) -> "RunContext":
        """Return the context with a model, which is moved to the device, and facts about it."""
        return replace(self, model=self.compute.place(model), facts=self.facts | facts)

    @contextlib.contextmanager
    def running(self) -> Iterator[RunFolder]:
        """Start a run, or go on with one, and hold its folder alone; signals are noted until the end of the block.

        Raises:
            UserError: another process works on it.
        """
        kind, resumed = self.kind, self.options.resume
        run = folder_of(resumed) if resumed else start_run(kind, self.task, self.options, self.data)
        with locked_by_first(run.path, None, "another process"), caught(run.stop):
            if resumed:
                run.log(f"resumed: {kind} in {run.path}")
                self.data.bad_files.log = run.log
                for name, change in run.note_environment().items():
                    run.log(f"remark: {name}: {change}: the last digits may differ from those of an uninterrupted run")
            if self.facts:
                run.log(f"split of the checkpoints: {self.facts['checkpoint_split']}")
            yield run

    def session(self, run: RunFolder) -> Session:
        guard = Guard(self.compute.device, self.options.max_bad_steps, run.log, ranks=self.compute.ranks)
        return Session(self.model, self.task, self.compute, guard)

    def checkpointer(self, run: RunFolder, session: Session, phase: str = "") -> Checkpointer:
        """Return what saves a phase of a run."""
        split, args = self.data.split, self.options.plain()
        facts = {"kind": self.kind, "args": args, "split": split.hash, "protocol": split.protocol} | self.facts
        return Checkpointer(run, session, facts, self.data, self.options.checkpoint_every, phase)

    def encoding(self) -> Encoding:
        return Encoding(self.data, self.model, self.compute)

    def memory(self) -> dict[str, float]:
        """Return an estimate of the memory of a training step, for a dry run; {} without an example batch."""
        batch = self.task.example_batch(self.options, self.compute.device)
        if batch is None:
            return {}
        return memory_estimate(self.task, self.model, batch, self.options.batchsize, self.compute)

    def next_command(self, script: str, values: dict[str, Any], carried: tuple[str, ...]) -> str:
        """Return the next command to paste: its own options, and those typed here that it needs again, quoted."""
        words, carried = ["python", script, self.options.data], carried + OVER_CONFIG * bool(self.options.config)
        for name, value in (values | {n: self.options[n] for n in carried if self.options.is_typed(n)}).items():
            flag = "--" + PUBLISHED_SPELLING.get(name, name)
            value = "x".join(map(str, value)) if isinstance(value, (list, tuple)) else value  # a size
            words.append(flag if value is True else f"{flag}={value}")
        return "next: " + shlex.join(words)

    def finish_learning(
        self, run: RunFolder, progress: Progress, option: str, carried: tuple[str, ...], **values: Any
    ) -> None:
        """End a search or a training, whose run the next command takes by an option; `values`: its other options."""
        values |= {option: run.path} | self.task.next_options(self.options, self.kind)
        command = self.next_command(f"main_darts_found_{self.task.name}.py", values, carried)
        self.finish(run, [progress.in_words(self.task.metric), f"{option}: {run.path}", command])

    def finish(self, run: RunFolder, lines: list[str]) -> None:
        """Note that a run is finished, write its report, and log its last lines."""
        if not run.is_writer:
            return
        run.write_json(FINISHED, {"said": lines})
        for previous in run.path.glob("last*.previous.pt"):
            previous.unlink()
        try:
            report(run, self.options, self.data)
        finally:
            for line in lines:
                run.log(line)


def start_run(kind: str, task: Task, options: Options, data: DataModule) -> RunFolder:
    """Create the run folder, write what is known at the start, and log warnings about the options and the data.

    Of several ranks, the first does it for all.
    """
    run = folder_of(ranks().broadcast_from_first(lambda: _start(kind, task, options, data).path))
    data.bad_files.log = run.log
    return run


def folder_of(path: Path) -> RunFolder:
    """Return a run folder that is there, as this rank sees it."""
    return RunFolder(path, read_only=not ranks().first)


def _start(kind: str, task: Task, options: Options, data: DataModule) -> RunFolder:
    run = RunFolder.new(kind, options.save)
    run.write_json("args.json", options.plain())
    run.note_environment()
    write_json(run.path / "split.json", data.split.to_json())
    task.write_description(options, run.path)
    # Last, so that a folder that has it is whole.
    command = {"kind": kind, "given": options.given_names, "typed": options.typed_names, "unit": data.unit}
    run.write_json(COMMAND, command | {"version": __version__, "defaults": options.defaults})
    run.log(f"{kind} in {run.path}")
    if ranks().count > 1:
        run.log(f"{ranks().count} processes, {ranks_here().count} of them here; each has a share of --batchsize")
    elif options.parallel:
        run.log(f"--parallel: {torch.cuda.device_count()} GPUs found, so one process; torchrun starts several on CPUs")
    for warning in task.warnings(options, kind):
        run.log(warning)
    sizes = ", ".join(f"{part} {len(names)}" for part, names in data.split.parts.items())
    run.log(f"protocol {data.split.protocol}; split {data.split.hash}: {sizes} {data.unit}")
    for warning in data.data.warnings[:SHOWN_WARNINGS]:
        run.log(f"remark: {warning}")
    if (more := len(data.data.warnings) - SHOWN_WARNINGS) > 0:
        run.log(f"{more} more remarks: python -m tools.check_data lists them")
    for origin, notes in data.data.notes.items():
        run.log(f"{origin} annotations: {', '.join(f'{name} {value}' for name, value in notes.items())}")
    return run


def cache_options(options: Options) -> CacheOptions:
    values = {"mode": "cache_features", "level": "cache_level", "dtype": "cache_dtype", "folder": "cache_dir"}
    return CacheOptions(**options.keywords(**values), learning=why_learning(options))


def why_learning(options: Options) -> str:
    """Return why the features of encoders change while a network is trained; "" where the encoders are frozen."""
    if options.stream_lr:
        return f"--stream_lr {options.stream_lr:g} trains the streams, so their features change: expected 0"
    learns = "freeze_encoder" in options and not options.freeze_encoder
    return "the encoders learn, so their features change: expected --freeze_encoder" if learns else ""


def check_cache_options(options: Options, data: DataModule | None = None) -> None:
    """Refuse options of the cache without effect, and where `data` are trained on, inputs that training changes."""
    mode, every = options.cache_features, ("cache_level", "cache_dtype", "cache_dir")
    used = {"off": ("cache_dtype",) if data and options.dry_run else (), "ram": every[:2]}  # a dry run shows sizes
    for name in filter(options.is_typed, every):
        if name not in used.get(mode, every):
            raise UserError(f"--{name}: no effect with --cache_features {mode}")
    if data and mode in ("ram", "disk") and (changing := why_changing(data, why_learning(options))):
        raise UserError(f"--cache_features {mode}: {changing}")


def print_dry_run(sizes: dict[str, object]) -> None:
    """Print what a run would be, one item per line; of several ranks, the first does."""
    for name, value in sizes.items() if ranks().first else ():
        print(f"{name}: {json.dumps(value)}")

"""The frame of every run: which run goes on, how it starts, what it says and writes at its end.

Options that were not given come from the run that goes on; given ones must be those of the run, but for those that
cannot change what it computes (FREE).
"""

import contextlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datasets.data_module import DataModule
from engine.checkpointer import Checkpointer
from engine.compute import Compute, pick_compute
from engine.feature_caching import check_caching, why_changing
from engine.memory_estimate import memory_estimate
from engine.nonfinite import Guard
from engine.step import Session
from engine.task import Task
from report import report
from utils import __version__
from utils.args import Options
from utils.distributed import ranks, ranks_here
from utils.lock import locked_by_first
from utils.run_folder import COMMAND, FINISHED, RunFolder, write_json
from utils.signals import Stop, caught

SHOWN_WARNINGS = 5
PUBLISHED_SPELLING = {"num_classes": "num-classes", "paper_protocol": "paper-protocol"}


@dataclass(frozen=True)
class RunContext:
    """What a command has built before it learns.

    Args:
        data: the data module.
        model: on its device.
        facts: plain values that checkpoints and genotypes carry beside options and split.
    """

    task: Task
    options: Options
    data: DataModule
    model: nn.Module
    compute: Compute
    facts: dict = field(default_factory=dict)

    def session(self, run: RunFolder) -> Session:
        guard = Guard(self.compute.device, self.options.max_bad_steps, run.log, ranks=self.compute.ranks)
        return Session(self.model, self.task, self.compute, guard)

    def checkpointer(self, run: RunFolder, stop: Stop, kind: str, session: Session, phase: str = "") -> Checkpointer:
        """Return what saves a phase of a run."""
        split = self.data.split
        facts = {"kind": kind, "args": self.options.plain(), "split": split.hash, "protocol": split.protocol}
        return Checkpointer(
            run,
            session,
            facts | self.facts,
            self.data.digest,
            self.data.bad_files,
            self.options.checkpoint_every,
            stop,
            phase,
        )


def compute_of(options: Options) -> Compute:
    return pick_compute(**options.keywords("device", "amp", "clip_grad", "accum", "compile", "deterministic"))


@contextlib.contextmanager
def running(kind: str, task: Task, options: Options, data: DataModule) -> Iterator[tuple[RunFolder, Stop]]:
    """Start a run, or go on with one, and hold its folder alone; signals are noted until the end of the block.

    Raises:
        UserError: another process works on it.
    """
    run = folder_of(options.resume) if options.resume else start_run(kind, task, options, data)
    with locked_by_first(run.path, None, "another process"), caught(run.path) as stop:
        if options.resume:
            run.log(f"resumed: {kind} in {run.path}")
            data.bad_files.log = run.log
            for name, change in run.note_environment().items():
                run.log(f"remark: {name}: {change}: the last digits may differ from those of an uninterrupted run")
        yield run, stop


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
    run.describe(options.plain())
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
    log_data(run, data)
    return run


def log_data(run: RunFolder, data: DataModule) -> None:
    """Log the sizes of the parts, and what is odd in the data."""
    sizes = ", ".join(f"{part} {len(names)}" for part, names in data.split.parts.items())
    run.log(f"protocol {data.split.protocol}; split {data.split.hash}: {sizes} {data.unit}")
    for warning in data.data.warnings[:SHOWN_WARNINGS]:
        run.log(f"remark: {warning}")
    if (more := len(data.data.warnings) - SHOWN_WARNINGS) > 0:
        run.log(f"{more} more remarks: python -m tools.check_data lists them")
    for origin, notes in data.data.notes.items():
        run.log(f"{origin} annotations: {', '.join(f'{name} {value}' for name, value in notes.items())}")


def finish(run: RunFolder, options: Options, data: DataModule, lines: list[str]) -> None:
    """Note that a run is finished, write its report, and log its last lines."""
    if not run.is_writer:
        return
    run.write_json(FINISHED, {"said": lines})
    for previous in run.path.glob("last*.previous.pt"):
        previous.unlink()
    try:
        report(run, options, data)
    finally:
        for line in lines:
            run.log(line)


def next_command_line(script: str, options: Options, values: dict[str, Any], carried: tuple[str, ...]) -> str:
    """Return the next command to paste: its own options, and those typed here that it needs again, quoted."""
    words = ["python", script, options.data]
    for name, value in (values | {n: options[n] for n in carried if options.is_typed(n)}).items():
        flag = "--" + PUBLISHED_SPELLING.get(name, name)
        words.append(flag if value is True else f"{flag}={value}")
    return "next: " + shlex.join(words)


def cache_options(options: Options) -> dict[str, Any]:
    """Return the keywords of `engine.feature_caching.cached` that the options say."""
    values = {"mode": "cache_features", "level": "cache_level", "dtype": "cache_dtype", "folder": "cache_dir"}
    return options.keywords("stream_lr", **values)


def check_cache_options(options: Options, data: DataModule | None = None) -> None:
    """Refuse options of the cache without effect, and where `data` are trained on, inputs that training changes."""
    changing = why_changing(data, options.stream_lr) if data else ""
    trains = data is not None
    check_caching(
        options.cache_features, options.typed_names, dry_run=options.dry_run, changing=changing, trains=trains
    )


def memory_of(context: RunContext) -> dict[str, float]:
    """Return an estimate of the memory of a training step, for a dry run; {} where the task has no example batch."""
    batch = context.task.example_batch(context.options, context.compute.device)
    if batch is None:
        return {}
    return memory_estimate(context.task, context.model, batch, context.options.batchsize, context.compute)


def print_dry_run(sizes: dict[str, object]) -> None:
    """Print what a run would be, one item per line; of several ranks, the first does."""
    for name, value in sizes.items() if ranks().first else ():
        print(f"{name}: {json.dumps(value)}")

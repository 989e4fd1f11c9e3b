"""What every run writes and says: its folder, its epochs, its evaluation, the next command to paste."""

import argparse
import contextlib
import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from datasets.data_module import DataModule
from datasets.detection.registry import is_description
from engine.checkpointer import Checkpointer
from engine.progress import Row
from engine.step import Session, evaluate
from utils.args import plain
from utils.distributed import ranks, ranks_here
from utils.run_folder import RunFolder, read_json, write_json
from utils.saving import save
from utils.signals import Stopped
from utils.tracking import Tracker

SHOWN_WARNINGS = 5
TRACKED = "wandb.json"  # the id of a run at Weights & Biases
COMMAND = "command.json"  # of a run: which command, and which of its options were given
PUBLISHED_SPELLING = {"num_classes": "num-classes", "paper_protocol": "paper-protocol"}


def start_run(kind: str, args: argparse.Namespace, parts: DataModule, warnings: list[str]) -> RunFolder:
    """Create the run folder, write what is known at the start, and log remarks on the options and the data.

    Of several ranks, the first does it for all.
    """
    run = folder_of(ranks().broadcast_from_first(lambda: start_alone(kind, args, parts, warnings).path))
    parts.bad_files.log = run.log
    return run


def folder_of(path: Path) -> RunFolder:
    """Return a run folder that is there, as this rank sees it."""
    return RunFolder(path, read_only=not ranks().first)


def start_alone(kind: str, args: argparse.Namespace, parts: DataModule, warnings: list[str]) -> RunFolder:
    """Do what `start_run` does, as the one that writes."""
    run = RunFolder.new(kind, args.save)
    run.describe(plain(args))
    write_json(run.path / "split.json", parts.split.to_json())
    if is_description(args.dataset):
        shutil.copyfile(args.dataset, run.path / "dataset.yaml")
    # Last, so that a folder that has it is whole.
    run.write_json(COMMAND, {"kind": kind, "given": sorted(args.given), "typed": sorted(args.typed)})
    run.log(f"{kind} in {run.path}")
    if ranks().count > 1:
        run.log(f"{ranks().count} processes, {ranks_here().count} of them here; each has a share of --batchsize")
    elif args.parallel:
        run.log(f"--parallel: {torch.cuda.device_count()} GPUs found, so one process; torchrun starts several on CPUs")
    for remark in warnings:
        run.log(remark)
    sizes = ", ".join(f"{part} {len(names)}" for part, names in parts.split.parts.items())
    run.log(f"protocol {parts.split.protocol}; split {parts.split.hash}: {sizes} {parts.unit}")
    for remark in parts.data.warnings[:SHOWN_WARNINGS]:
        run.log(f"remark: {remark}")
    if (more := len(parts.data.warnings) - SHOWN_WARNINGS) > 0:
        run.log(f"{more} more remarks: python -m tools.check_data lists them")
    for origin, notes in parts.data.notes.items():
        run.log(f"{origin} annotations: {', '.join(f'{name} {value}' for name, value in notes.items())}")
    return run


def validator(
    session: Session, parts: DataModule, part: str, full: bool = False
) -> tuple[Callable[[], dict[str, float | None]], list]:
    """Return a function that evaluates the model on a part, and a list that holds the answers of its last call.

    `full`: with all that the task can tell, as a test does.
    """
    loader, answers = parts.loader(part, train=False), []

    def validate() -> dict[str, float | None]:
        evaluator = session.task.make_evaluator(parts, part, full)
        metrics = evaluate(session, loader, evaluator, f"evaluate {part}")
        parts.bad_files.merge(session.compute.ranks)
        answers[:] = evaluator.answers
        return metrics

    return validate, answers


@contextlib.contextmanager
def tracking(args: argparse.Namespace, run: RunFolder) -> Iterator[Tracker]:
    """Log to wandb inside the block where --wandb asks for it; a run that goes on keeps its id."""
    path = run.path / TRACKED
    known = read_json(path).get("id") if path.exists() else None
    wanted = args.wandb and run.is_writer
    tracker = Tracker(wanted, run.path, plain(args), run.log, known if isinstance(known, str) else None)
    if run.is_writer and tracker.id != known:
        write_json(path, {"id": tracker.id})
    try:
        yield tracker
    except Stopped:
        tracker.finish()
        raise
    except BaseException:
        tracker.finish(failed=True)
        raise
    tracker.finish()


class Recorder:
    """Write each epoch of a run: metrics.jsonl, log, wandb, last.pt, and best.pt when it is the best so far.

    Args:
        keeper: of the run's phase; rows have its name where a run has several.
        best_files: returns what is written with best.pt, by name, from the epoch's row.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        tracker: Tracker,
        best_files: Callable[[Row], dict[str, object]] = lambda row: {},
    ):
        self.checkpointer, self.run, self.tracker, self.best_files = checkpointer, checkpointer.run, tracker, best_files

    def __call__(self, row: Row, is_best: bool) -> None:
        checkpointer, phase = self.checkpointer, self.checkpointer.phase
        if not self.run.is_writer:
            checkpointer.save()
            return
        row = row | {"bad_files": len(checkpointer.bad_files.names)}
        step = len(self.run.rows())
        self.run.append_row(({"phase": phase} if phase else {}) | row)
        self.run.log(self._line(row, is_best))
        checkpointer.save(self._stage(row) if is_best else ())
        self.tracker.log(row, phase, step)
        earlier = self.run.path / "timing.json"  # of the phases before
        timing = read_json(earlier) if earlier.exists() else {}
        name = f"{phase}_wall_seconds" if phase else "wall_seconds"
        self.run.write_json("timing.json", timing | {name: round(checkpointer.elapsed, 3)})

    def _stage(self, row: Row) -> tuple[str, ...]:
        checkpointer, detector = self.checkpointer, self.checkpointer.detector()
        names = [checkpointer.stage(checkpointer.file("best").name, lambda path: save(path, detector))]
        for name, content in self.best_files(row).items():
            names.append(checkpointer.stage(name, lambda path, content=content: write_json(path, content)))
        return tuple(names)

    def _line(self, row: Row, is_best: bool) -> str:
        names = {"train_loss", "arch_loss", *(f"{n}_val" for n in self.checkpointer.session.task.SHOWN), "pairs_per_s"}
        shown = {k: v for k, v in row.items() if k in names}
        numbers = "  ".join(f"{k} {v:.4g}" if v is not None else f"{k} none" for k, v in shown.items())
        return f"{self.checkpointer.phase} epoch {row['epoch']}  {numbers}{'  best' if is_best else ''}".lstrip()


def next_command_line(
    script: str, args: argparse.Namespace, options: dict[str, object], carried: tuple[str, ...]
) -> str:
    """Return the next command to paste: its own options, and those typed here that it needs again, quoted."""
    words = ["python", script, args.data]
    for name, value in (options | {n: getattr(args, n) for n in carried if n in args.typed}).items():
        flag = "--" + PUBLISHED_SPELLING.get(name, name)
        words.append(flag if value is True else f"{flag}={value}")
    return "next: " + shlex.join(words)


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def print_dry_run(sizes: dict[str, object]) -> None:
    """Print what a run would be, one item per line; of several ranks, the first does."""
    for name, value in sizes.items() if ranks().first else ():
        print(f"{name}: {json.dumps(value)}")

"""What every run writes and says: its folder, its epochs, its evaluation, the next command to paste."""

import argparse
import json
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from datasets.loader import BadFiles
from datasets.parts import Parts
from datasets.registry import is_description
from engine.step import Compute, evaluate
from engine.tasks import TASKS
from engine.train import Progress, Row
from utils import checkpoint
from utils.args import plain
from utils.experiment import unlike_pretraining
from utils.run_folder import RunFolder, read_json, write_json
from utils.tracking import Tracker

TASK = TASKS["detection"]
SHOWN_REMARKS = 5
PUBLISHED_SPELLING = {"num_classes": "num-classes", "paper_protocol": "paper-protocol"}


def start_run(kind: str, args: argparse.Namespace, parts: Parts) -> RunFolder:
    """Create the run folder, write what is known at the start, and log what has no effect."""
    run = RunFolder(kind, args.save)
    run.describe(plain(args))
    write_json(run.path / "split.json", parts.split.to_json())
    if is_description(args.dataset):
        shutil.copyfile(args.dataset, run.path / "dataset.yaml")
    run.log(f"{kind} in {run.path}")
    parts.bad_files.log = run.log
    if getattr(args, "L", None) is not None:
        run.log(f"--L {args.L} and --no-prefetcher ({args.no_prefetcher}) have no effect here")
    else:
        run.log(f"--no-prefetcher ({args.no_prefetcher}) has no effect here")
    if args.parallel:
        run.log(f"--parallel: {torch.cuda.device_count()} GPUs found; runs on one device, several are not built yet")
    for name, theirs in unlike_pretraining(args).items() if kind in ("search", "found") else ():
        run.log(f"--{name}: {getattr(args, name)}, though the streams were pretrained with {theirs}")
    sizes = ", ".join(f"{part} {len(names)}" for part, names in parts.split.parts.items())
    run.log(f"protocol {parts.split.protocol}; split {parts.split.hash}: {sizes} pairs")
    for remark in parts.data.remarks[:SHOWN_REMARKS]:
        run.log(f"remark: {remark}")
    if (more := len(parts.data.remarks) - SHOWN_REMARKS) > 0:
        run.log(f"{more} more remarks: python -m tools.check_data lists them")
    for origin, notes in parts.data.notes.items():
        run.log(f"{origin} annotations: {', '.join(f'{name} {value}' for name, value in notes.items())}")
    return run


def validator(
    model: nn.Module, parts: Parts, part: str, compute: Compute, by_area: bool = False
) -> tuple[Callable[[], dict], list]:
    """Return a function that evaluates the model on a part, and a list that holds the detections of its last call.

    `by_area`: small, medium and large objects also apart, which takes three quarters of the scoring's time: for tests.
    """
    loader, detections = parts.loader(part, train=False), []

    def validate() -> dict[str, float | None]:
        classes = parts.data.category_ids, parts.data.classes
        evaluator = TASK.make_evaluator(parts.ground_truth(part), *classes, by_area)
        metrics = evaluate(model, loader, TASK, evaluator, compute, f"evaluate {part}")
        detections[:] = evaluator.detections
        return metrics

    return validate, detections


class Recorder:
    """Write each epoch of a run: metrics.jsonl, log, wandb, last.pt, and best.pt when it is the best so far.

    Args:
        facts: plain values that every checkpoint carries beside the model.
        bad_files: of the run's data; rows count them, checkpoints name them.
        phase: put into rows and file names where a run has several phases.
    """

    def __init__(
        self,
        run: RunFolder,
        tracker: Tracker,
        model: nn.Module,
        progress: Progress,
        facts: dict,
        bad_files: BadFiles,
        phase: str = "",
    ):
        self.run, self.tracker, self.model, self.progress, self.facts = run, tracker, model, progress, facts
        self.bad_files, self.phase = bad_files, phase
        self.started = time.perf_counter()
        earlier = run.path / "timing.json"  # of the phases before
        self.timing = read_json(earlier) if earlier.exists() else {}

    @property
    def best(self) -> Path:
        return self._file("best")

    def _file(self, name: str) -> Path:
        return self.run.path / (f"{name}_{self.phase}.pt" if self.phase else f"{name}.pt")

    def __call__(self, row: Row, is_best: bool) -> None:
        row = row | {"bad_files": len(self.bad_files.names)}
        self.run.append_metrics(({"phase": self.phase} if self.phase else {}) | row)
        self.tracker.log(row, self.phase)
        self.run.log(self._line(row, is_best))
        state = self.facts | {"format": checkpoint.FORMAT, "bad_files": list(self.bad_files.names)}
        state |= {"model": self.model.state_dict(), "progress": self.progress.to_dict()}
        checkpoint.save(self._file("last"), state)
        if is_best:
            checkpoint.save(self.best, state)
        name = f"{self.phase}_wall_seconds" if self.phase else "wall_seconds"
        self.timing[name] = round(time.perf_counter() - self.started, 3)
        self.run.write_json("timing.json", self.timing)

    def _line(self, row: Row, is_best: bool) -> str:
        shown = {k: v for k, v in row.items() if k in ("train_loss", "arch_loss", "AP_val", "AP50_val", "pairs_per_s")}
        numbers = "  ".join(f"{k} {v:.4g}" if v is not None else f"{k} none" for k, v in shown.items())
        return f"{self.phase} epoch {row['epoch']}  {numbers}{'  best' if is_best else ''}".lstrip()


def next_command(script: str, args: argparse.Namespace, options: dict[str, object], carried: tuple[str, ...]) -> str:
    """Return the next command to paste: its own options, and those typed here that it needs again, quoted."""
    words = ["python", script, args.data]
    for name, value in (options | {n: getattr(args, n) for n in carried if n in args.typed}).items():
        flag = "--" + PUBLISHED_SPELLING.get(name, name)
        words.append(flag if value is True else f"{flag}={value}")
    return "next: " + shlex.join(words)


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def print_dry_run(sizes: dict[str, object]) -> None:
    """Print what a run would be, one item per line."""
    for name, value in sizes.items():
        print(f"{name}: {json.dumps(value)}")

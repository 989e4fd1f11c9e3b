"""Pretraining, search, and the training of a network, of any task, from what a command has made of its options on.

Each goes on where its run was left.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from commands.discretize import Settling
from commands.recipe import pretraining_recipe, recipe_of
from commands.run import finish
from commands.strategy import Searching, learning_state
from engine.bilevel import search
from engine.checkpointer import Checkpointer
from engine.epochs import train
from engine.nonfinite import Guard
from engine.progress import Row
from engine.recipes import make_optimizer, make_schedule
from engine.step import Compute, Session, Task
from models.search.fusion_cells.genotype import Genotype, genotype_to_json
from report.wandb_files import track_files
from utils import checkpoint
from utils.args import plain
from utils.reporting import Recorder, tracking, validator
from utils.run_folder import ALPHAS, RunFolder, commit
from utils.seed import seed_everything
from utils.signals import Stop
from utils.tracking import Tracker


@dataclass(frozen=True)
class Setting:
    """What a command has made of its options before it learns.

    Args:
        parts: of the data; `cached`, given a log, returns those whose loaders give cached features.
        model: on its device.
        facts: plain values that checkpoints and genotypes carry beside options and split.
        following: gives the command to paste when the run has ended. Pretraining needs neither.
    """

    args: argparse.Namespace
    parts: Any
    model: nn.Module
    task: Task
    compute: Compute
    facts: dict = field(default_factory=dict)
    cached: Callable[[Callable[[str], None]], Any] | None = None
    next_command: Callable[[RunFolder], str] | None = None

    def session(self, run: RunFolder) -> Session:
        bad_steps = self.args.max_bad_steps, run.log
        guard = Guard(self.compute.device, *bad_steps, ranks=self.compute.ranks)
        return Session(self.model, self.task, self.compute, guard)

    def checkpointer(self, run: RunFolder, stop: Stop, kind: str, session: Session, phase: str = "") -> Checkpointer:
        """Return what keeps a phase of a run."""
        facts = {"kind": kind, "args": plain(self.args), "split": self.parts.split.hash}
        facts |= {"protocol": self.parts.split.protocol} | self.facts
        known = facts, self.parts.digest, self.parts.bad_files
        return Checkpointer(run, session, *known, self.args.checkpoint_every, stop, phase)


def fit(setting: Setting, loader: Any, tracker: Tracker, run: RunFolder, stop: Stop, phase: str, epochs: int) -> dict:
    """Train what is trainable with AdamW and one learning-rate cycle; returns the state that is best on val."""
    args, steps, recipe = setting.args, setting.compute.num_steps(loader), pretraining_recipe(setting.args)
    seed_everything(args.seed)  # so that a modality trained alone equals one of both
    optimizer = make_optimizer(recipe, setting.model)
    schedule = make_schedule(recipe, optimizer, steps_per_epoch=steps, epochs=epochs)
    session = setting.session(run)
    checkpointer = setting.checkpointer(run, stop, "pretrain", session, phase)
    validate, _ = validator(session, setting.parts, "val")
    with checkpointer.running(optimizer=optimizer, schedule=schedule, loader=loader):
        train(session, optimizer, schedule, loader, validate, epochs, Recorder(checkpointer, tracker))
    return setting.compute.ranks.broadcast_from_first(lambda: checkpoint.load(checkpointer.file("best"))["model"])


def run_search(setting: Setting, run: RunFolder, stop: Stop) -> None:
    """Search; writes genotype.json and all that an epoch leaves."""
    args, initial = setting.args, {name: tensor.clone() for name, tensor in learning_state(setting.model).items()}
    session, metric = setting.session(run), f"{setting.task.METRIC}_val"

    def make_checkpointer(session: Session, phase: str = "") -> Checkpointer:
        return setting.checkpointer(run, stop, "search", session, phase)

    checkpointer = make_checkpointer(session)
    parts = setting.cached(run.log)
    checkpointer.note_features(parts)
    searching = Searching(args, session, parts, run, initial)
    validate = searching.validation()

    def genotype_files(row: Row) -> dict[str, object]:
        return {
            "genotype.json": genotype_to_json(searching.derived(meta(setting, row["epoch"], row[metric]), row["epoch"]))
        }

    with tracking(args, run) as tracker:
        learner = searching.learner()
        with checkpointer.running(**learner.stateful):
            record = Recorder(checkpointer, tracker, genotype_files)

            def on_epoch(row: Row, is_best: bool) -> None:
                if alphas := searching.alphas():
                    run.append_row({"epoch": row["epoch"], "levels": alphas}, ALPHAS)
                record(row, is_best)
                run.log(f"  genotype {row['genotype']}: {row['argmax']}")
                searching.warn(row)

            reason = search(learner, validate, searching.describe, args.epochs, on_epoch, searching.should_stop)
        run.log(f"ended early: {reason}" if reason else f"all {args.epochs} epochs done")
        known = meta(setting, session.progress.best_epoch, session.progress.best)
        with torch.compiler.set_stance("force_eager"):  # one network after the other, each for a moment
            genotype = Settling(searching, make_checkpointer, tracker, known).settle()
        run.write_json("genotype.json", genotype_to_json(genotype))
        track_files(tracker, run, parts, "val")
    end(setting, run, session, f"search_exp_dir: {run.path}")


def meta(setting: Setting, epoch: int, score: float | None) -> dict:
    """Return where a genotype came from."""
    args, split = setting.args, setting.parts.split
    facts = {"seed": args.seed, "epoch": epoch, f"{setting.task.METRIC}_val": score, "split": split.hash}
    facts |= {"protocol": split.protocol} | setting.facts
    return facts | {"args": plain(args), "commit": commit()}


def run_training(setting: Setting, genotype: Genotype | None, run: RunFolder, stop: Stop) -> None:
    """Train a network; writes last.pt, best.pt and what the best epoch answers on `val`."""
    args = setting.args
    known = genotype_to_json(genotype) if genotype else None
    setting = replace(setting, facts=setting.facts | {"genotype": known})
    session = setting.session(run)
    checkpointer = setting.checkpointer(run, stop, "found", session)
    if known:
        run.write_json("genotype.json", known)
    parts = setting.cached(run.log)
    checkpointer.note_features(parts)
    loader = parts.loader(*parts.learning, train=True)
    steps, recipe = setting.compute.num_steps(loader), recipe_of(args)
    optimizer = make_optimizer(recipe, setting.model, streams=setting.model.streams, stream_lr=args.stream_lr)
    schedule = make_schedule(recipe, optimizer, steps_per_epoch=steps, epochs=args.epochs)
    validate, answers = validator(session, parts, "val")
    with tracking(args, run) as tracker:
        with checkpointer.running(optimizer=optimizer, schedule=schedule, loader=loader):
            record = Recorder(checkpointer, tracker, lambda row: {setting.task.ANSWERS: answers})
            train(session, optimizer, schedule, loader, validate, args.epochs, record)
        track_files(tracker, run, parts, "val")
    end(setting, run, session, f"eval_exp_dir: {run.path}")


def end(setting: Setting, run: RunFolder, session: Session, where: str) -> None:
    """Note that a run is finished, and say its best epoch, its folder and the next command."""
    said = [session.progress.in_words(setting.task.METRIC), where, setting.next_command(run)]
    finish(run, setting.args, setting.parts, said)

"""Search: writes RUN/genotype.json.

Weights learn on `train`, architecture parameters on `arch`; the genotype that counts is that of the epoch whose
supernet is best on `val`. The test part is not read.
"""

import random
from typing import Any

import torch
from torch import nn

from commands.discretize import discretize
from commands.options import check_combinations, check_parts
from commands.recipe import check_recipe
from commands.recorder import Recorder, tracking
from commands.run import (
    RunContext,
    cache_options,
    check_cache_options,
    compute_of,
    finish,
    memory_of,
    next_command_line,
    print_dry_run,
    running,
)
from commands.strategy import StrategyRunner, learning_state
from engine.checkpointer import Checkpointer
from engine.epochs import run_epochs
from engine.feature_caching import cache_sizes, cached
from engine.progress import Row
from engine.step import Session
from engine.task import Task
from models.search.parameters import arch_parameters, check_searchables, count_parameters
from models.search.relaxations import Stage
from models.search.space import JointSpace
from models.search.strategies import STRATEGIES
from report.wandb_files import track_files
from utils.args import Options
from utils.run_folder import ALPHAS, RunFolder, commit
from utils.seed import seed_everything
from utils.signals import Stop

# Of a feature cache: statistics and eigenvalues also read as they are those that are trained on.
CACHED_PARTS = {"learning": ("train", "arch"), "plain": ("val", "train", "arch")}
CARRIED = ("config", "small_dataset", "allow_split_mismatch", "max_bad_files", "workers", "device")


def search(task: Task, options: Options) -> None:
    """Do what the options say, with their one seed."""
    options = task.check_options(options)
    check_combinations(options)
    check_parts(task, options)
    check_recipe(options)
    seed_everything(options.seed)
    compute = compute_of(options)
    data = task.open_data(options)
    check_cache_options(options, data)
    facts = {"checkpoint_split": task.check_pretrained(options, data)} | task.facts(data, "search")
    options = task.complete(options, data)
    model = task.build_supernet(options, data)
    check_searchables(model)
    model.freeze_parts(task.frozen_parts(options))
    model = compute.place(model)
    context = RunContext(task, options, data, model, compute, facts)
    if options.dry_run:
        print_dry_run(sizes(context))
        return
    with running("search", task, options, data) as (run, stop):
        run.log(f"split of the checkpoints: {facts['checkpoint_split']}")
        run_search(context, run, stop)


def sizes(context: RunContext) -> dict[str, Any]:
    """Return what a dry run prints."""
    task, options, data, model, compute = context.task, context.options, context.data, context.model, context.compute
    parts = {f"parameters_{name}": count_parameters(part) for name, part in task.brackets(model).items()}
    steps = compute.num_steps(data.loader("train", train=True))
    parts |= {"logits": sum(p.numel() for p in arch_parameters(model))}
    parts |= {"weight_steps_per_epoch": steps, "epochs": options.epochs}
    prepare_step(model, options)
    cache = cache_sizes(data, model=model, compute=compute, dtype=options.cache_dtype, **CACHED_PARTS)
    return parts | memory_of(context) | cache


def prepare_step(model: nn.Module, options: Options) -> None:
    """Set the supernets to what a step runs: one architecture where it trains one, drawn operations where it draws."""
    space = JointSpace.of(model.searchables())
    if STRATEGIES[options.strategy].searcher != "gradient":
        space.activate(space.sample(random.Random(options.seed)))
    space.set_stage(Stage(0.0, "weights"))


def run_search(context: RunContext, run: RunFolder, stop: Stop) -> None:
    """Search; writes genotype.json and all that an epoch leaves."""
    options, task, model = context.options, context.task, context.model
    initial = {name: tensor.clone() for name, tensor in learning_state(model).items()}
    session, metric = context.session(run), f"{task.metric}_val"

    def make_checkpointer(session: Session, phase: str = "") -> Checkpointer:
        return context.checkpointer(run, stop, "search", session, phase)

    checkpointer = make_checkpointer(session)
    cache = cache_options(options) | CACHED_PARTS
    data = cached(context.data, model=model, compute=context.compute, log=run.log, **cache)
    checkpointer.note_features(data)
    runner = StrategyRunner(options, session, data, run, JointSpace.of(model.searchables()), initial)

    def genotype_files(row: Row) -> dict[str, object]:
        facts = meta(context, row["epoch"], row[metric])
        return {"genotype.json": runner.architecture(row["epoch"]).with_meta(facts).to_json()}

    with tracking(options, run) as tracker:
        learner = runner.learner()
        with checkpointer.running(**learner.stateful):
            record = Recorder(checkpointer, tracker, genotype_files)

            def on_epoch(row: Row, is_best: bool) -> None:
                if alphas := runner.alphas():
                    run.append_row({"epoch": row["epoch"], "levels": alphas}, ALPHAS)
                record(row, is_best)
                run.log(f"  genotype {row['genotype']}: {row['argmax']}")
                runner.warn(row)

            validate, epochs = runner.validation(), options.epochs
            reason = run_epochs(learner, validate, epochs, on_epoch, runner.describe, runner.should_stop)
        run.log(f"ended early: {reason}" if reason else f"all {options.epochs} epochs done")
        facts = meta(context, session.progress.best_epoch, session.progress.best)
        with torch.compiler.set_stance("force_eager"):  # one network after the other, each for a moment
            architecture = discretize(runner, make_checkpointer, tracker, facts)
        run.write_json("genotype.json", architecture.to_json())
        track_files(tracker, run, data, "val")
    finish(run, options, data, last_lines(context, run, session))


def last_lines(context: RunContext, run: RunFolder, session: Session) -> list[str]:
    options, task = context.options, context.task
    values = {"search_exp_dir": run.path} | task.next_options(options, "search")
    command = next_command_line(f"main_darts_found_{task.name}.py", options, values, CARRIED)
    return [session.progress.in_words(task.metric), f"search_exp_dir: {run.path}", command]


def meta(context: RunContext, epoch: int, score: float | None) -> dict:
    """Return where a genotype came from."""
    options, split = context.options, context.data.split
    facts = {"seed": options.seed, "epoch": epoch, f"{context.task.metric}_val": score, "split": split.hash}
    facts |= {"protocol": split.protocol} | context.facts
    return facts | {"args": options.plain(), "commit": commit()}

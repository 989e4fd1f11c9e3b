"""Search: writes RUN/genotype.json.

Weights learn on `train`, architecture parameters on `arch`; the genotype that counts is that of the epoch whose
supernet is best on `val`. The test part is not read.
"""

import random
from typing import Any

import torch

from commands.discretize import discretize
from commands.options import check_combinations, check_parts
from commands.recipe import check_recipe
from commands.recorder import Recorder, tracking
from commands.run import RunContext, cache_options, print_dry_run
from commands.strategy import StrategyRunner, learning_state
from engine.collapse import alarm
from engine.epochs import run_epochs
from engine.feature_caching import cache_sizes, cached
from engine.progress import Row
from engine.task import Task
from models.search.parameters import arch_parameters, check_searchables, count_parameters
from models.search.parts import public_text
from models.search.relaxations import Stage
from models.search.space import JointSpace
from models.search.strategies import STRATEGIES
from report import track_files
from utils.args import Options
from utils.files import replace_file
from utils.run_folder import ALPHAS, RunFolder, commit

# Of a feature cache: statistics and eigenvalues also read as they are those that are trained on.
CACHED_PARTS = {"learning": ("train", "arch"), "plain": ("val", "train", "arch")}
CARRIED = ("config", "small_dataset", "allow_split_mismatch", "max_bad_files", "workers", "device")


def search(task: Task, options: Options) -> None:
    """Do what the options say, with their one seed."""
    options = task.check_options(options)
    check_combinations(options)
    check_parts(task, options)
    check_recipe(options)
    context = RunContext.open("search", task, options)
    model = task.build_supernet(context.options, context.data)
    check_searchables(model)
    if context.options.stream_lr:
        model.streams.unfreeze()
    model.freeze_parts(task.frozen_parts(options))
    context = context.with_model(model)
    if options.dry_run:
        print_dry_run(sizes(context))
        return
    with context.running() as run:
        for line in task.introduction(context.data, context.model):
            run.log(line)
        run_search(context, run)


def sizes(context: RunContext) -> dict[str, Any]:
    """Return what a dry run prints.

    The supernets are set to what a step runs: one architecture where it trains one, drawn operations where it draws.
    """
    options, model = context.options, context.model
    parts = {f"parameters_{name}": count_parameters(part) for name, part in context.task.brackets(model).items()}
    steps = context.compute.num_steps(context.data.loader("train", train=True))
    parts |= {"logits": sum(p.numel() for p in arch_parameters(model))}
    parts |= {"weight_steps_per_epoch": steps, "epochs": options.epochs}
    space = JointSpace.of(model.searchables())
    if STRATEGIES[options.strategy].searcher != "gradient":
        space.activate(space.sample(random.Random(options.seed)))
    space.set_stage(Stage(0.0, "weights"))
    return parts | context.memory() | cache_sizes(context.encoding(), cache_options(options), **CACHED_PARTS)


def run_search(context: RunContext, run: RunFolder) -> None:
    """Search; writes genotype.json and all that an epoch leaves."""
    options, model, initial = context.options, context.model, learning_state(context.model)
    session, metric = context.session(run), f"{context.task.metric}_val"
    checkpointer = context.checkpointer(run, session)
    data = cached(context.encoding(), cache_options(options), run.log, **CACHED_PARTS)
    checkpointer.note_features(data)
    given = context.task.given_parts(options, model.streams)
    runner = StrategyRunner(context, session, data, run, JointSpace.of(model.searchables()), initial)

    def genotype_files(row: Row) -> dict[str, object]:
        facts = meta(context, row["epoch"], row[metric])
        searched = runner.architecture(row["epoch"]).with_meta(facts)
        return {"genotype.json": searched.with_parts(given).to_json()}

    with tracking(options, run) as tracker:
        learner, validate = runner.learner()
        with checkpointer.running(**learner.stateful):
            record = Recorder(checkpointer, tracker, genotype_files)

            def on_epoch(row: Row, is_best: bool) -> None:
                if runner.learns_logits:
                    run.append_row({"epoch": row["epoch"], "levels": runner.space.named_weights()}, ALPHAS)
                record(row, is_best)
                run.log(f"  genotype {row['genotype']}: {row['argmax']}")
                if text := alarm(row, runner.space.num_choices):
                    run.log(text)

            reason = run_epochs(learner, validate, options.epochs, on_epoch, runner.describe, runner.should_stop)
        del validate  # so that the workers of its loader end
        run.log(f"ended early: {reason}" if reason else f"all {options.epochs} epochs done")
        facts = meta(context, session.progress.best_epoch, session.progress.best)
        with torch.compiler.set_stance("force_eager"):  # one network after the other, each for a moment
            architecture = discretize(runner, tracker, facts).with_parts(given)
        run.write_json("genotype.json", architecture.to_json())
        if run.is_writer and (text := public_text(architecture)):
            replace_file(run.path / "genotype.log", lambda file: file.write(text.encode()))
        track_files(tracker, run, data, "val")
    context.finish_learning(run, session.progress, "search_exp_dir", CARRIED)


def meta(context: RunContext, epoch: int, score: float | None) -> dict:
    """Return where a genotype came from."""
    options, split = context.options, context.data.split
    facts = {"seed": options.seed, "epoch": epoch, f"{context.task.metric}_val": score, "split": split.hash}
    facts |= {"protocol": split.protocol} | context.facts
    return facts | {"args": options.plain(), "commit": commit()}

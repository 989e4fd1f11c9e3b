"""Train a network: of a genotype, or a baseline. It never reads the test part; the epoch is chosen on `val`."""

from typing import Any

import torch

from commands.architecture import load_architecture
from commands.options import check_edges, source_of
from commands.recipe import check_recipe, recipe_of
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
from engine.epochs import Training, run_epochs
from engine.feature_caching import cache_sizes, cached
from engine.step import validator
from engine.task import Task
from models.search.architecture import Architecture
from models.search.parameters import count_parameters
from report.wandb_files import track_files
from utils.args import Options
from utils.distributed import ranks
from utils.run_folder import RunFolder
from utils.seed import seed_everything
from utils.signals import Stop

CARRIED = ("config", "workers", "device", "amp")


def train_network(task: Task, options: Options) -> None:
    """Do what the options say, with their one seed; writes last.pt, best.pt and the best epoch's answers on `val`."""
    check_edges(options)
    seed_everything(options.seed)
    source = source_of(options)
    check_recipe(options)
    options = task.check_options(options)
    compute = compute_of(options)
    data = task.open_data(options)
    check_cache_options(options, data)
    facts = {"checkpoint_split": task.check_pretrained(options, data)} | task.facts(data, "found")
    options = task.complete(options, data)
    streams = task.build_streams(options, data)
    architecture = ranks().broadcast_from_first(lambda: load_architecture(task, options, source, streams))
    model = task.build_network(options, data, streams, architecture)
    if options.stream_lr:
        streams.unfreeze()
    facts |= {"genotype": architecture.to_json() if architecture else None}
    context = RunContext(task, options, data, compute.place(model), compute, facts)
    if options.dry_run:
        print_dry_run(sizes(context, architecture))
        return
    with running("found", task, options, data) as (run, stop):
        run.log(f"split of the checkpoints: {facts['checkpoint_split']}")
        if architecture:
            run.log(f"genotype {architecture.id}: {architecture.words}")
        run_training(context, run, stop)


def describe(task: Task, model: torch.nn.Module, architecture: Architecture | None) -> dict[str, Any]:
    """Return what a dry run prints of a network."""
    sizes = {f"parameters_{name}": count_parameters(part) for name, part in task.brackets(model).items()}
    return sizes | ({"genotype": architecture.id, "in_words": architecture.words} if architecture else {})


def sizes(context: RunContext, architecture: Architecture | None) -> dict[str, Any]:
    """Return what a dry run prints."""
    task, options, data, model, compute = context.task, context.options, context.data, context.model, context.compute
    steps = {"steps_per_epoch": compute.num_steps(data.loader(*data.learning, train=True)), "epochs": options.epochs}
    parts = {"learning": data.learning, "plain": ("val",), "stream_lr": options.stream_lr}
    cache = cache_sizes(data, model=model, compute=compute, dtype=options.cache_dtype, **parts)
    return describe(task, model, architecture) | steps | memory_of(context) | cache


def run_training(context: RunContext, run: RunFolder, stop: Stop) -> None:
    task, options, model, compute = context.task, context.options, context.model, context.compute
    session = context.session(run)
    checkpointer = context.checkpointer(run, stop, "found", session)
    if context.facts["genotype"]:
        run.write_json("genotype.json", context.facts["genotype"])
    cache = cache_options(options) | {"learning": context.data.learning, "plain": ("val",)}
    data = cached(context.data, model=model, compute=compute, log=run.log, **cache)
    checkpointer.note_features(data)
    loader = data.loader(*data.learning, train=True)
    training = Training.make(session, recipe_of(options), loader, options.epochs)
    validate, answers = validator(session, data, "val")
    with tracking(options, run) as tracker:
        with checkpointer.running(**training.stateful):
            record = Recorder(checkpointer, tracker, lambda row: {task.predictions_file: answers})
            run_epochs(training, validate, options.epochs, record)
        track_files(tracker, run, data, "val")
    values = {"search_exp_dir": options.search_exp_dir} if options.search_exp_dir else {}
    values |= {"eval_exp_dir": run.path} | task.next_options(options, "found")
    command = next_command_line(f"main_darts_found_{task.name}.py", options, values, CARRIED)
    finish(run, options, data, [session.progress.in_words(task.metric), f"eval_exp_dir: {run.path}", command])

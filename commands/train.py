"""Train a network: of a genotype, or a baseline. It never reads the test part; the epoch is chosen on `val`."""

from typing import Any

import torch

from commands.architecture import load_architecture
from commands.options import source_of
from commands.recipe import check_recipe, recipe_of
from commands.recorder import Recorder, tracking
from commands.run import RunContext, cache_options, print_dry_run
from engine.epochs import Training, Untrained, run_epochs
from engine.feature_caching import cache_sizes, cached
from engine.step import validator
from engine.task import Task
from models.search.architecture import Architecture
from models.search.parameters import count_parameters
from report import track_files
from utils.args import Options
from utils.distributed import ranks
from utils.run_folder import RunFolder

CARRIED = ("config", "workers", "device", "amp")


def train(task: Task, options: Options) -> None:
    """Do what the options say, with their one seed; writes last.pt, best.pt and the best epoch's answers on `val`."""
    source = source_of(options)
    check_recipe(options)
    options = task.check_options(options)
    context = RunContext.open("found", task, options)
    options, data = context.options, context.data
    streams = task.build_streams(options, data)
    architecture = ranks().broadcast_from_first(lambda: load_architecture(task, options, source, streams))
    model = task.build_network(options, data, streams, architecture)
    if options.stream_lr:
        streams.unfreeze()
    context = context.with_model(model, genotype=architecture.to_json() if architecture else None)
    if options.dry_run:
        print_dry_run(sizes(context, architecture))
        return
    with context.running() as run:
        if architecture:
            run.log(f"genotype {architecture.id}: {architecture.words}")
        for line in task.introduction(context.data, context.model):
            run.log(line)
        run_training(context, run)


def describe(task: Task, model: torch.nn.Module, architecture: Architecture | None) -> dict[str, Any]:
    """Return what a dry run prints of a network."""
    sizes = {f"parameters_{name}": count_parameters(part) for name, part in task.brackets(model).items()}
    return sizes | ({"genotype": architecture.id, "in_words": architecture.words} if architecture else {})


def sizes(context: RunContext, architecture: Architecture | None) -> dict[str, Any]:
    """Return what a dry run prints."""
    options, data = context.options, context.data
    if not context.task.trainable:
        lines = context.task.introduction(data, context.model)
        return {
            "network": lines,
            "parameters": context.task.num_parameters(context.model),
            data.unit: len(data.records("val")),
        }
    steps = context.compute.num_steps(data.loader(*data.learning, train=True))
    cache = cache_sizes(context.encoding(), cache_options(options), learning=data.learning, plain=("val",))
    parts = describe(context.task, context.model, architecture)
    return parts | {"steps_per_epoch": steps, "epochs": options.epochs} | context.memory() | cache


def run_training(context: RunContext, run: RunFolder) -> None:
    options, learning, session = context.options, context.data.learning, context.session(run)
    checkpointer = context.checkpointer(run, session)
    if context.facts["genotype"]:
        run.write_json("genotype.json", context.facts["genotype"])
    data = cached(context.encoding(), cache_options(options), run.log, learning=learning, plain=("val",))
    checkpointer.note_features(data)
    training = (
        Training.make(session, recipe_of(options), data.loader(*learning, train=True), options.epochs)
        if context.task.trainable
        else Untrained(session)
    )
    validate, answers = validator(session, data, "val")
    with tracking(options, run) as tracker:
        with checkpointer.running(**training.stateful):
            record = Recorder(checkpointer, tracker, lambda row: {context.task.predictions_file: answers})
            run_epochs(training, validate, options.epochs, record)
        for line in context.task.answer_warnings(context.data, context.model, "val", answers):
            run.log(line)
        track_files(tracker, run, data, "val")
    values = options.keywords("search_exp_dir") if options.search_exp_dir else {}
    context.finish_learning(run, session.progress, "eval_exp_dir", CARRIED, **values)

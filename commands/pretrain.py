"""Pretrain the networks that a search starts from, each in a stage; writes checkpointdir."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from commands.options import check_encoder
from commands.recipe import pretraining_recipe
from commands.recorder import Recorder, tracking
from commands.run import RunContext, cache_options, print_dry_run
from engine.epochs import Training, run_epochs
from engine.feature_caching import CacheOptions, cache_sizes, cached
from engine.pretrained import make_folder, publish
from engine.step import validator
from engine.task import Pretraining, Stage, Task
from models.search.parameters import count_parameters
from utils import checkpoint
from utils.args import Options
from utils.distributed import ranks
from utils.errors import UserError
from utils.lock import locked_by_first
from utils.run_folder import RunFolder
from utils.seed import seed_everything
from utils.tracking import Tracker

CARRIED = ("config", "dataset", "checkpointdir", "fullbb_path", "head_path", "num_classes", "split_seed")
CARRIED += ("folds", "fold")
CARRIED += ("paper_protocol", "small_dataset", "max_bad_files", "workers", "device")


def pretrain(task: Task, options: Options) -> None:
    """Do what the options say."""
    check_encoder(options)
    options = task.check_options(options)
    context = RunContext.open("pretrain", task, options)
    options = context.options
    pretraining = task.pretraining(options, context.data)
    if not pretraining.stages:
        raise UserError(f"{task.name}: expected a task with pretraining, found one without")
    pretraining.check()
    loaders = {stage.name: stage.data.loader(*stage.parts, train=True) for stage in pretraining.stages}
    if options.dry_run:
        print_dry_run(sizes(context, pretraining.stages, loaders))
        return
    ranks().broadcast_from_first(lambda: make_folder(options.checkpointdir))
    with context.running() as run, tracking(options, run) as tracker:
        models: dict[str, torch.nn.Module] = {}

        def train_stages(shared: bool) -> None:
            for stage in (stage for stage in pretraining.stages if stage.shared is shared):
                if (model := stage.model(models, run.log)) is not None:
                    of_stage = replace(context, data=stage.data).with_model(model)
                    model.load_state_dict(fit(of_stage, stage, run, tracker))
                    models[stage.name] = model.cpu()

        train_stages(shared=False)
        trained = list(models)
        with locked_by_first(Path(options.checkpointdir), run.log, "another pretraining"):
            ranks().broadcast_from_first(pretraining.check)  # again: another may have ended since
            train_stages(shared=True)
            files = ranks().broadcast_from_first(lambda: write(pretraining, context, models, trained))
        context.finish(run, last_lines(pretraining, context, files))


def write(pretraining: Pretraining, context: RunContext, models: dict, trained: list[str]) -> list[str]:
    """Publish what the stages have trained; returns the names of the files."""
    files, modalities = pretraining.files(models), pretraining.modalities or tuple(trained)
    folder, split = context.options.checkpointdir, context.data.split
    publish(folder, files, pretraining.facts(), split, trained=trained, modalities=modalities)
    return list(files)


def sizes(context: RunContext, stages: list[Stage], loaders: dict[str, Any]) -> dict[str, Any]:
    """Return what a dry run prints."""
    stages = [stage for stage in stages if not stage.shared]
    models = {stage.name: stage.model({}, print) for stage in stages}
    parts = {f"parameters_{name}": count_parameters(model) for name, model in models.items()}
    first = stages[0].name
    steps = {"steps_per_epoch": context.compute.num_steps(loaders[first]), "epochs": context.options.epochs}
    for stage in (stage for stage in stages if stage.features):
        encoding = replace(context, data=stage.data).with_model(models[stage.name]).encoding()
        cache = cache_sizes(encoding, caching(context, stage), learning=stage.parts, plain=("val",))
        steps |= {f"{name}_{stage.name}": size for name, size in cache.items()}
    return parts | context.with_model(models[first]).memory() | steps


def caching(context: RunContext, stage: Stage) -> CacheOptions:
    """Return how the features of a stage's encoders are kept."""
    learning = "" if stage.features else f"the encoder of {stage.name} learns, so its features change"
    return replace(cache_options(context.options), level=stage.features or None, learning=learning)


def fit(context: RunContext, stage: Stage, run: RunFolder, tracker: Tracker) -> dict:
    """Train what is trainable with AdamW and one learning-rate cycle; returns the state that is best on val."""
    options, session = context.options, context.session(run)
    checkpointer = context.checkpointer(run, session, stage.name)
    data = cached(context.encoding(), caching(context, stage), run.log, learning=stage.parts, plain=("val",))
    checkpointer.note_features(data)
    seed_everything(options.seed)  # so that a modality trained alone equals one of both
    loader = data.loader(*stage.parts, train=True)
    training = Training.make(session, pretraining_recipe(options), loader, stage.epochs)
    validate, _ = validator(session, data, "val")
    with checkpointer.running(**training.stateful):
        run_epochs(training, validate, stage.epochs, Recorder(checkpointer, tracker))
    return session.compute.ranks.broadcast_from_first(lambda: checkpoint.load(checkpointer.file("best"))["model"])


def last_lines(pretraining: Pretraining, context: RunContext, files: list[str]) -> list[str]:
    line = f"checkpointdir: {context.options.checkpointdir}"
    if pretraining.next_command is None:
        return [line]
    script, values = pretraining.next_command(files)
    if not script:
        return [line, f"next: the same command with {' '.join(f'--{n} {value}' for n, value in values.items())}"]
    return [line, context.next_command(script, values, CARRIED)]

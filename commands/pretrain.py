"""Pretrain the networks that a search starts from, each in a stage; writes checkpointdir."""

from pathlib import Path
from typing import Any

import torch

from commands.recipe import pretraining_recipe
from commands.recorder import Recorder, tracking
from commands.run import RunContext, compute_of, finish, memory_of, next_command_line, print_dry_run, running
from engine.compute import Compute
from engine.epochs import Training, run_epochs
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
from utils.signals import Stop
from utils.tracking import Tracker

CARRIED = ("config", "dataset", "checkpointdir", "fullbb_path", "head_path", "num_classes", "split_seed")
CARRIED += ("paper_protocol", "small_dataset", "max_bad_files", "workers", "device")


def pretrain(task: Task, options: Options) -> None:
    """Do what the options say."""
    options = task.check_options(options)
    compute = compute_of(options)
    data = task.open_data(options)
    options = task.complete(options, data)
    pretraining = task.pretraining(options, data)
    if not pretraining.stages:
        raise UserError(f"{task.name}: expected a task with pretraining, found one without")
    pretraining.check()
    loaders = {stage.name: stage.data.loader(*stage.parts, train=True) for stage in pretraining.stages}
    if options.dry_run:
        print_dry_run(sizes(task, options, compute, pretraining.stages, loaders))
        return
    ranks().broadcast_from_first(lambda: make_folder(options.checkpointdir))
    with running("pretrain", task, options, data) as (run, stop), tracking(options, run) as tracker:

        def train_stage(stage: Stage, models: dict[str, torch.nn.Module]) -> None:
            model = stage.model(models, run.log)
            if model is None:
                return
            context = RunContext(task, options, stage.data, compute.place(model), compute)
            model.load_state_dict(fit(context, stage, loaders[stage.name], run, stop, tracker))
            models[stage.name] = model.cpu()

        files = run_stages(pretraining, options, data, run, train_stage)
        finish(run, options, data, last_lines(pretraining, options, files))


def sizes(
    task: Task, options: Options, compute: Compute, stages: list[Stage], loaders: dict[str, Any]
) -> dict[str, Any]:
    """Return what a dry run prints."""
    stages = [stage for stage in stages if not stage.shared]
    models = {stage.name: stage.model({}, print) for stage in stages}
    parts = {f"parameters_{name}": count_parameters(model) for name, model in models.items()}
    context = RunContext(task, options, stages[0].data, compute.place(models[stages[0].name]), compute)
    steps = {"steps_per_epoch": compute.num_steps(loaders[stages[0].name]), "epochs": options.epochs}
    return parts | memory_of(context) | steps


def run_stages(pretraining: Pretraining, options: Options, data: Any, run: RunFolder, train_stage: Any) -> list[str]:
    """Train the stages, from where the run was left, and publish; returns the names of the published files."""
    models: dict[str, torch.nn.Module] = {}
    for stage in (stage for stage in pretraining.stages if not stage.shared):
        train_stage(stage, models)
    trained = list(models)
    with locked_by_first(Path(options.checkpointdir), run.log, "another pretraining"):
        ranks().broadcast_from_first(pretraining.check)  # again: another may have ended since
        for stage in (stage for stage in pretraining.stages if stage.shared):
            train_stage(stage, models)

        def write() -> list[str]:
            files = pretraining.files(models)
            publish(
                options.checkpointdir,
                files=files,
                facts=pretraining.facts(),
                split=data.split,
                trained=trained,
                modalities=pretraining.modalities or tuple(trained),
            )
            return list(files)

        return ranks().broadcast_from_first(write)


def fit(context: RunContext, stage: Stage, loader: Any, run: RunFolder, stop: Stop, tracker: Tracker) -> dict:
    """Train what is trainable with AdamW and one learning-rate cycle; returns the state that is best on val."""
    options, compute = context.options, context.compute
    seed_everything(options.seed)  # so that a modality trained alone equals one of both
    session = context.session(run)
    training = Training.make(session, pretraining_recipe(options), loader, stage.epochs)
    checkpointer = context.checkpointer(run, stop, "pretrain", session, stage.name)
    validate, _ = validator(session, stage.data, "val")
    with checkpointer.running(**training.stateful):
        run_epochs(training, validate, stage.epochs, Recorder(checkpointer, tracker))
    return compute.ranks.broadcast_from_first(lambda: checkpoint.load(checkpointer.file("best"))["model"])


def last_lines(pretraining: Pretraining, options: Options, files: list[str]) -> list[str]:
    line = f"checkpointdir: {options.checkpointdir}"
    if pretraining.next_command is None:
        return [line]
    script, values = pretraining.next_command(files)
    if not script:
        return [line, f"next: the same command with {' '.join(f'--{n} {value}' for n, value in values.items())}"]
    return [line, next_command_line(script, options, values, CARRIED)]

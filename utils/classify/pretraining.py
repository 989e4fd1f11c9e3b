"""Pretraining of the encoders of a data set, each as a classifier by itself, on the train list."""

import argparse
from pathlib import Path

from torch import nn

from commands.run import finish, is_finished, resume_options, running
from datasets.data_module import DataModule
from models.classification.fused_classifier import SingleClassifier
from tasks.classification.build import build_encoder, encoder_file, open_examples, pretraining, task_of
from tasks.classification.options import parser_of
from tasks.classification.presets import DataSet
from utils import checkpoint
from utils.args import parse
from utils.distributed import ranks
from utils.errors import UserError, short
from utils.experiment import PRETRAINED, pick_compute
from utils.learning import Setting, fit
from utils.lock import locked
from utils.pretrained import make_folder
from utils.reporting import count_parameters, next_command_line, print_dry_run, tracking
from utils.run_folder import write_json
from utils.saving import save
from utils.seed import seed_everything

CARRIED = ("config", "checkpointdir", "split_seed", "paper_protocol", "small_dataset", "max_bad_files", "workers")
CARRIED += ("device",)
BACKBONED = {"image", "rgb", "depth"}  # modalities whose network --backbone names


def pretrain(data_set: DataSet, argv: list[str]) -> None:
    """Train the encoders that --modality names; writes their files, split.json and pretrain.json into checkpointdir."""
    make_parser = parser_of(data_set)
    args = resume_options(parse(make_parser, argv, "pretrain"), "pretrain", make_parser)
    if is_finished(args.resume):
        return
    modalities = tuple(data_set.files) if args.modality == "both" else (args.modality,)
    compute = pick_compute(args)
    parts = open_examples(data_set, args, modalities)
    if min(args.batchsize, len(parts.records("train"))) < 2:
        raise UserError("--batchsize: expected at least 2 examples, which batch norm needs, found 1")
    check_others(args, parts)
    models = {}
    for modality in modalities:
        seed_everything(args.seed)  # so that a modality trained alone equals one of both
        models[modality] = SingleClassifier(modality, build_encoder(data_set, args, modality, not args.no_imagenet))
    if args.dry_run:
        sizes = {f"parameters_{m}": count_parameters(model) for m, model in models.items()}
        steps = compute.num_steps(parts.loader("train", train=True))
        print_dry_run(sizes | {"steps_per_epoch": steps, "epochs": args.epochs})
        return

    ranks().broadcast_from_first(lambda: make_folder(args.checkpointdir))
    with running("pretrain", args, parts, []) as (run, stop), tracking(args, run) as tracker:
        for modality, model in models.items():
            own = parts.of(modality)
            setting = Setting(args, own, compute.place(model), task_of(data_set, args), compute)
            loader = own.loader("train", train=True)
            models[modality].load_state_dict(fit(setting, loader, tracker, run, stop, modality, args.epochs))
            model.cpu()
        ranks().broadcast_from_first(lambda: publish(data_set, args, parts, models))
        next_command = next_command_line(
            f"main_darts_searchable_{data_set.name}.py", args, {}, (*CARRIED, *data_set.files.values())
        )
        finish(run, args, parts, [f"checkpointdir: {args.checkpointdir}", next_command])


def check_others(args: argparse.Namespace, parts: DataModule) -> None:
    """Refuse another backbone, or other classes, than those of the encoders that stay in checkpointdir."""
    known, path = pretraining(args), Path(args.checkpointdir) / PRETRAINED
    others = sorted(set(known.get("splits", {})) - set(parts.data.modalities))
    ours = {"classes": parts.data.classes}
    ours |= {"backbone": args.backbone} if BACKBONED & set(others) and BACKBONED & set(parts.data.modalities) else {}
    for name, value in ours.items():
        if others and known.get(name) != value:
            told = f"{short(known.get(name))} as for {', '.join(others)} in {path}"
            raise UserError(f"{name}: expected {told}, found {short(value)}; name another --checkpointdir")


def publish(data_set: DataSet, args: argparse.Namespace, parts: DataModule, models: dict[str, nn.Module]) -> None:
    """Write the finished encoders, the split and the options, all at the end; replaced files are kept as NAME.bak."""
    folder = Path(args.checkpointdir)
    with locked(folder, print, "another pretraining"):
        check_others(args, parts)  # again: another pretraining may have ended since
        earlier = pretraining(args)
        backbone = args.backbone if BACKBONED & set(models) else earlier.get("backbone", args.backbone)
        known = {"backbone": backbone, "classes": parts.data.classes}
        splits = {m: h for m, h in earlier.get("splits", {}).items() if m not in models}
        write_json(folder / PRETRAINED, known | {"splits": splits})
        for modality, model in models.items():
            path, state = encoder_file(data_set, args, modality), model.encoder.state_dict()
            if not checkpoint.holds(path, state):  # as where a run goes on that was stopped in here
                checkpoint.keep_backup(path)
                save(path, state)
        write_json(folder / "split.json", parts.split.to_json())
        splits |= dict.fromkeys(models, parts.split.hash)
        write_json(folder / PRETRAINED, known | {"splits": splits})

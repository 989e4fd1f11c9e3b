"""Pretrain the single-modality detectors, then the shared head on the mean of both streams' last taps.

Writes, into --checkpointdir, the two files that search and training start from (names and tensors as in the released
ones), thermal_head.pth, rgb_head.pth, split.json and pretrain.json. Recipe and reasons: docs/pretraining.md.
"""

import argparse
import copy
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from datasets.parts import Parts
from engine.step import Compute
from engine.train import Progress, train
from models.backbones import create_encoder, encoder_channels
from models.detection.bifpn import BiFPN
from models.detection.heads import DetectionHead
from models.detection.layers import set_norm_momentum
from models.fusion_detector import MODALITIES, FusionDetector, SingleDetector, baseline_fusions
from models.search.parameters import weight_parameters
from utils import checkpoint
from utils.args import command, parse, plain
from utils.errors import UserError
from utils.experiment import (
    FROM_PRETRAINING,
    PRETRAINED,
    build_head,
    build_streams,
    check_batch,
    check_split,
    open_data,
    pick_compute,
    recorded_splits,
)
from utils.options import make_parser
from utils.reporting import TASK, Recorder, count_parameters, next_command, print_dry_run, start_run, validator
from utils.run_folder import RunFolder, write_json
from utils.seed import seed_everything
from utils.tracking import Tracker

CARRIED = ("config", "dataset", "checkpointdir", "fullbb_path", "head_path", "num_classes", "split_seed")
CARRIED += ("paper_protocol", "workers", "device")


@dataclass(frozen=True)
class Job:
    """What every phase of a pretraining run shares."""

    args: argparse.Namespace
    parts: Parts
    loader: DataLoader
    compute: Compute
    run: RunFolder
    tracker: Tracker


@command
def main(argv: list[str]) -> None:
    args = parse(make_parser, argv, "pretrain")
    check_sizes(args)
    seed_everything(args.seed)
    compute = pick_compute(args)
    parts = open_data(args)
    check_batch(args, parts, parts.learning)
    modalities = MODALITIES if args.modality == "both" else (args.modality,)
    detectors = {m: build_detector(args, m, parts.data.normalization) for m in modalities}
    streams_file = Path(args.checkpointdir) / args.fullbb_path
    check_other_half(args, parts, streams_file, detectors)
    loader = parts.loader(*parts.learning, train=True)
    if args.dry_run:
        sizes = {f"parameters_{m}": count_parameters(d) for m, d in detectors.items()}
        print_dry_run(sizes | {"steps_per_epoch": len(loader), "epochs": args.epochs})
        return

    make_folder(args.checkpointdir)
    run = start_run("pretrain", args, parts)
    job = Job(args, parts, loader, compute, run, Tracker(args.wandb, run.path, plain(args)))
    state = checkpoint.load(streams_file) if args.modality != "both" and streams_file.exists() else {}
    for modality, detector in detectors.items():
        compute.place(detector)
        detector.load_state_dict(fit(job, detector, modality, args.epochs))
        state = {k: v for k, v in state.items() if not k.startswith(f"{modality}_")} | detector.cpu().stream_state()
    files = {args.fullbb_path: state} | {f"{m}_head.pth": d.head.state_dict() for m, d in detectors.items()}
    if all(any(k.startswith(f"{m}_") for k in state) for m in MODALITIES):
        files[args.head_path] = train_shared_head(job, state, copy.deepcopy(detectors[modalities[0]].head))
    else:
        run.log("the other modality is not there yet: the shared head is trained once it is")
    publish(job, files, modalities)
    job.tracker.finish()
    run.log(f"checkpointdir: {args.checkpointdir}")
    options = {} if args.config else {"batchsize": 8, "epochs": 10}
    run.log(next_command("main_darts_searchable_flira.py", args, options, CARRIED))


def make_folder(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--checkpointdir {path}: expected a folder that can be written, found: {error}") from None


def check_sizes(args: argparse.Namespace) -> None:
    """Settle repeats and levels, published where not given, and refuse what no stream can be."""
    args.num_input_nodes, args.fusion_levels = args.num_input_nodes or 10, args.fusion_levels or 5
    if args.fusion_levels < 3:
        raise UserError(f"--fusion_levels: expected at least 3 (the encoder's own levels), found {args.fusion_levels}")
    if args.num_input_nodes % 2:
        raise UserError(f"--num_input_nodes: expected an even number (2 x BiFPN repeats), found {args.num_input_nodes}")


def build_detector(args: argparse.Namespace, modality: str, normalization: dict) -> SingleDetector:
    """Build one modality's detector with the start weights that the options ask for."""
    encoder = create_encoder(args.backbone, args.drop_path, imagenet=not (args.no_imagenet or args.init))
    fpn = BiFPN(encoder_channels(encoder), args.C, args.num_input_nodes // 2, args.fusion_levels)
    set_norm_momentum(fpn, args.norm_momentum)
    detector = SingleDetector(modality, encoder, fpn, build_head(args), normalization, args.anchor_scale)
    if args.init:
        load_efficientdet(detector, Path(args.init))
    return detector


def load_efficientdet(detector: SingleDetector, path: Path) -> None:
    """Load a COCO-pretrained EfficientDet (backbone, fpn, class_net, box_net); a class layer of other size stays new.

    Raises:
        UserError: a tensor is missing or of another shape.
    """
    state = checkpoint.load(path)
    parts = {"backbone": detector.backbone, "fpn": detector.fpn}
    parts |= {"class_net": detector.head.fusion_class_net, "box_net": detector.head.fusion_box_net}
    for name, part in parts.items():
        own = {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(name + ".")}
        fresh = {k: v for k, v in part.state_dict().items() if k.startswith("predict.conv_pw.")}
        if (
            name == "class_net"
            and own.keys() >= fresh.keys()
            and own["predict.conv_pw.bias"].shape != fresh["predict.conv_pw.bias"].shape
        ):
            own |= fresh
        checkpoint.load_state(part, own, f"--init {path}: {name}")


def check_other_half(
    args: argparse.Namespace, parts: Parts, stream_file: Path, detectors: dict[str, SingleDetector]
) -> None:
    """Refuse, before anything is trained, a streams file whose other modality does not fit or saw another split."""
    others = set(MODALITIES) - set(detectors)
    if not others or not stream_file.exists():
        return
    check_split(args, parts.split, tuple(others))
    (other,), ((own, detector),) = others, detectors.items()
    state = checkpoint.load(stream_file)
    expected = {other + k[len(own) :]: tuple(v.shape) for k, v in detector.stream_state().items()}
    found = {k: tuple(v.shape) for k, v in state.items() if k.startswith(f"{other}_")}
    for name in [*expected, *found] if found else []:
        if found.get(name) != expected.get(name):
            raise UserError(
                f"{stream_file}: {name}: expected {expected.get(name, 'nothing')} as in the new {own} stream, "
                f"found {found.get(name, 'nothing')}"
            )


def fit(job: Job, model: nn.Module, phase: str, epochs: int) -> dict:
    """Train what is trainable with AdamW and one learning-rate cycle; returns the state that is best on val."""
    args, steps = job.args, epochs * len(job.loader)
    optimizer = torch.optim.AdamW(weight_parameters(model), lr=args.lr, weight_decay=args.weight_decay)
    rising = args.warmup if args.warmup * steps > 1 else 0.0  # OneCycleLR divides by zero at exactly one step
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, steps, pct_start=rising)
    validate, _ = validator(model, job.parts, "val", job.compute)
    progress = Progress()
    facts = {"kind": "pretrain", "args": plain(args)}
    recorder = Recorder(job.run, job.tracker, model, progress, facts, phase)
    train(model, TASK, optimizer, schedule, job.loader, validate, epochs, job.compute, progress, recorder)
    return checkpoint.load(recorder.best)["model"]


def publish(job: Job, files: dict[str, dict], modalities: tuple[str, ...]) -> None:
    """Write the finished weights, the split and the options, all at the end; replaced files are kept as NAME.bak."""
    folder = Path(job.args.checkpointdir)
    splits = {m: h for m, h in recorded_splits(folder).items() if h != "none recorded"}
    for name, state in files.items():
        checkpoint.keep_backup(folder / name)
        checkpoint.save(folder / name, state)
    write_json(folder / "split.json", job.parts.split.to_json())
    splits |= dict.fromkeys(modalities, job.parts.split.hash)
    options = {name: getattr(job.args, name) for name in FROM_PRETRAINING}
    write_json(folder / PRETRAINED, options | {"splits": splits})


def train_shared_head(job: Job, streams_state: dict, start: DetectionHead) -> dict:
    """Train a head on the mean of both last taps, from a modality's head, streams frozen; returns its state dict."""
    args = job.args
    streams = build_streams(args)
    checkpoint.load_state(streams, streams_state, args.fullbb_path)
    fusions, modalities = baseline_fusions("mean", args.C, args.fusion_levels)
    model = FusionDetector(streams, fusions, start, job.parts.data.normalization, args.anchor_scale, modalities)
    model.load_state_dict(fit(job, job.compute.place(model), "head", args.head_epochs))
    return model.head.cpu().state_dict()


if __name__ == "__main__":
    sys.exit(main())

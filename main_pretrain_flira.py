"""Pretrain the single-modality detectors, then the shared head on the mean of both streams' last taps.

Writes, into --checkpointdir, the two files that search and training start from (names and tensors as in the released
ones), thermal_head.pth, rgb_head.pth, split.json and pretrain.json. Recipe and reasons: docs/pretraining.md.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import nn

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
    TASK,
    Recorder,
    build_head,
    build_streams,
    check_split,
    count_parameters,
    open_data,
    pick_compute,
    print_dry_run,
    start_run,
    validator,
)
from utils.options import make_parser
from utils.run_folder import RunFolder, write_json
from utils.seed import seed_everything
from utils.tracking import Tracker


@command
def main(argv: list[str]) -> None:
    args = parse(make_parser, argv, "pretrain")
    seed_everything(args.seed)
    compute = pick_compute(args)
    parts = open_data(args)
    args.num_input_nodes, args.fusion_levels = args.num_input_nodes or 10, args.fusion_levels or 5
    if args.fusion_levels < 3:
        raise UserError(f"--fusion_levels: expected at least 3 (the encoder's own levels), found {args.fusion_levels}")
    if args.num_input_nodes % 2:
        raise UserError(f"--num_input_nodes: expected an even number (2 x BiFPN repeats), found {args.num_input_nodes}")
    modalities = MODALITIES if args.modality == "both" else (args.modality,)
    detectors = {m: build_detector(args, m, parts.data.normalization) for m in modalities}
    stream_file = Path(args.checkpointdir) / args.fullbb_path
    check_other_half(args, parts, stream_file, detectors)
    loader = parts.loader(*parts.learning, train=True)
    if args.dry_run:
        print_dry_run(
            {m: count_parameters(d) for m, d in detectors.items()}
            | {"steps_per_epoch": len(loader), "epochs": args.epochs}
        )
        return
    Path(args.checkpointdir).mkdir(parents=True, exist_ok=True)
    run = start_run("pretrain", args, parts)
    tracker = Tracker(args.wandb, run.path, plain(args))
    for path in written_files(args):
        checkpoint.keep_backup(path)
    state = checkpoint.load(stream_file) if args.modality != "both" and stream_file.exists() else {}
    for modality, detector in detectors.items():
        compute.place(detector)
        best = fit(args, detector, parts, loader, compute, run, tracker, modality, args.epochs)
        detector.load_state_dict(best["model"])
        state |= detector.cpu().stream_state()
        publish(args, parts, state, detector)
    if all(any(k.startswith(f"{m}_") for k in state) for m in MODALITIES):
        train_shared_head(args, parts, loader, compute, run, tracker, state)
    else:
        run.log("the other modality is not there yet: the shared head is trained once it is")
    tracker.finish()
    run.log(f"checkpointdir: {args.checkpointdir}")
    run.log(f"next: python main_darts_searchable_flira.py {args.data} --batchsize=8 --epochs=10{extra(args)}")


def extra(args: argparse.Namespace) -> str:
    config = f" --config {args.config}" if args.config else ""
    return config + (f" --checkpointdir {args.checkpointdir}" if "checkpointdir" in args.typed else "")


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


def check_other_half(args: argparse.Namespace, parts, stream_file: Path, detectors: dict[str, SingleDetector]) -> None:
    """Refuse, before anything is trained, a streams file whose other modality does not fit or saw another split."""
    others = set(MODALITIES) - set(detectors)
    if not others or not stream_file.exists():
        return
    check_split(args, parts.split)
    (other,), ((own, detector),) = others, detectors.items()
    state = checkpoint.load(stream_file)
    expected = {other + k[len(own) :]: v.shape for k, v in detector.stream_state().items()}
    found = {k: v.shape for k, v in state.items() if k.startswith(f"{other}_")}
    for name, shape in expected.items():
        if found and found.get(name) != shape:
            raise UserError(
                f"{stream_file}: {name}: expected {tuple(shape)} as in the {own} stream, found {found.get(name)}"
            )


def fit(
    args: argparse.Namespace,
    model: nn.Module,
    parts,
    loader,
    compute: Compute,
    run: RunFolder,
    tracker: Tracker,
    phase: str,
    epochs: int,
) -> dict:
    """Train what is trainable with AdamW and one learning rate cycle; returns the checkpoint that is best on val."""
    optimizer = torch.optim.AdamW(weight_parameters(model), lr=args.lr, weight_decay=args.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, epochs * len(loader), pct_start=args.warmup)
    validate, _ = validator(model, parts, "val", compute)
    progress = Progress()
    recorder = Recorder(run, tracker, model, progress, {"kind": "pretrain", "args": plain(args)}, phase)
    train(model, TASK, optimizer, schedule, loader, validate, epochs, compute, progress, recorder)
    return checkpoint.load(recorder.best)


def written_files(args: argparse.Namespace) -> list[Path]:
    """Return the files in checkpointdir that this run will write."""
    modalities = MODALITIES if args.modality == "both" else (args.modality,)
    names = [args.fullbb_path, args.head_path, *(f"{m}_head.pth" for m in modalities), "split.json", PRETRAINED]
    return [Path(args.checkpointdir) / name for name in names]


def publish(args: argparse.Namespace, parts, streams_state: dict, detector: SingleDetector) -> None:
    """Write the streams file with the modality's new half, its head, the split and the options."""
    folder = Path(args.checkpointdir)
    checkpoint.save(folder / args.fullbb_path, streams_state)
    checkpoint.save(folder / f"{detector.modality}_head.pth", detector.head.state_dict())
    write_json(folder / "split.json", parts.split.to_json())
    write_json(folder / PRETRAINED, {name: getattr(args, name) for name in FROM_PRETRAINING})


def train_shared_head(args: argparse.Namespace, parts, loader, compute, run, tracker, streams_state: dict) -> None:
    """Train the head on the mean of both last taps, from the thermal head, streams frozen; write the head's file."""
    folder = Path(args.checkpointdir)
    streams = build_streams(args)
    checkpoint.load_state(streams, streams_state, args.fullbb_path)
    fusions, modalities = baseline_fusions("mean", args.C, args.fusion_levels)
    head: DetectionHead = build_head(args)
    checkpoint.load_state(head, checkpoint.load(folder / "thermal_head.pth"), "thermal_head.pth")
    model = FusionDetector(streams, fusions, head, parts.data.normalization, args.anchor_scale, modalities)
    best = fit(args, compute.place(model), parts, loader, compute, run, tracker, "head", args.head_epochs)
    model.load_state_dict(best["model"])
    checkpoint.save(folder / args.head_path, model.head.cpu().state_dict())


if __name__ == "__main__":
    sys.exit(main())

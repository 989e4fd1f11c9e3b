"""Pretrain the single-modality detectors, then the shared head on the mean of both streams' last taps.

Writes, into --checkpointdir, the two files that search and training start from (names and tensors as in the released
ones), thermal_head.pth, rgb_head.pth, split.json and pretrain.json; of `--modality early`, early_stream.pth and
early_head.pth. Recipe and reasons: docs/pretraining.md.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.utils.data import DataLoader

from commands.options import make_parser
from commands.run import finish, is_finished, resume_options, running
from datasets.data_module import DataModule
from engine.memory_estimate import memory_estimate
from engine.step import Compute
from models.detection.backbones import create_encoder, encoder_channels
from models.detection.detector import FusionDetector, SingleDetector
from models.detection.fusions import baseline_fusions
from models.detection.layers import set_norm_momentum
from models.detection.necks.bifpn import BiFPN
from models.detection.streams import MODALITIES, input_channels
from tasks.detection import task as detection
from utils import checkpoint, learning
from utils.args import command, parse
from utils.distributed import ranks
from utils.errors import UserError
from utils.experiment import build_head, build_streams, check_batch, open_data, pick_compute, streams_file, warnings
from utils.learning import Setting
from utils.lock import locked_by_first
from utils.pretrained import check_others, make_folder, merged_streams, publish
from utils.reporting import count_parameters, next_command_line, print_dry_run, tracking
from utils.run_folder import RunFolder
from utils.seed import seed_everything
from utils.signals import Stop
from utils.tracking import Tracker

CARRIED = ("config", "dataset", "checkpointdir", "fullbb_path", "head_path", "num_classes", "split_seed")
CARRIED += ("paper_protocol", "max_bad_files", "workers", "device")


@dataclass(frozen=True)
class Job:
    """What every phase of a pretraining run shares."""

    args: argparse.Namespace
    parts: DataModule
    loader: DataLoader
    compute: Compute
    run: RunFolder
    stop: Stop
    tracker: Tracker


@command
def main(argv: list[str]) -> None:
    args = resume_options(parse(make_parser, argv, "pretrain"), "pretrain", make_parser)
    if is_finished(args.resume):
        return
    check_sizes(args)
    compute = pick_compute(args)
    parts = open_data(args)
    check_batch(args, parts, parts.learning)
    modalities = MODALITIES if args.modality == "both" else (args.modality,)
    detectors = {m: build_detector(args, m, parts.data.normalization) for m in modalities}
    check_others(args, parts, detectors)
    loader = parts.loader(*parts.learning, train=True)
    if args.dry_run:
        sizes = {f"parameters_{m}": count_parameters(d) for m, d in detectors.items()}
        modality, detector = next(iter(detectors.items()))
        sizes |= memory_estimate(compute.place(detector), (modality,), args.image_size, args.batchsize, compute)
        print_dry_run(sizes | {"steps_per_epoch": compute.num_steps(loader), "epochs": args.epochs})
        return

    ranks().broadcast_from_first(lambda: make_folder(args.checkpointdir))
    with running("pretrain", args, parts, warnings(args, "pretrain")) as (run, stop), tracking(args, run) as tracker:
        job = Job(args, parts, loader, compute, run, stop, tracker)
        finish(run, args, parts, run_pretraining(job, detectors))


def run_pretraining(job: Job, detectors: dict[str, SingleDetector]) -> list[str]:
    """Train the detectors and the shared head, from where the run was left, publish; returns the last lines."""
    args = job.args
    for modality, detector in detectors.items():
        job.compute.place(detector)
        detector.load_state_dict(fit(job, detector, modality, args.epochs))
        detector.cpu()
    with locked_by_first(Path(args.checkpointdir), job.run.log, "another pretraining"):
        ranks().broadcast_from_first(
            lambda: check_others(args, job.parts, detectors)
        )  # again: another may have ended since
        files = finished_files(job, detectors)
        ranks().broadcast_from_first(lambda: publish(args, job.parts, files, list(detectors)))
    options = {} if args.config else {"batchsize": 8, "epochs": 10}
    if args.modality in MODALITIES and args.head_path not in files:
        (other,) = (m for m in MODALITIES if m != args.modality)
        next_command = f"next: the same command with --modality {other}"
    elif args.modality in (*MODALITIES, "both"):
        next_command = next_command_line("main_darts_searchable_flira.py", args, options, CARRIED)
    else:
        next_command = next_command_line(
            "main_darts_found_flira.py", args, {"baseline": args.modality} | options, CARRIED
        )
    return [f"checkpointdir: {args.checkpointdir}", next_command]


def check_sizes(args: argparse.Namespace) -> None:
    """Settle repeats and levels, published where not given, and refuse what no stream can be."""
    args.num_input_nodes, args.fusion_levels = args.num_input_nodes or 10, args.fusion_levels or 5
    if args.fusion_levels < 3:
        raise UserError(f"--fusion_levels: expected at least 3 (the encoder's own levels), found {args.fusion_levels}")
    if args.num_input_nodes % 2:
        raise UserError(f"--num_input_nodes: expected an even number (2 x BiFPN repeats), found {args.num_input_nodes}")


def build_detector(args: argparse.Namespace, modality: str, normalization: dict) -> SingleDetector:
    """Build one modality's detector with the start weights that the options ask for."""
    seed_everything(args.seed)
    imagenet = not (args.no_imagenet or args.init)
    encoder = create_encoder(args.backbone, args.drop_path, imagenet, input_channels(modality))
    fpn = BiFPN(encoder_channels(encoder), args.C, args.num_input_nodes // 2, args.fusion_levels)
    set_norm_momentum(fpn, args.norm_momentum)
    detector = SingleDetector(modality, encoder, fpn, build_head(args), normalization)
    if args.init:
        load_start(detector, ranks().broadcast_from_first(lambda: read_start(args, modality)), f"--init {args.init}")
    return detector


def read_start(args: argparse.Namespace, modality: str) -> checkpoint.State:
    """Return the tensors of --init under EfficientDet's names: of its own file, or of a checkpointdir's modality."""
    path = Path(args.init)
    if not path.is_dir():
        return checkpoint.load(path)
    streams = checkpoint.streams_of(checkpoint.load(path / streams_file(args, (modality,))), [modality])
    head = checkpoint.load(path / f"{modality}_head.pth")
    named = {k.removeprefix(f"{modality}_"): v for k, v in streams.items()}
    return named | {k.removeprefix("fusion_"): v for k, v in head.items()}


def load_start(detector: SingleDetector, state: checkpoint.State, source: str) -> None:
    """Load the tensors of an EfficientDet (backbone, fpn, class_net, box_net); a class layer of other size stays new.

    Raises:
        UserError: a tensor is missing or of another shape.
    """
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
        checkpoint.load_state(part, own, f"{source}: {name}")


def fit(job: Job, model: nn.Module, phase: str, epochs: int) -> dict:
    """Train what is trainable; returns the state that is best on val."""
    setting = Setting(job.args, job.parts, model, detection, job.compute)
    return learning.fit(setting, job.loader, job.tracker, job.run, job.stop, phase, epochs)


def finished_files(job: Job, detectors: dict[str, SingleDetector]) -> dict[str, checkpoint.State]:
    """Return what the run publishes, by file name: its streams and heads, and the shared head if both streams exist."""
    args = job.args
    files = {f"{m}_head.pth": d.head.state_dict() for m, d in detectors.items()}
    if not set(detectors) <= set(MODALITIES):
        return files | {streams_file(args, (m,)): d.stream_state() for m, d in detectors.items()}
    files[args.fullbb_path] = streams = ranks().broadcast_from_first(lambda: merged_streams(args, detectors))
    if all(checkpoint.streams_of(streams, [m]) for m in MODALITIES):
        files[args.head_path] = train_shared_head(
            job, streams, ranks().broadcast_from_first(lambda: head_start(job, files))
        )
    else:
        job.run.log("the other modality is not there yet: the shared head is trained once it is")
    return files


def head_start(job: Job, files: dict[str, checkpoint.State]) -> checkpoint.State:
    """Return the thermal head, whichever modality is trained last; the own one where there is none."""
    thermal, own = (f"{m}_head.pth" for m in MODALITIES)
    earlier = Path(job.args.checkpointdir) / thermal
    if thermal not in files and earlier.exists():
        return checkpoint.load(earlier)
    if thermal not in files:
        job.run.log(f"{earlier}: not there, so the shared head starts from {own}")
    return files[thermal if thermal in files else own]


def train_shared_head(job: Job, streams_state: checkpoint.State, start: checkpoint.State) -> checkpoint.State:
    """Train a head on the mean of both last taps, from a modality's head, streams frozen; returns its state dict."""
    args = job.args
    streams, head = build_streams(args), build_head(args)
    checkpoint.load_state(streams, streams_state, args.fullbb_path)
    checkpoint.load_state(head, start, "start of the shared head")
    fusions = baseline_fusions("mean", args.C, args.fusion_levels)
    model = FusionDetector(streams, fusions, head, job.parts.data.normalization)
    model.load_state_dict(fit(job, job.compute.place(model), "head", args.head_epochs))
    return model.head.cpu().state_dict()


if __name__ == "__main__":
    sys.exit(main())

"""What the three commands share: from options to data, device, streams and head, and the check of splits."""

import argparse
import json
import os
import shutil
from pathlib import Path

import torch

from datasets.data_module import DataModule, LoaderOptions
from datasets.detection import opening
from datasets.detection.detection_data import DetectionData, ImageOptions
from datasets.splits import OVERFIT, Split
from engine.feature_caching import check_caching, why_changing
from engine.step import Compute
from models.detection.anchors import level_sizes
from models.detection.baselines import BASELINES
from models.detection.heads.efficientdet import DetectionHead
from models.detection.layers import set_norm_momentum
from models.detection.streams import INPUTS, MODALITIES, Streams
from utils import checkpoint
from utils.allocator import keep_freed_memory
from utils.distributed import ranks, ranks_here
from utils.errors import UserError, short
from utils.inherit import inherit
from utils.plain import check_plain
from utils.run_folder import RUNS, read_json

PRETRAINED = "pretrain.json"  # beside the weights in checkpointdir: the options that made them
FROM_PRETRAINING = ("backbone", "image_size", "anchor_scale")


def open_data(args: argparse.Namespace) -> DataModule:
    """Open the data set and settle the number of classes (`args.num_classes`); nothing is to be written into it."""
    check_outside(args.data, "the folder of the runs", RUNS)
    check_outside(args.data, "--checkpointdir", args.checkpointdir)
    if "cache_dir" in args:  # pretraining has no cache
        check_outside(args.data, "--cache_dir", args.cache_dir)
    overfit = getattr(args, "overfit", None)  # as below: not an option of pretraining
    if overfit and args.paper_protocol:
        raise UserError("--overfit: expected no --paper-protocol beside it: both say what is chosen on")
    if overfit and "hflip" not in args.given:
        args.hflip = 0.0  # the very pairs that are chosen on
    images = ImageOptions(
        image_size=tuple(args.image_size),
        hflip=args.hflip,
        scale_jitter=tuple(args.scale_jitter),
        photometric=args.photometric,
        modality_dropout=getattr(args, "modality_dropout", 0.0),  # an option of the found network alone
    )
    loading = LoaderOptions(args.batchsize, args.seed, args.workers, args.pin_mem, args.max_bad_files)
    how = {"split_seed": args.split_seed, "paper_protocol": args.paper_protocol, "overfit": overfit}
    parts = opening.open_data(args.data, args.dataset, images, loading, **how, modalities=_read_modalities(args))
    found = len(parts.data.classes)
    args.num_classes = args.num_classes or found
    if args.num_classes < found:
        raise UserError(f"--num-classes: expected at least the data set's {found} classes, found {args.num_classes}")
    return parts


def _read_modalities(args: argparse.Namespace) -> list[str]:
    """Return the modalities that the network of a command reads."""
    streams = BASELINES[args.baseline][0] if getattr(args, "baseline", None) else MODALITIES
    if getattr(args, "modality", "both") != "both":
        streams = (args.modality,)
    return list(dict.fromkeys(modality for stream in streams for modality in INPUTS[stream]))


def cache_options(args: argparse.Namespace) -> dict:
    """Return the keywords of `cached` that the options say."""
    names = {"mode": "cache_features", "level": "cache_level", "dtype": "cache_dtype", "folder": "cache_dir"}
    known = {name: getattr(args, option) for name, option in names.items() if option in args}
    return known | {"stream_lr": getattr(args, "stream_lr", None) or 0.0}


def check_cache_options(args: argparse.Namespace, parts: DataModule | None = None) -> None:
    """Refuse options without effect, and where `parts` are trained on a cache of inputs that training changes."""
    changing = why_changing(parts, getattr(args, "stream_lr", None) or 0.0) if parts else ""
    dry_run = getattr(args, "dry_run", False)
    check_caching(args.cache_features, args.typed, dry_run=dry_run, changing=changing, trains=parts is not None)


def check_outside(data: str, what: str, path: str) -> None:
    """Refuse a place below the data folder."""
    if Path(path).resolve().is_relative_to(Path(data).resolve()):
        raise UserError(f"{what}: expected a place outside the data folder {data}, found {Path(path).resolve()}")


def pick_compute(args: argparse.Namespace) -> Compute:
    """Turn --device, --deterministic, --amp, --clip_grad, --accum and --compile into where and how to compute."""
    name = args.device
    if name == "auto":
        alone = ranks().count == 1
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() and alone else "cpu"
    if ranks().count > 1:
        name = device_of_rank(name)
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(f"{device.type} is not supported")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {args.device}: expected a device of this machine, found: {reason}") from None
    if args.compile and device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        raise UserError("--compile: expected a C++ compiler (g++, or CXX) for a model on the CPU, found none")
    if args.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    if device.type == "cpu":
        keep_freed_memory()
        os.environ["CUDA_VISIBLE_DEVICES"] = (
            ""  # torch's optimisers and pinning loaders start CUDA where they see a GPU
        )
    return Compute(device, args.amp, args.clip_grad or float("inf"), args.accum, args.compile, ranks())


def device_of_rank(name: str) -> str:
    """Return the device of this process among several: each GPU of a machine has one process.

    Raises:
        UserError: a device that they cannot divide, or more processes than GPUs.
    """
    if name not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: expected auto, cuda or cpu where several processes learn, found {name}")
    here = ranks_here()
    if name == "cuda" and here.count > torch.cuda.device_count():
        expected = f"one process for each of the {torch.cuda.device_count()} GPUs of this machine"
        raise UserError(f"--device {name}: expected {expected}, found {here.count} (torchrun --nproc-per-node)")
    if name == "cpu":
        return name
    torch.cuda.set_device(here.number)
    return f"cuda:{here.number}"


def inherit_pretrained(args: argparse.Namespace) -> None:
    """Take backbone, image size and anchor scale from the pretraining that made checkpointdir, unless given."""
    source = str(Path(args.checkpointdir) / PRETRAINED)
    inherit(args, pretrained_with(args), FROM_PRETRAINING, source=source)


def pretrained_with(args: argparse.Namespace) -> dict:
    """Return what pretrain.json of checkpointdir holds; {} where there is none, as beside the released files."""
    path = Path(args.checkpointdir) / PRETRAINED
    return _read_options(path) if path.exists() else {}


def _read_options(path: Path) -> dict:
    known = read_json(path)
    check_plain(known, str(path))
    for name in ("data", "splits"):
        if not isinstance(known.get(name, {}), dict):
            raise UserError(f"{path}: {name}: expected an object, found {short(known[name])}")
    return known


def differing(known: dict, ours: dict) -> dict:
    """Return what is known, where ours is another; tuples are lists in JSON."""
    ours = json.loads(json.dumps(ours))
    return {name: known[name] for name in ours if name in known and known[name] != ours[name]}


def differing_from_pretraining(args: argparse.Namespace) -> dict:
    """Return the options that checkpointdir's streams were trained with, where ours differ."""
    return differing(pretrained_with(args), {name: getattr(args, name) for name in FROM_PRETRAINING})


def warnings(args: argparse.Namespace, kind: str) -> list[str]:
    """Return what the log of a run that starts says of options without effect, and of those unlike pretraining's."""
    if getattr(args, "L", None) is not None:
        told = [f"--L {args.L} and --no-prefetcher ({args.no_prefetcher}) have no effect here"]
    else:
        told = [f"--no-prefetcher ({args.no_prefetcher}) has no effect here"]
    others = differing_from_pretraining(args) if kind in ("search", "found") else {}
    said = "though the streams were pretrained with"
    return told + [f"--{name}: {getattr(args, name)}, {said} {theirs}" for name, theirs in others.items()]


def check_facts(args: argparse.Namespace, data: DetectionData) -> None:
    """Refuse streams that were pretrained for other classes or other values of the pixels, unless that is allowed."""
    for name, theirs in differing(pretrained_with(args).get("data", {}), data.facts).items():
        if not args.allow_split_mismatch:
            raise UserError(
                f"{Path(args.checkpointdir) / PRETRAINED}: data.{name}: expected {data.facts[name]} as --dataset says, "
                f"found {short(theirs)}: pretrain again, or pass --allow_split_mismatch"
            )


def streams_file(args: argparse.Namespace, modalities: tuple[str, ...]) -> str:
    """Return the name of the file of these streams: the two of the search share the published one."""
    return args.fullbb_path if set(modalities) <= set(MODALITIES) else f"{modalities[0]}_stream.pth"


def load_streams(args: argparse.Namespace, modalities: tuple[str, ...] = MODALITIES) -> Streams:
    """Build frozen streams of checkpointdir; sizes come from the file, given ones must agree."""
    path = Path(args.checkpointdir) / streams_file(args, modalities)
    if not path.exists():
        raise UserError(
            f"{path}: no such checkpoint file: run main_pretrain_flira.py first, or name the folder of yours with "
            "--checkpointdir"
        )
    state = checkpoint.load(path)
    settle_sizes(args, *checkpoint.stream_sizes(state, str(path), modalities), str(path))
    streams = build_streams(args, modalities)
    others = checkpoint.streams_of(state, set(INPUTS) - set(modalities))
    wanted = {k: v for k, v in state.items() if k not in others}
    checkpoint.load_state(streams, wanted, f"{path} (--backbone {args.backbone})")
    return streams


def build_streams(args: argparse.Namespace, modalities: tuple[str, ...] = MODALITIES) -> Streams:
    return Streams(args.backbone, args.C, args.num_input_nodes // 2, args.fusion_levels, modalities)


def settle_sizes(args: argparse.Namespace, channels: int, repeats: int, levels: int, source: str) -> None:
    """Set C, num_input_nodes and fusion_levels from what the streams are; refuse given ones that differ."""
    for name, value in {"C": channels, "num_input_nodes": 2 * repeats, "fusion_levels": levels}.items():
        if name in args.given and getattr(args, name) != value:
            raise UserError(f"--{name}: expected {value} as in {source}, found {getattr(args, name)}")
        setattr(args, name, value)


def load_head(args: argparse.Namespace, path: Path) -> DetectionHead:
    """Build the head and load its file, which must have the same classes, channels and levels."""
    state = checkpoint.load(path)
    classes = checkpoint.head_classes(state, str(path))
    if classes != args.num_classes:
        raise UserError(
            f"{path}: a head of {classes} classes, but {args.num_classes} are asked for: "
            f"pass --num-classes {classes}, or pretrain a head for the data (main_pretrain_flira.py)"
        )
    head = build_head(args)
    checkpoint.load_state(head, state, str(path))
    return head


def build_head(args: argparse.Namespace) -> DetectionHead:
    head = DetectionHead(args.C, args.num_classes, num_levels=args.fusion_levels, anchor_scale=args.anchor_scale)
    set_norm_momentum(head, args.norm_momentum)
    return head


def check_batch(args: argparse.Namespace, parts: DataModule, *groups: tuple[str, ...]) -> None:
    """Refuse batches whose coarsest level holds one value per channel: batch norm cannot learn from them."""
    coarsest = level_sizes(args.image_size, args.fusion_levels)[-1]
    smallest = min(args.batchsize, *(len(parts.records(*group)) for group in groups))
    if smallest == 1 and coarsest == (1, 1):
        raise UserError("--batchsize: expected at least 2 pairs (the coarsest level of --image_size is 1x1), found 1")


def recorded_splits(folder: Path) -> dict[str, str]:
    """Return the hash of the split that each modality of checkpointdir was trained on, "none recorded" without one.

    pretrain.json tells them apart, as one modality can be trained again alone; split.json is of the last pretraining.
    """
    options, split = folder / PRETRAINED, folder / "split.json"
    if options.exists() and "splits" in (known := _read_options(options)):
        return {m: str(known["splits"].get(m, "none recorded")) for m in INPUTS}
    one = Split.from_json(read_json(split), str(split)).hash if split.exists() else "none recorded"
    return dict.fromkeys(INPUTS, one)


def check_split(args: argparse.Namespace, split: Split, modalities: tuple[str, ...] = MODALITIES) -> str:
    """Compare the split of the pretrained checkpoints with ours; return what every result records of it.

    Raises:
        UserError: one was trained on another split, and --allow_split_mismatch is not given.
    """
    recorded = {m: h for m, h in recorded_splits(Path(args.checkpointdir)).items() if m in modalities}
    told = {m: "same" if h == split.hash else h for m, h in recorded.items()}
    text = told[modalities[0]] if len(set(told.values())) == 1 else ", ".join(f"{m} {h}" for m, h in told.items())
    if set(told.values()) <= {"same", "none recorded"}:
        return text
    if split.protocol == OVERFIT:
        return f"overfit, checkpoints of {text}"
    if not args.allow_split_mismatch:
        raise UserError(
            f"{Path(args.checkpointdir) / PRETRAINED}: field splits: expected {split.hash} (--split_seed {split.seed}, "
            f"{split.protocol}), found {text}: these checkpoints may have learned pairs that this run chooses on; "
            "pretrain again, or pass --allow_split_mismatch"
        )
    return f"mismatch allowed: {text}"

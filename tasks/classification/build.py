"""From options to data, encoders and classifiers; the counterpart of utils/experiment.py and utils/found.py."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from datasets.bad_files import BadFiles
from datasets.classification.labelled_data import cut
from datasets.data_module import DataModule, LoaderOptions
from models.classification.encoders import ENCODERS
from models.classification.fused_classifier import Encoders, FusionClassifier, LateFusion
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.space import Space
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.strategies import STRATEGIES
from tasks.classification.presets import DataSet
from tasks.classification.task import Classification
from utils import checkpoint
from utils.errors import UserError, short
from utils.experiment import PRETRAINED, check_outside, pretrained_with
from utils.run_folder import RUNS


def open_examples(data_set: DataSet, args: argparse.Namespace, modalities: tuple[str, ...]) -> DataModule:
    """Open the data set; nothing is to be written into it."""
    check_outside(args.data, "the folder of the runs", RUNS)
    check_outside(args.data, "--checkpointdir", args.checkpointdir)
    if "cache_dir" in args:  # pretraining has no cache
        check_outside(args.data, "--cache_dir", args.cache_dir)
    data = data_set.open(args.data, args.small_dataset)
    for name in ("train", "dev"):
        if not data.records[name]:
            raise UserError(f"{args.data}: {name} list: expected examples, found none")
    args.num_classes, args.dataset = len(data.classes), data.name
    split = cut(data, args.split_seed, args.paper_protocol)
    data = replace(data, modalities=modalities, augment=getattr(args, "augment", False))
    loading = LoaderOptions(args.batchsize, args.seed, args.workers, args.pin_mem, args.max_bad_files)
    return DataModule(data, split, loading, BadFiles(args.max_bad_files))


def task_of(data_set: DataSet, args: argparse.Namespace) -> Classification:
    return Classification(data_set.multi_label, getattr(args, "f1_type", "weighted"))


def build_encoder(data_set: DataSet, args: argparse.Namespace, modality: str, imagenet: bool = False) -> nn.Module:
    return ENCODERS[data_set.name][modality](args.backbone, args.num_classes, imagenet)


def encoder_file(data_set: DataSet, args: argparse.Namespace, modality: str) -> Path:
    return Path(args.checkpointdir) / getattr(args, data_set.files[modality])


def pretraining(args: argparse.Namespace) -> dict:
    """Return what pretrain.json of checkpointdir says; {} where there is none, as beside published files.

    Raises:
        UserError: the file is damaged.
    """
    known, path = pretrained_with(args), Path(args.checkpointdir) / PRETRAINED
    classes = known.get("classes", [])
    if not isinstance(known.get("backbone", ""), str):
        raise UserError(f"{path}: backbone: expected a name, found {short(known['backbone'])}")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise UserError(f"{path}: classes: expected a list of names, found {short(classes)}")
    return known


def inherit_backbone(args: argparse.Namespace) -> None:
    """Take the backbone of the pretraining that made checkpointdir, unless one is given."""
    if "backbone" not in args.given:
        args.backbone = pretraining(args).get("backbone", args.backbone)


def check_encoders(args: argparse.Namespace, parts: DataModule) -> str:
    """Compare classes and split of the pretrained encoders with ours; return what every result records of the split.

    Raises:
        UserError: they are others, and --allow_split_mismatch is not given.
    """
    path, known = Path(args.checkpointdir) / PRETRAINED, pretraining(args)
    if known.get("classes", parts.data.classes) != parts.data.classes:
        found = short(json.dumps(known["classes"]))
        raise UserError(f"{path}: classes: expected those of the data, {len(parts.data.classes)}, found {found}")
    splits = known.get("splits", {})
    told = {m: splits.get(m, "none recorded") for m in parts.data.modalities}
    others = {m: hash_ for m, hash_ in told.items() if hash_ not in (parts.split.hash, "none recorded")}
    if not others:
        return "same" if set(told.values()) == {parts.split.hash} else "none recorded"
    words = ", ".join(f"{m} {hash_}" for m, hash_ in others.items())
    if not args.allow_split_mismatch:
        raise UserError(
            f"{path}: splits: expected {parts.split.hash} (--split_seed {args.split_seed}, {parts.split.protocol}), "
            f"found {words}: these encoders may have learned examples that this run chooses on; pretrain again, or "
            "pass --allow_split_mismatch"
        )
    return f"mismatch allowed: {words}"


def load_encoders(data_set: DataSet, args: argparse.Namespace, modalities: tuple[str, ...]) -> Encoders:
    """Build the frozen encoders of checkpointdir.

    Raises:
        UserError: a file is missing, or of another network.
    """
    encoders = {}
    for modality in modalities:
        path = encoder_file(data_set, args, modality)
        if not path.exists():
            raise UserError(
                f"{path}: no such checkpoint file: run main_pretrain_{data_set.name}.py first, or name yours with "
                f"--checkpointdir and --{data_set.files[modality]}"
            )
        encoders[modality] = build_encoder(data_set, args, modality)
        load_encoder(encoders[modality], path, f"--backbone {args.backbone}")
    return assemble_encoders(data_set, args, encoders)


def assemble_encoders(data_set: DataSet, args: argparse.Namespace, encoders: dict[str, nn.Module]) -> Encoders:
    side = round(args.L**0.5)
    if data_set.square and side * side != args.L:
        raise UserError(f"--L: expected a square number, since maps are pooled in both directions, found {args.L}")
    return Encoders(encoders, args.L, data_set.square)


def load_encoder(encoder: nn.Module, path: Path, source: str) -> None:
    """Load an encoder's file: ours by name; a published one, of other names, by order, where every shape agrees.

    Raises:
        UserError: it holds another network.
    """
    state = checkpoint.load(path)
    state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(isinstance(k, str) and torch.is_tensor(v) for k, v in state.items()):
        raise UserError(f"{path}: expected an encoder's tensors by name, found something else")
    state = {name.removeprefix("module."): value for name, value in state.items()}
    own = encoder.state_dict()
    if set(state) != set(own):
        counted = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
        names = [name for name in own if not name.endswith("num_batches_tracked")]
        shapes = [tuple(own[name].shape) for name in names]
        if [tuple(value.shape) for value in counted.values()] == shapes:
            state = own | dict(zip(names, counted.values(), strict=True))
    checkpoint.load_state(encoder, state, f"{path} ({source})")


def check_taps(args: argparse.Namespace, streams: Encoders) -> None:
    """Refuse another --num_input_nodes than the encoders have."""
    found = len(streams.tap_names)
    if args.num_input_nodes not in (None, found):
        raise UserError(f"--num_input_nodes: expected {found}, the taps of the encoders, found {args.num_input_nodes}")


def space_of(args: argparse.Namespace, streams: Encoders) -> Space:
    """Return the search space."""
    check_taps(args, streams)
    found = len(streams.tap_names)
    sizes = args.steps, args.multiplier, args.node_steps, args.node_multiplier
    own = {"name": args.space, "length": args.L, "predecessors": args.predecessors}
    return Space(found, args.C, *sizes, pair_inputs=getattr(args, "pair_inputs", False), **own)


def supernet(args: argparse.Namespace, streams: Encoders) -> FusionClassifier:
    """Build the searchable classifier."""
    space, strategy = space_of(args, streams), STRATEGIES[args.strategy]
    fusion = SearchableFusion(space, args.drpt, strategy.relaxation, strategy.partial)
    return FusionClassifier(streams, fusion, space.multiplier, args.C, args.num_classes, args.drpt)


def found_classifier(args: argparse.Namespace, streams: Encoders, genotype: Genotype | None) -> FusionClassifier:
    """Build the classifier of a genotype, or of the baseline that the options name."""
    if genotype is None:
        fusion = LateFusion(last_taps(streams), args.baseline == "concat")
        sizes = fusion.width, args.C, args.num_classes, args.drpt
        return FusionClassifier(streams, fusion, *sizes, set(fusion.taps))
    (cell,) = genotype.cells
    features = Space(len(streams.tap_names), args.C, name=genotype.space, length=args.L).features
    used = {state for _, state in cell.edges} | set(cell.concat)
    sizes = len(cell.concat), args.C, args.num_classes, args.drpt
    return FusionClassifier(streams, FoundFusion(cell, features, args.drpt), *sizes, used)


def last_taps(streams: Encoders) -> list[int]:
    """Return the place of the last tap of each modality."""
    stateful = [name.partition("/")[0] for name in streams.tap_names]
    return [len(stateful) - 1 - stateful[::-1].index(m) for m in streams.modalities]

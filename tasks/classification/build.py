"""From options to the data, the encoders and the classifier of a data set.

Options are read here and in tasks/classification/task.py; below, values come by keyword.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from datasets.classification.ego_gesture import open_ego
from datasets.classification.examples import LabelledData, cut
from datasets.classification.mmimdb import open_mmimdb
from datasets.classification.ntu import open_ntu
from datasets.data_module import DataModule
from engine.task import data_module
from models.classification.encoders import ENCODERS
from models.classification.encoders.timm_maps import TimmEncoder
from models.classification.fused_classifier import Encoders, FusionClassifier, LateFusion
from models.search.architecture import Architecture
from models.search.fusion_cells.choices import SEQUENCES
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.layers import Features
from models.search.fusion_cells.space import FusionSpace, fusion_space
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.strategies import STRATEGIES
from tasks.classification.presets import DataSet
from tasks.fusion_options import space_values
from utils import checkpoint
from utils.args import Options
from utils.errors import UserError

READERS = {"mmimdb": open_mmimdb, "ntu": open_ntu, "ego": open_ego}


def open_examples(preset: DataSet, options: Options) -> DataModule:
    """Open the data set and cut it; a search leaves out what the final training alone has."""
    data = READERS[preset.name](options.data, options.small_dataset)
    for name in ("train", "dev"):
        if not data.records[name]:
            raise UserError(f"{options.data}: {name} list: expected examples, found none")
    split = cut(data, options.split_seed, options.paper_protocol)
    data = replace(data, modalities=modalities_of(preset, options), augment=options.augment)
    opened = data_module(data, split, options)
    return opened.for_search() if "strategy" in options else opened


def modalities_of(preset: DataSet, options: Options) -> tuple[str, ...]:
    """Return the modalities that are read."""
    name = options.modality if "modality" in options else options.baseline
    return (name,) if name in preset.files else tuple(preset.files)


def build_encoder(
    preset: DataSet, options: Options, data: LabelledData, modality: str, imagenet: bool = False
) -> nn.Module:
    """Build the encoder of a modality; its pictures are normalised as --normalization says."""
    length = {"length": data.lengths[modality]} if modality in data.lengths else {}
    encoder = ENCODERS[preset.name][modality](options.backbone, options.num_classes, imagenet, **length)
    if options.normalization == "encoder" and isinstance(encoder, TimmEncoder):
        encoder.use_pretrained_statistics()
    return encoder


def encoder_file(preset: DataSet, options: Options, modality: str) -> Path:
    return Path(options.checkpointdir) / options[preset.files[modality]]


def build_streams(preset: DataSet, options: Options, data: LabelledData, pretrained: bool) -> Encoders:
    """Build the frozen encoders of the modalities; `pretrained`: with the weights of checkpointdir.

    Raises:
        UserError: a file is missing, or of another network; or the options do not fit the encoders.
    """
    encoders = {}
    for modality in data.modalities:
        path = encoder_file(preset, options, modality)
        if pretrained and not path.exists():
            advice = f"run main_pretrain_{preset.name}.py first, or name yours with "
            advice += f"--checkpointdir and --{preset.files[modality]}"
            raise UserError(f"{path}: no such checkpoint file: {advice}")
        encoders[modality] = build_encoder(preset, options, data, modality)
        if pretrained:
            load_encoder(encoders[modality], path, f"--backbone {options.backbone}")
    side = round(options.L**0.5)
    if preset.square and side * side != options.L:
        raise UserError(f"--L: expected a square number, since maps are pooled in both directions, found {options.L}")
    streams = Encoders(encoders, options.L, preset.square)
    taps, found = len(streams.tap_names), options.num_input_nodes
    if found not in (None, taps):
        raise UserError(f"--num_input_nodes: expected {taps}, the taps of the encoders, found {found}")
    return streams


def load_encoder(encoder: nn.Module, path: Path, source: str) -> None:
    """Load an encoder's file: ours by name; a published one, of other names, by order, where every shape agrees.

    Raises:
        UserError: it holds another network.
    """
    state = checkpoint.load(path)
    state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(isinstance(k, str) and torch.is_tensor(v) for k, v in state.items()):
        raise UserError(f"{path}: expected an encoder's tensors by name, found something else")
    state, own = {name.removeprefix("module."): value for name, value in state.items()}, encoder.state_dict()
    if set(state) != set(own):
        theirs, ours = ([n for n in names if not n.endswith("num_batches_tracked")] for names in (state, own))
        if [state[name].shape for name in theirs] == [own[name].shape for name in ours]:
            state = own | {name: state[other] for name, other in zip(ours, theirs)}
    checkpoint.load_state(encoder, state, f"{path} ({source})")


def make_space(options: Options, streams: Encoders) -> FusionSpace:
    """Return the search space of the fusion."""
    sizes = {"length": options.L, "predecessors": options.predecessors}
    return fusion_space(streams.tap_names, streams.level_names, options.C, **space_values(options), **sizes)


def supernet(options: Options, streams: Encoders) -> FusionClassifier:
    """Build the searchable classifier."""
    space, strategy = make_space(options, streams), STRATEGIES[options.strategy]
    fusion = SearchableFusion(space, options.drpt, strategy.relaxation, strategy.partial)
    return FusionClassifier(streams, fusion, options.C, options.num_classes, options.drpt)


def found_classifier(options: Options, streams: Encoders, architecture: Architecture | None) -> FusionClassifier:
    """Build the classifier of a genotype, or of the baseline that the options name."""
    if architecture is None:
        fusion = LateFusion(last_taps(streams), options.baseline == "concat")
    else:
        (cell,) = architecture.parts["fusion"].cells
        fusion = FoundFusion(cell, Features(SEQUENCES, options.C, options.L), options.drpt)
    return FusionClassifier(streams, fusion, options.C, options.num_classes, options.drpt)


def last_taps(streams: Encoders) -> list[int]:
    """Return the place of the last tap of each modality."""
    modalities = [name.partition("/")[0] for name in streams.tap_names]
    return [len(modalities) - 1 - modalities[::-1].index(m) for m in streams.modalities]

"""Checkpoints: one dict of state dicts and plain values, loadable with `weights_only=True`, written atomically."""

import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from models.detection.anchors import NUM_ANCHORS
from utils.errors import UserError

State = dict[str, Tensor]
FORMAT = 1  # of the checkpoints in run folders
# What torch.load raises on files that are no checkpoints, depending on their first bytes.
UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, struct.error)
UNREADABLE += (pickle.UnpicklingError, zipfile.BadZipFile)


def save(path: Path, data: dict) -> None:
    """Write a checkpoint; an earlier file of that name stays whole until the new one is."""
    temporary = path.with_name(path.name + ".tmp")
    torch.save(data, temporary)
    os.replace(temporary, path)


def load(path: Path) -> dict:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint file") from None
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: expected a checkpoint of tensors and plain values, found: {reason}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a dict, found {type(data).__name__}")
    return data


def load_state(module: nn.Module, state: State, source: str) -> None:
    """Load a state dict that must fit exactly.

    Raises:
        UserError: a tensor is missing, too many, or of another shape; names the first one.
    """
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise UserError(f"{source}: {name}: expected a tensor {tuple(tensor.shape)}, found nothing")
        if not isinstance(state[name], Tensor) or state[name].shape != tensor.shape:
            found = tuple(state[name].shape) if isinstance(state[name], Tensor) else type(state[name]).__name__
            raise UserError(f"{source}: {name}: expected shape {tuple(tensor.shape)}, found {found}")
    extra = [name for name in state if name not in own]
    if extra:
        raise UserError(f"{source}: expected {len(own)} tensors, found {len(extra)} more, the first {extra[0]}")
    module.load_state_dict(state, strict=True)


def stream_sizes(state: State, source: str, modalities: tuple[str, ...] = ("thermal", "rgb")) -> tuple[int, int, int]:
    """Return channels, BiFPN repeats and levels of the streams in a file, from its names and shapes.

    Raises:
        UserError: one of these streams is not in it, or they differ in size.
    """
    sizes = {}
    for modality in modalities:
        fpn = f"{modality}_fpn.cell."
        nodes = {tuple(k[len(fpn) :].split(".")[:3:2]) for k in state if k.startswith(fpn)}
        if not nodes:
            raise UserError(
                f"{source}: {modality} stream: expected tensors {fpn}*, found none: pretrain --modality {modality}"
            )
        repeats = len({repeat for repeat, _ in nodes})
        channels = _tensor(state, f"{fpn}0.fnode.0.after_combine.conv.conv_pw.weight", source).shape[0]
        sizes[modality] = channels, repeats, len(nodes) // repeats // 2 + 1
    if len(set(sizes.values())) > 1:
        raise UserError(f"{source}: expected two streams of one size, found (C, repeats, levels) {sizes}")
    return sizes[modalities[0]]


def streams_of(state: State, modalities: Iterable[str]) -> State:
    """Return the tensors of some streams, in the order of `modalities`, then of the file."""
    return {k: v for m in modalities for k, v in state.items() if k.startswith(f"{m}_")}


def head_classes(state: State, source: str) -> int:
    """Return the number of classes of a head file.

    Raises:
        UserError: no class net in it.
    """
    return _tensor(state, "fusion_class_net.predict.conv_pw.weight", source).shape[0] // NUM_ANCHORS


def _tensor(state: State, name: str, source: str) -> Tensor:
    if not isinstance(state.get(name), Tensor):
        raise UserError(f"{source}: {name}: expected a tensor, found nothing")
    return state[name]


def keep_backup(path: Path) -> None:
    """Keep an earlier file as NAME.bak, since a file of that name is about to be written."""
    if path.exists():
        shutil.copy2(path, path.with_name(path.name + ".bak"))

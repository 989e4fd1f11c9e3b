"""Checkpoints: one dict of state dicts and plain values, loadable with `weights_only=True`, written atomically.

A file is looked at before it is believed: its check sums, which torch does not compare, and what it holds.
"""

import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from models.detection.anchors import NUM_ANCHORS
from utils.errors import UserError, printable, short
from utils.files import replace_file
from utils.plain import check_plain, plain_file

State = dict[str, Tensor]
FORMAT = 1  # of the checkpoints in run folders
# What torch.load raises on files that are no checkpoints, depending on their first bytes.
UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, struct.error)
UNREADABLE += (pickle.UnpicklingError, zipfile.BadZipFile, AssertionError, ArithmeticError, MemoryError, BufferError)
ZIP = b"PK\x03\x04"  # how a file of torch.save begins, but for the form before torch 1.6
MAX_SHARED = 2  # times the file's size that its tensors may have, as two may share numbers


def load(path: Path) -> dict:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        check_sums(plain_file(path))
        data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint file") from None
    except UNREADABLE as error:
        raise UserError(f"{path}: expected a checkpoint of tensors and plain values, found: {_reason(error)}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a dict, found {type(data).__name__}")
    check_plain(data, str(path), tensors=True)
    _check_sizes(data, path)
    return data


def _reason(error: Exception) -> str:
    """Say in a line why a file is not read; torch's own words for what it refuses to run tell how to run it."""
    text = str(error).strip()
    if text.startswith("Weights only load failed"):
        name = re.search(r"GLOBAL (\S+)", text)
        return f"{name[1][:100]}, which is not run" if name else "a damaged pickle, or one that holds more than that"
    return printable(text.partition("\n")[0])[:300] or type(error).__name__


def check_sums(path: Path) -> None:
    """Read a whole file; raises one of `UNREADABLE` where a record of it is damaged, compressed or there twice."""
    with open(path, "rb") as file:
        if file.read(len(ZIP)) != ZIP:
            return  # the form before torch 1.6 has no check sums
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if len({record.filename for record in records}) < len(records):
            raise zipfile.BadZipFile("a record that is there twice")
        for record in records:
            # torch stores as it is; what is compressed may be as large as anyone likes.
            if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
                raise zipfile.BadZipFile(f"record {short(record.filename)}, which is compressed")
        if sum(record.file_size for record in records) > path.stat().st_size:
            raise zipfile.BadZipFile("records that overlap")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"record {short(damaged)}, whose check sum is wrong: the file is damaged")


def _check_sizes(data: dict, path: Path) -> None:
    """Refuse tensors that are not plain numbers in memory, or are larger than the file: sizes are taken from them."""
    total = 0
    for tensor in _tensors(data):
        if odd := _oddity(tensor):
            raise UserError(f"{path}: expected plain tensors of numbers, found {odd}")
        total += tensor.numel() * tensor.element_size()
    if total > MAX_SHARED * path.stat().st_size:
        raise UserError(f"{path}: expected tensors of at most the file's {path.stat().st_size} bytes, found {total}")


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _oddity(tensor: Tensor) -> str:
    """Say what keeps a tensor from being plain numbers in the memory of the CPU; "" where nothing does."""
    if tensor.is_quantized:
        return "a quantized tensor"
    if tensor.layout is not torch.strided:
        return f"a tensor of layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.device.type != "cpu":
        return f"a tensor on the device {tensor.device.type}"
    if tensor.is_complex():
        return "a tensor of complex numbers"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"a tensor {tuple(tensor.shape)} of fewer numbers than that"
    return ""


def load_state(module: nn.Module, state: State, source: str) -> None:
    """Load a state dict that must fit exactly.

    Raises:
        UserError: a tensor is missing, too many, of another shape or kind of numbers, or has numbers that are not
            finite; names the first one.
    """
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise UserError(f"{source}: {name}: expected a tensor {tuple(tensor.shape)}, found nothing")
        if not isinstance(state[name], Tensor) or state[name].shape != tensor.shape:
            found = tuple(state[name].shape) if isinstance(state[name], Tensor) else type(state[name]).__name__
            raise UserError(f"{source}: {name}: expected shape {tuple(tensor.shape)}, found {found}")
        _check_numbers(state[name], tensor, f"{source}: {name}")
    extra = [name for name in state if name not in own]
    if extra:
        raise UserError(
            f"{source}: expected {len(own)} tensors, found {len(extra)} more, the first {str(extra[0])[:60]}"
        )
    module.load_state_dict(state, strict=True)


def _check_numbers(found: Tensor, own: Tensor, place: str) -> None:
    """Refuse a tensor that is not of finite numbers of the kind of `own`, as the network would have them."""
    if odd := _oddity(found):
        raise UserError(f"{place}: expected a plain tensor of numbers, found {odd}")
    if _kind(found) != _kind(own):
        raise UserError(f"{place}: expected {_kind(own)}, found {_kind(found)}")
    if own.is_floating_point() and not found.to(own.dtype).isfinite().all():
        raise UserError(f"{place}: expected finite numbers, found others")


def _kind(tensor: Tensor) -> str:
    if tensor.dtype is torch.bool:
        return "truth values"
    return "numbers with a fraction" if tensor.is_floating_point() else "whole numbers"


def stream_sizes(state: State, source: str, modalities: tuple[str, ...] = ("thermal", "rgb")) -> tuple[int, int, int]:
    """Return channels, BiFPN repeats and levels of the streams in a file, from its names and shapes.

    Raises:
        UserError: one of these streams is not in it, not whole, or they differ in size.
    """
    sizes = {}
    for modality in modalities:
        fpn = f"{modality}_fpn.cell."
        node = re.compile(re.escape(fpn) + r"([0-9]{1,4})\.fnode\.([0-9]{1,4})\.")
        matches = [node.match(name) for name in state if isinstance(name, str)]
        nodes = {(int(match[1]), int(match[2])) for match in matches if match}
        if not nodes:
            raise UserError(
                f"{source}: {modality} stream: expected tensors {fpn}*, found nothing: pretrain --modality {modality}"
            )
        repeats, count = (max(numbers) + 1 for numbers in zip(*nodes))
        # Each node has its weights, so that a network of these sizes is no larger than the file.
        shapes = {_weights_of(state, f"{fpn}{i}.fnode.{j}", source) for i in range(repeats) for j in range(count)}
        (channels, *_), *others = shapes
        if others or count % 2:
            raise UserError(f"{source}: {modality} stream: expected nodes of one size, two per level, found others")
        sizes[modality] = channels, repeats, count // 2 + 1
    if len(set(sizes.values())) > 1:
        raise UserError(f"{source}: expected two streams of one size, found (C, repeats, levels) {sizes}")
    return sizes[modalities[0]]


def streams_of(state: State, modalities: Iterable[str]) -> State:
    """Return the tensors of some streams, in the order of `modalities`, then of the file."""
    return {k: v for m in modalities for k, v in state.items() if isinstance(k, str) and k.startswith(f"{m}_")}


def head_classes(state: State, source: str) -> int:
    """Return the number of classes of a head file.

    Raises:
        UserError: no class net in it.
    """
    name = "fusion_class_net.predict.conv_pw.weight"
    channels = _shape(state, name, source)[0]
    if channels == 0 or channels % NUM_ANCHORS:
        raise UserError(f"{source}: {name}: expected {NUM_ANCHORS} channels per class, found {channels}")
    return channels // NUM_ANCHORS


def _weights_of(state: State, node: str, source: str) -> tuple[int, ...]:
    """Return the shape of a BiFPN node's weights, from as many channels to as many."""
    name = f"{node}.after_combine.conv.conv_pw.weight"
    shape = _shape(state, name, source)
    if shape[0] != shape[1] or min(shape) < 1:
        raise UserError(f"{source}: {name}: expected shape (C, C, 1, 1), found {shape}")
    return shape


def _shape(state: State, name: str, source: str) -> tuple[int, ...]:
    """Return the shape of the weights of a 1x1 convolution."""
    tensor = state.get(name)
    if not isinstance(tensor, Tensor):
        raise UserError(f"{source}: {name}: expected a tensor, found nothing")
    if tensor.dim() != 4 or tuple(tensor.shape[2:]) != (1, 1):
        raise UserError(f"{source}: {name}: expected shape (C, C, 1, 1), found {tuple(tensor.shape)}")
    return tuple(tensor.shape)


def holds(path: Path, state: State) -> bool:
    """Return whether a file has exactly these tensors; a damaged one has not."""
    try:
        found = load(path) if path.exists() else {}
    except UserError:
        return False
    same = found.keys() == state.keys() and all(isinstance(found[name], Tensor) for name in state)
    return same and all(torch.equal(found[name], state[name]) for name in state)


def keep_backup(path: Path) -> None:
    """Keep an earlier file as NAME.bak, since a file of that name is about to be written."""
    if path.exists():
        replace_file(path.with_name(path.name + ".bak"), lambda file: file.write(path.read_bytes()))

"""Sizes of streams and heads, from the names and shapes of the tensors in their files."""

import re
from collections.abc import Iterable

from torch import Tensor

from models.detection.anchors import NUM_ANCHORS
from utils.checkpoint import State
from utils.errors import UserError


def stream_sizes(state: State, source: str, modalities: tuple[str, ...] = ("thermal", "rgb")) -> dict[str, int]:
    """Return C, num_input_nodes and fusion_levels of the streams in a file, from its names and shapes.

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
            advice = f"pretrain --modality {modality}"
            raise UserError(f"{source}: {modality} stream: expected tensors {fpn}*, found nothing: {advice}")
        repeats, count = (max(numbers) + 1 for numbers in zip(*nodes))
        # Each node has its weights, so that a network of these sizes is no larger than the file.
        shapes = {_weights_of(state, f"{fpn}{i}.fnode.{j}", source) for i in range(repeats) for j in range(count)}
        (channels, *_), *others = shapes
        if others or count % 2:
            raise UserError(f"{source}: {modality} stream: expected nodes of one size, two per level, found others")
        sizes[modality] = channels, repeats, count // 2 + 1
    if len(set(sizes.values())) > 1:
        raise UserError(f"{source}: expected two streams of one size, found (C, repeats, levels) {sizes}")
    channels, repeats, levels = sizes[modalities[0]]
    return {"C": channels, "num_input_nodes": 2 * repeats, "fusion_levels": levels}


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

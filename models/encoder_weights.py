"""Weights for an encoder from a file's tensors: of timm, torchvision, EfficientNet-PyTorch, or a detector of ours.

The names of a file are found by rule where there is one, else by the order of its tensors. Nothing is left out
silently: a tensor of the encoder that the file lacks is an error, and so is one of the file that belongs to no part of
the network. What belongs to the rest of the network, such as the classifier, is returned.

Shapes: O, I channels out and in of a convolution; k its kernel.
"""

import re
from collections.abc import Collection

import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from utils import checkpoint
from utils.checkpoint import State
from utils.errors import UserError

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys under which files keep their tensors
COLOUR = 3  # channels of the pictures that files are trained on
VARIANCE = "running_var"  # of batch norm
COUNTER = "num_batches_tracked"  # of batch norm; nothing reads it
STAGES = re.compile(r"blocks\.([0-9]+)\.([0-9]+)\.(.+)")
# EfficientNet-PyTorch's names by timm's: outside blocks, and in blocks with and without an expansion.
OUTSIDE = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
SQUEEZE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
EXPANDED = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
EXPANDED |= {"conv_pwl": "_project_conv", "bn3": "_bn2", **SQUEEZE}
PLAIN = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2", **SQUEEZE}


def load_encoder(
    encoder: nn.Module, state: State, source: str, *, modality: str = "", whole: Collection[str] = ()
) -> list[str]:
    """Load the tensors of a file into an encoder.

    Args:
        encoder: of feature maps; batch norms' counters may be missing in the file. The kernel of its first convolution
            is adapted to another number of channels as timm does it.
        state: as read from the file.
        source: names the file, and the encoder, in messages.
        modality: whose encoder it is, where the file holds detectors or streams of ours.
        whole: names of the tensors of the network that the encoder is a part of, as its library has them.

    Returns:
        The names in the file that belong to the rest of that network.

    Raises:
        UserError: a tensor is missing, of another shape, or of no part of the network; names the first one.
    """
    state, wanted = tensors_of(state, modality), encoder.state_dict()
    names = file_names([*wanted, *(name for name in whole if name not in wanted)], state)
    if 2 * sum(names[name] in state for name in wanted) < len(wanted):  # networks share names such as bn1
        names = names_by_order(wanted, whole, state, source)
    first = next((name for name, tensor in wanted.items() if tensor.dim() > 3), None)
    found = {}
    for name, tensor in wanted.items():
        theirs = state.get(names[name])
        if theirs is None and not name.endswith(COUNTER):
            expected = f"expected a tensor {tuple(tensor.shape)}, found nothing"
            raise UserError(f"{source}: {names[name]}: {expected}")
        found[name] = tensor if theirs is None else adapted(theirs, tensor, is_first=name == first)
        if found[name].shape != tensor.shape:
            expected = f"expected shape {tuple(tensor.shape)}, found {tuple(found[name].shape)}"
            raise UserError(f"{source}: {names[name]}: {expected}")
        if name.endswith(VARIANCE) and found[name].min() < 0:
            raise UserError(f"{source}: {names[name]}: expected variances from 0, found {float(found[name].min()):g}")
    read = {names[name] for name in wanted}
    rest = [name for name in state if name not in read]
    parts = set(names.values())
    if unknown := [name for name in rest if name not in parts]:
        raise UserError(f"{source}: expected no further tensors, found {len(unknown)}, the first {unknown[0][:80]}")
    checkpoint.load_state(encoder, found, source)
    return rest


def tensors_of(state: dict, modality: str) -> State:
    """Return the tensors of the encoder in a file: out of what they are wrapped in, without a common prefix.

    Of files of ours with several streams, it is the stream of the modality, else the only one.
    """
    for key in WRAPPERS:
        state = state[key] if isinstance(state.get(key), dict) else state
    tensors = {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, Tensor)}
    streams = {m[0]: m[1] for m in (re.match(r"(?:streams\.)?(?:(\w+)_)?backbone\.", name) for name in tensors) if m}
    mine = [prefix for prefix, name in streams.items() if name == modality] or list(streams)
    prefixes = mine if len(mine) == 1 else []
    if all(name.startswith("module.") for name in tensors):
        prefixes = ["module."]
    for prefix in prefixes:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return tensors


def file_names(names: Collection[str], state: State) -> dict[str, str]:
    """Return the name in the file of each tensor of the network."""
    if "_conv_stem.weight" in state:
        return efficientnet_pytorch_names(names)
    # timm's encoders of feature maps write stages_0 for stages.0.
    by_letters = {name.replace(".", "_"): name for name in state}
    return {name: by_letters.get(name.replace(".", "_"), name) for name in names}


def efficientnet_pytorch_names(names: Collection[str]) -> dict[str, str]:
    """Return EfficientNet-PyTorch's name of each of timm's: blocks are counted through all stages."""
    matches = {name: STAGES.fullmatch(name) for name in names}
    blocks = sorted({(int(m[1]), int(m[2])) for m in matches.values() if m})
    expanded = {m.group(1, 2) for m in matches.values() if m and m[3] == "conv_pwl.weight"}

    def translated(name: str, table: dict[str, str]) -> str:
        layer, _, kind = name.rpartition(".")
        return f"{table.get(layer, layer)}.{kind}"

    found = {}
    for name, match in matches.items():
        if match is None:
            found[name] = translated(name, OUTSIDE)
            continue
        table = EXPANDED if match.group(1, 2) in expanded else PLAIN
        place = blocks.index((int(match[1]), int(match[2])))
        found[name] = f"_blocks.{place}.{translated(match[3], table)}"
    return found


def names_by_order(wanted: State, whole: Collection[str], state: State, source: str) -> dict[str, str]:
    """Return the names in a file of other names, such as torchvision's, whose tensors have the encoder's order.

    Every tensor must have the shape of its counterpart and end in its word (weight, bias, running_mean). What follows
    must be no longer than the rest of the network.

    Raises:
        UserError: they differ; names the first pair.
    """
    ours, theirs = ([name for name in names if not name.endswith(COUNTER)] for names in (wanted, state))
    for place, name in enumerate(ours):
        counterpart = theirs[place] if place < len(theirs) else None
        shape = counterpart and state[counterpart].shape
        if counterpart is None or shape != wanted[name].shape or last_word(counterpart) != last_word(name):
            found = f"{counterpart[:80]} {tuple(state[counterpart].shape)}" if counterpart else "no more"
            expected = f"expected {name} {tuple(wanted[name].shape)}, by name or as tensor {place + 1} of the file"
            raise UserError(f"{source}: {expected}, found {found}: of another network")
    rest = [name for name in whole if name not in wanted and not name.endswith(COUNTER)]
    if len(theirs) - len(ours) > len(rest):
        found = f"{len(theirs) - len(ours)}, the first {theirs[len(ours)][:80]}"
        raise UserError(f"{source}: expected at most {len(rest)} tensors after the encoder's, found {found}")
    names = dict(zip(ours, theirs)) | dict(zip(rest, theirs[len(ours) :]))
    layers = {name.rpartition(".")[0]: counterpart.rpartition(".")[0] for name, counterpart in names.items()}
    every = (name.rpartition(".") for name in (*wanted, *whole))
    return {f"{layer}.{word}": f"{layers.get(layer, layer)}.{word}" for layer, _, word in every}


def last_word(name: str) -> str:
    return name.rpartition(".")[2]


def adapted(theirs: Tensor, wanted: Tensor, is_first: bool) -> Tensor:
    """Return a tensor in the form of the encoder's: the first kernel (O, I, k, k) for another number of channels."""
    if is_first and theirs.dim() == 4 and theirs.shape[1] == COLOUR != wanted.shape[1]:
        return adapt_input_conv(wanted.shape[1], theirs)
    return theirs


def names_in_timm(backbone: str) -> list[str]:
    """Return the names of the tensors of a timm model, its classifier included."""
    with torch.device("meta"):
        return list(timm.create_model(backbone).state_dict())


def statistics_in_timm(backbone: str) -> Statistics:
    """Return mean and standard deviation (3 each, in 0..1) of the pictures that timm's weights were trained on.

    Raises:
        UserError: timm has no weights of this model.
    """
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        expected = "expected a timm model whose pretrained_cfg has mean and std"
        raise UserError(f"--normalization encoder: {expected}, found --backbone {backbone}: pass --normalization data")
    return tuple(config.mean), tuple(config.std)

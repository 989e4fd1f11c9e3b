"""The stored numbers of the public FAD modules, and the inputs and weights that follow from neutral names."""

import ast
import json
import os
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from models.search.tower_cells.genotype import TowerCell
from models.search.tower_cells.operations import EDGES
from models.search.tower_cells.supernet import TowerSupernet

SHIPPED = Path(__file__).with_name("fad_reference_part.npz")  # the parts edge, search_cell, derive, targets, losses


@cache
def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def reference(part: str) -> dict[str, np.ndarray]:
    """Return the arrays of a part, without its name: the shipped ones, else those of the reference folder."""
    stored = arrays(SHIPPED)
    if not any(name.startswith(f"{part}/") for name in stored):
        stored = arrays(folder() / "fad_reference.npz")
    return {name.removeprefix(f"{part}/"): array for name, array in stored.items() if name.startswith(f"{part}/")}


def folder() -> Path:
    """Return the folder of the reference data; skips the test where it is not at hand."""
    path = os.environ.get("NAS_DSF_REFERENCE")
    if not path:
        pytest.skip("NAS_DSF_REFERENCE, the folder of the reference data, is not set")
    return Path(path)


def texts() -> dict[str, str]:
    """Return the four published genotypes in text form, by PAIR_PLACE."""
    return json.loads(str(arrays(folder() / "fad_reference.npz")["texts"]))


def made(name: str, *shape: int) -> torch.Tensor:
    """Return the array that a neutral name stands for, in float64."""
    u = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, size=shape)
    if name.endswith("weight") and len(shape) == 4:
        u = u * np.sqrt(6 / (shape[1] * shape[2] * shape[3]))
    elif name.endswith("norm.weight"):
        u = 1 + 0.5 * u
    elif name.endswith("bias"):
        u = 0.3 * u
    elif name[:-1].endswith("scale") and shape == (1,):
        u = 1 + 0.1 * (2 * u)
    else:
        u = 2 * u
    return torch.from_numpy(u)


def layer_name(prefix: str) -> str:
    """Return the neutral name of a layer of a shared edge: std_std_dil is std.dil1."""
    family, *others = prefix.split("_")
    last, depth = (others or [family])[-1], len(others)
    return f"{family}.{f'chain{depth}' if last == family else f'{last}{depth - 1}'}"


def edge_name(name: str) -> str:
    """Return the neutral name of a parameter of a mixed edge."""
    kind, _, rest = name.partition(".")
    if kind == "layers":
        key, _, rest = rest.partition(".")
        return f"{layer_name(key)}.{rest}"
    if kind == "decouple":
        key, _, rest = rest.partition(".")
        return f"{key.partition('_')[0]}.decouple{key.count('_')}.{rest}"
    return name


def supernet_name(name: str) -> str:
    """Return the neutral name of a weight of a supernet cell."""
    _, number, rest = name.split(".", 2)
    node, source = EDGES[int(number)]
    return f"node{node}.from{source}.{edge_name(rest)}"


def fill(module: torch.nn.Module, prefix: str, rename) -> None:
    """Give a module in float64 the weights of its neutral names; logits stay."""
    module.double()
    for name, parameter in module.named_parameters():
        if "alpha_" not in name:
            parameter.data = made(f"{prefix}{rename(name)}", *parameter.shape)


def set_logits(supernet: TowerSupernet, rows: list[np.ndarray]) -> None:
    """Set logits from those by node, whose last column is `none`."""
    supernet.alpha_edges.data = torch.from_numpy(np.roll(np.concatenate(rows), 1, axis=1))


def text_order(text: str) -> list[tuple[str, int]]:
    """Return the edges of a genotype in the order of its text."""
    call = ast.parse(text, mode="eval").body
    return [tuple(edge) for node in ast.literal_eval(call.keywords[0].value) for edge in node]


def cell_of(text: str) -> TowerCell:
    edges = text_order(text)
    pairs = [sorted(edges[n : n + 2], key=lambda edge: edge[1]) for n in range(0, len(edges), 2)]
    return TowerCell(tuple(edge for pair in pairs for edge in pair))


def found_name(text: str):
    """Return what gives the neutral name of a weight of a found cell; its edges there are in the text's order."""
    order, ours = text_order(text), cell_of(text).edges

    def rename(name: str) -> str:
        kind, number, rest = name.split(".", 2)
        if kind == "prepare":
            layer, _, what = rest.partition(".")
            return f"prepare{number}.{('conv', 'norm')[int(layer)]}.{what}"
        node = int(number) // 2
        place = order[2 * node : 2 * node + 2].index(ours[int(number)])
        return f"node{node}.edge{place}.{rest.replace('layers.', 'layer')}"

    return rename


def fingerprint(tensor: torch.Tensor) -> np.ndarray:
    flat = tensor.detach().flatten().numpy()
    return np.array([flat.sum(), np.square(flat).sum(), *flat[:: max(1, flat.size // 8)][:8]])


def check(ours, theirs: np.ndarray) -> None:
    """Compare to 1e-9 of the largest stored magnitude."""
    ours = ours.detach().numpy() if isinstance(ours, torch.Tensor) else ours
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-9 * np.abs(theirs).max()

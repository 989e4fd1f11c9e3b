"""Our cells and operations against numbers of the public NAS-DSF implementation, in float64, to 1e-9."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import MAPS
from models.search.fusion_cells.derive import derive_cell
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.genotype_file import parse_text
from models.search.fusion_cells.layers import Features
from models.search.fusion_cells.operations import fusion_op
from models.search.fusion_cells.supernet import SearchableFusion, Weights
from models.search.relaxations import softmax

HERE = Path(__file__).parent / "fusion_cell_reference_default.npz"  # the half that may be shipped
RENAMES = (
    ("cell.conv1x1.", "out_conv."),
    ("cell._step_nodes.", "nodes."),
    ("channel_attention_block.combine.", "combine."),
    ("channel_attention_block.conv.", "channel_conv."),
    ("spatial_attention_block.spatial.", "spatial."),
    ("cweight", "channel_weight"),
    ("cbias", "channel_bias"),
    ("sweight", "spatial_weight"),
    ("sbias", "spatial_bias"),
    ("gn.", "norm."),
    ("node_cell.bn.", "out_bn."),
    ("node_cell.bn2.", "bn."),
    ("node_cell.", ""),
    ("._ops.", "."),
)


@pytest.fixture(params=["default", "deep"])
def reference(request):
    """The arrays of one configuration, without its tag."""
    path = HERE
    if request.param == "deep":
        folder = os.environ.get("NAS_DSF_REFERENCE")
        if not folder:
            pytest.skip("NAS_DSF_REFERENCE is not set: the second reference configuration is not shipped")
        path = Path(folder) / "fusion_cell_reference.npz"
    with np.load(path) as arrays:
        return {k.partition("/")[2]: arrays[k] for k in arrays.files if k.startswith(request.param + "/")}


def space_of(reference) -> CellSpace:
    config = json.loads(str(reference["config"]))
    config["num_inputs"], config["channels"] = config.pop("n"), config.pop("C")
    return CellSpace(**config)


def state_of(reference, prefix: str, nodes: str = "") -> dict:
    state = {}
    for key, value in reference.items():
        if key.startswith(prefix):
            name = key[len(prefix) :]
            for old, new in RENAMES:
                name = name.replace(old, new)
            state[name.replace("node_ops.", nodes)] = torch.from_numpy(value)
    return state


def logits_of(reference, space: CellSpace) -> dict:
    stacked = {
        kind: torch.from_numpy(np.stack([reference[f"{kind}/{i}"] for i in range(space.steps)]))
        for kind in ("betas", "gammas")
    }
    alphas = torch.from_numpy(reference["alphas"])
    return {"alpha_edges": alphas, "alpha_inner_edges": stacked["betas"], "alpha_ops": stacked["gammas"]}


def check(ours: torch.Tensor, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours.detach().numpy() - theirs).max() <= 1e-9 * np.abs(theirs).max()


def test_searchable_network(reference):
    space = space_of(reference)
    net = SearchableFusion(space).double().eval()
    net.load_state_dict(state_of(reference, "search/", "steps.") | logits_of(reference, space), strict=True)
    check(net(list(torch.from_numpy(reference["inputs"]))), reference["search_output"])


def test_found_network(reference):
    space = space_of(reference)
    net = FoundFusion(genotype_of(reference).cells[0], space.features).double().eval()
    net.load_state_dict(state_of(reference, "found/", "ops."), strict=True)
    check(net(list(torch.from_numpy(reference["inputs"]))), reference["found_output"])


@pytest.mark.parametrize("name", ["Sum", "ECAAttn", "ShuffleAttn", "ConcatConv"])
def test_operation(reference, name):
    x, y = torch.from_numpy(reference["inputs"][:2])
    op = fusion_op(name, Features(MAPS, x.shape[1])).double().eval()
    op.load_state_dict(state_of(reference, f"op/{name}/"), strict=True)
    check(op(x, y), reference[f"op_output/{name}"])


def test_stored_genotype_comes_out_of_derivation(reference):
    space = space_of(reference)
    logits = logits_of(reference, space)
    edges, inner, ops = (softmax(logits[k]) for k in ("alpha_edges", "alpha_inner_edges", "alpha_ops"))
    cell = derive_cell(Weights(edges[None], inner[:, None], ops), space)
    assert cell == genotype_of(reference).cells[0]


def genotype_of(reference):
    inputs = tuple(f"input{i}" for i in range(len(reference["inputs"])))
    return parse_text(str(reference["genotype"]), "reference", inputs, ("P3",), reference["inputs"].shape[2])

"""What the operations of a space cost, and the expected cost of a supernet as a differentiable number.

Letters: E edges, O operations, S steps, K inner steps, P mixtures per node, L levels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.search.costs import Measure
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import MAPS
from models.search.fusion_cells.genotype import CellGenotype
from models.search.fusion_cells.operations import EDGE_OPS, fusion_op
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.relaxations import EVALUATION

Prices = dict[str, dict[str, float]]  # by kind of operation, "edges" or "fusions", and operation


def cost_table(space: CellSpace, sizes: list[tuple[int, ...]], measure: Measure, device: torch.device) -> list[Prices]:
    """Return, per level, what each operation of an edge ("edges") and each fusion ("fusions") costs, for one pair.

    Args:
        sizes: (height, width) of each level's maps, or (length,) of sequences.
    """
    with torch.random.fork_rng(devices=[]):  # their weights are no draws of the run
        edges = {name: EDGE_OPS[name](space.channels) for name in space.edge_ops}
        fusions = {name: fusion_op(name, space.features) for name in space.op_names}
    table = []
    for size in sizes:
        maps = torch.zeros(2, 1, space.channels, *size, device=device)  # or sequences
        priced = {n: _cost(op, maps[:1], measure) if n in space.learned_edges else 0.0 for n, op in edges.items()}
        table.append({"edges": priced, "fusions": {name: _cost(op, maps, measure) for name, op in fusions.items()}})
    return table


def _cost(op: nn.Module, maps: Tensor, measure: Measure) -> float:
    layout = torch.channels_last if maps[0].dim() == MAPS else torch.contiguous_format
    op = op.to(maps.device, memory_format=layout).eval()
    return measure(op, [x.contiguous(memory_format=layout) for x in maps])


def cell_cost(cell: CellGenotype, prices: Prices) -> float:
    """Return what a cell costs by the prices of its level."""
    edges = sum(prices["edges"][name] for name, _ in cell.edges)
    return edges + sum(prices["fusions"][name] for step in cell.steps for name in step.inner_steps)


def expected_cost(fusions: list[SearchableFusion], table: list[Prices], device: torch.device) -> Callable[[], Tensor]:
    """Return what computes the expected cost of the genotype that is derived, relative to that of even weights.

    A step's inputs are weighed so that two edges are counted, as many as derivation keeps.

    Args:
        fusions: supernets, one per level.
        table: of `cost_table`.
    """
    kinds = ("edges", "fusions")
    prices = [[torch.tensor(list(level[kind].values()), device=device) for kind in kinds] for level in table]

    def cost(even: bool) -> Tensor:
        terms = 0
        for fusion, (edge_prices, op_prices) in zip(fusions, prices, strict=True):
            edges, _, ops = fusion.weights(stage=EVALUATION)  # an expectation, not a draw
            if even:
                edges, ops = (torch.full_like(w, 1 / w.shape[-1]) for w in (edges, ops))
            terms = terms + (ops * op_prices).sum() + price_of_edges(edges, edge_prices, fusion.space.edges_per_step)
        return terms

    with torch.no_grad():
        cost_of_even = max(float(cost(even=True)), 1e-12)
    return lambda: cost(even=False) / cost_of_even


def price_of_edges(edges: Tensor, prices: Tensor, edges_per_step: list[int]) -> Tensor:
    """Return the expected price of two edges per step: edges (..., E, O), prices (O,)."""
    of_step = edges.split(edges_per_step, dim=-2)
    return sum(2 * (part * prices).sum() / part[..., 1:].sum().clamp(min=1e-6) for part in of_step)

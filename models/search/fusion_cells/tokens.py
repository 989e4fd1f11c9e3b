"""Fusion genotypes as codes: whole numbers, one token after another, for a controller that draws them in turn.

The tokens of a cell, step by step: the two states that the step reads; what their edges do, where edges have a choice;
then, for each inner step of the node, its two inner states and its operation. A genotype's code is that of its cells,
one level after another.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.genotype import CellGenotype, StepGenotype, edge_pairs


class Slot(NamedTuple):
    """A token of a cell: what it chooses, and from how many values."""

    kind: str
    size: int


@cache
def slots(space: CellSpace) -> tuple[Slot, ...]:
    """Return the tokens of a cell in order."""
    found = []
    for step in range(space.steps):
        found += [Slot("state", space.candidates(step))] * 2
        if space.learned_edges:
            found += [Slot("edge", len(space.edge_ops) - 1)] * 2
        for k in range(space.node_steps):
            found += [Slot("inner state", 2 + k)] * 2 + [Slot("operation", len(space.op_names))]
    return tuple(found)


def allowed(space: CellSpace, prefix: Sequence[int]) -> tuple[bool, ...]:
    """Tell which values the token behind a prefix of a cell's code may have."""
    kind, size = slots(space)[len(prefix)]
    earlier = [token for token, slot in zip(prefix, slots(space)) if slot.kind == kind]
    step, second = divmod(len(earlier), 2)  # of states: the step, or inner step, and whether it has its first one
    if kind == "inner state" and second:
        return tuple(value != earlier[-1] for value in range(size))
    if kind != "state":
        return (True,) * size
    taken = list(zip(earlier[: 2 * step : 2], earlier[1 : 2 * step : 2]))
    may = [[space.may_read(step, (first, value), taken) for value in range(size)] for first in range(size)]
    return tuple(may[earlier[-1]]) if second else tuple(map(any, may))


def to_code(space: CellSpace, cell: CellGenotype) -> tuple[int, ...]:
    """Return the code of a cell."""
    code = []
    for pair, node in zip(edge_pairs(cell.edges), cell.steps, strict=True):
        code += [state for _, state in pair]
        if space.learned_edges:
            code += [space.edge_ops.index(name) - 1 for name, _ in pair]
        for inner, op in zip(edge_pairs(node.inner_edges), node.inner_steps, strict=True):
            code += [*(state for _, state in inner), space.op_names.index(op)]
    return tuple(code)


def cell_of_code(space: CellSpace, code: Sequence[int]) -> CellGenotype:
    """Return the cell of a code."""
    tokens = iter(code)
    edges, nodes = [], []
    for _ in range(space.steps):
        states = [next(tokens), next(tokens)]
        names = [next(tokens), next(tokens)] if space.learned_edges else [0, 0]
        edges += [(space.edge_ops[1 + name], state) for name, state in zip(names, states)]
        inner, ops = [], []
        for _ in range(space.node_steps):
            inner += [("skip", next(tokens)), ("skip", next(tokens))]
            ops.append(space.op_names[next(tokens)])
        nodes.append(StepGenotype(tuple(inner), tuple(ops), space.inner_concat))
    return CellGenotype(tuple(edges), tuple(nodes), space.concat)


def cells_of_code(space: CellSpace, code: Sequence[int]) -> tuple[CellGenotype, ...]:
    """Return the cells of a valid code."""
    size = len(slots(space))
    return tuple(cell_of_code(space, code[start : start + size]) for start in range(0, len(code), size))

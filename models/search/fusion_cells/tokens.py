"""Fusion genotypes as codes: whole numbers, one token after another, for a controller that draws them in turn.

The tokens of a cell, step by step: the two states that the step reads; what their edges do, where edges have a choice;
then, for each inner step of the node, its two inner states and its operation. A genotype's code is that of its cells,
one level after another.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.genotype import CellGenotype, Edge, Genotype, StepGenotype
from models.search.fusion_cells.validate import may_read
from utils.errors import UserError


class Slot(NamedTuple):
    """A token of a cell: what it chooses and from how many values; `place` is 0 or 1 of a pair, or the inner step."""

    kind: str
    size: int
    step: int
    place: int = 0


@cache
def slots(space: CellSpace) -> tuple[Slot, ...]:
    """Return the tokens of a cell in order."""
    found = []
    for step in range(space.steps):
        found += [Slot("state", space.candidates(step), step, place) for place in (0, 1)]
        if space.learned_edges:
            found += [Slot("edge", len(space.edge_ops) - 1, step, place) for place in (0, 1)]
        for k in range(space.node_steps):
            found += [Slot("inner state", 2 + k, step, place) for place in (0, 1)]
            found.append(Slot("operation", len(space.op_names), step, k))
    return tuple(found)


def allowed(space: CellSpace, prefix: Sequence[int]) -> tuple[bool, ...]:
    """Tell which values the token behind a prefix of a cell's code may have."""
    slot = slots(space)[len(prefix)]
    if slot.kind == "inner state" and slot.place:
        return tuple(value != prefix[-1] for value in range(slot.size))
    if slot.kind != "state":
        return (True,) * slot.size
    states = _states(space, prefix)
    taken = list(zip(states[: 2 * slot.step : 2], states[1 : 2 * slot.step : 2]))
    if slot.place:
        return tuple(may_read(space, slot.step, (states[-1], value), taken) for value in range(slot.size))
    return tuple(
        any(may_read(space, slot.step, (value, other), taken) for other in range(slot.size))
        for value in range(slot.size)
    )


def _states(space: CellSpace, prefix: Sequence[int]) -> list[int]:
    return [token for token, slot in zip(prefix, slots(space)) if slot.kind == "state"]


def to_code(space: CellSpace, cell: CellGenotype) -> tuple[int, ...]:
    """Return the code of a cell."""
    code = []
    for slot in slots(space):
        name, state = cell.edges[2 * slot.step + slot.place] if slot.kind in ("state", "edge") else ("", 0)
        if slot.kind == "state":
            code.append(state)
        elif slot.kind == "edge":
            code.append(space.edge_ops.index(name) - 1)
        elif slot.kind == "operation":
            code.append(space.op_names.index(cell.steps[slot.step].inner_steps[slot.place]))
        else:
            code.append(cell.steps[slot.step].inner_edges[2 * (slot.size - 2) + slot.place][1])
    return tuple(code)


def cell_of_code(space: CellSpace, code: Sequence[int]) -> CellGenotype:
    """Return the cell of a code."""
    by_step = [[(slot, token) for slot, token in zip(slots(space), code) if slot.step == n] for n in range(space.steps)]
    edges: list[Edge] = []
    steps = []
    for tokens in by_step:
        values = {kind: [t for slot, t in tokens if slot.kind == kind] for kind in ("state", "edge", "operation")}
        names = [space.edge_ops[1 + token] for token in values["edge"] or (0, 0)]
        edges += zip(names, values["state"])
        inner = tuple(("skip", token) for slot, token in tokens if slot.kind == "inner state")
        ops = tuple(space.op_names[token] for token in values["operation"])
        steps.append(StepGenotype(inner, ops, space.inner_concat))
    return CellGenotype(tuple(edges), tuple(steps), space.concat)


def genotype_of_code(
    space: CellSpace, inputs: tuple[str, ...], levels: tuple[str, ...], code: Sequence[int]
) -> Genotype:
    """Return the genotype of a code; raises UserError where a token is none that `allowed` lets through."""
    size = len(slots(space))
    if len(code) != size * len(levels):
        raise UserError(f"code: expected {size * len(levels)} tokens, found {len(code)}")
    codes = [code[start : start + size] for start in range(0, len(code), size)]
    for level, cell_code in enumerate(codes):
        for n, token in enumerate(cell_code):
            values = [value for value, may in enumerate(allowed(space, cell_code[:n])) if may]
            if token not in values:
                raise UserError(f"code: token {level * size + n}: expected one of {values}, found {token}")
    cells = tuple(cell_of_code(space, cell_code) for cell_code in codes)
    return Genotype(inputs, levels, space.channels, cells, {}, space.name)

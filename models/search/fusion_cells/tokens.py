"""Fusion genotypes as codes: whole numbers, one token after another, for a controller that draws them in turn.

The tokens of a cell, step by step: the two states that the step reads; what their edges do, where edges have a choice;
then, for each inner step of the node, its two inner states and its operation. A genotype's code is that of its cells,
one level after another.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.genotype import CellGenotype, Edge, Genotype, Names, StepGenotype
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
    states = [token for token, earlier in zip(prefix, slots(space)) if earlier.kind == "state"]
    taken = list(zip(states[: 2 * slot.step : 2], states[1 : 2 * slot.step : 2]))
    values = range(slot.size)
    if slot.place:
        return tuple(may_read(space, slot.step, (states[-1], value), taken) for value in values)
    return tuple(any(may_read(space, slot.step, (value, other), taken) for other in values) for value in values)


def to_code(space: CellSpace, cell: CellGenotype) -> tuple[int, ...]:
    """Return the code of a cell."""
    code = []
    for kind, size, step, place in slots(space):
        if kind == "state":
            code.append(cell.edges[2 * step + place][1])
        elif kind == "edge":
            code.append(space.edge_ops.index(cell.edges[2 * step + place][0]) - 1)
        elif kind == "operation":
            code.append(space.op_names.index(cell.steps[step].inner_steps[place]))
        else:
            code.append(cell.steps[step].inner_edges[2 * (size - 2) + place][1])
    return tuple(code)


def cell_of_code(space: CellSpace, code: Sequence[int]) -> CellGenotype:
    """Return the cell of a code."""
    edges: list[Edge] = []
    steps = []
    for n in range(space.steps):
        values: dict[str, list[int]] = defaultdict(list)
        for slot, token in zip(slots(space), code):
            if slot.step == n:
                values[slot.kind].append(token)
        names = [space.edge_ops[1 + token] for token in values["edge"] or (0, 0)]
        edges += zip(names, values["state"])
        inner = tuple(("skip", token) for token in values["inner state"])
        ops = tuple(space.op_names[token] for token in values["operation"])
        steps.append(StepGenotype(inner, ops, space.inner_concat))
    return CellGenotype(tuple(edges), tuple(steps), space.concat)


def genotype_of_code(space: CellSpace, inputs: Names, levels: Names, code: Sequence[int]) -> Genotype:
    """Return the genotype of a code; raises UserError where a token is none that `allowed` lets through."""
    size = len(slots(space))
    if len(code) != size * len(levels):
        raise UserError(f"code: expected {size * len(levels)} tokens, found {len(code)}")
    codes = [code[start : start + size] for start in range(0, len(code), size)]
    for number, token in enumerate(code):
        level, n = divmod(number, size)
        values = [value for value, may in enumerate(allowed(space, codes[level][:n])) if may]
        if token not in values:
            raise UserError(f"code: token {number}: expected one of {values}, found {token}")
    cells = tuple(cell_of_code(space, cell_code) for cell_code in codes)
    return Genotype(inputs, levels, space.channels, cells, space=space.name)

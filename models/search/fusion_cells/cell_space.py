"""The search space of one fusion cell: its sizes, and the rules that every genotype of it keeps.

A file may also hold genotypes that only fit the streams (genotype_file.py).

Letters: F inputs of a cell, S steps, K inner steps of a node.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from models.search.fusion_cells.choices import PUBLISHED, SKIP, SPACES
from models.search.fusion_cells.genotype import CellGenotype, edge_pairs
from models.search.fusion_cells.layers import Features
from utils.errors import UserError


@dataclass(frozen=True)
class CellSpace:
    """Sizes of the search space of one fusion cell; the defaults are the published ones.

    Args:
        num_inputs: F, own taps and those of neighbours.
        channels: C.
        steps, multiplier, node_steps, node_multiplier: as the options of these names.
        name: one of SPACES.
        pair_inputs: the supernet gives a node two mixtures of states, as the found network has two states; else one
            mixture twice, as published.
        length: L, of sequences.
        predecessors: what the steps of a found cell read: "inputs", as published for NAS-DSF, no step two that earlier
            ones have read; or "all", inputs and earlier steps, no two steps the same pair (BM-NAS, section 3.2).
    """

    num_inputs: int
    channels: int
    steps: int = 2
    multiplier: int = 2
    node_steps: int = 1
    node_multiplier: int = 3
    name: str = PUBLISHED
    pair_inputs: bool = False
    length: int = 0
    predecessors: str = "inputs"

    def __post_init__(self):
        for name in ("num_inputs", "channels", "steps", "multiplier", "node_steps", "node_multiplier"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, found {getattr(self, name)}")
        _at_most("multiplier", self.multiplier, self.num_inputs + self.steps, "num_inputs + steps")
        _at_most("node_multiplier", self.node_multiplier, 2 + self.node_steps, "2 + node_steps")
        if self.predecessors == "inputs":
            reason = "ceil(num_inputs / 2), or input pairs run out"
            _at_most("steps", self.steps, math.ceil(self.num_inputs / 2), reason)

    @property
    def rank(self) -> int:
        """Of the features that its cells fuse."""
        return SPACES[self.name].rank

    @property
    def features(self) -> Features:
        """What its cells fuse."""
        return Features(self.rank, self.channels, self.length)

    @property
    def edge_ops(self) -> tuple[str, ...]:
        return SPACES[self.name].edges

    @property
    def op_names(self) -> tuple[str, ...]:
        return SPACES[self.name].fusions

    @property
    def learned_edges(self) -> tuple[str, ...]:
        """What an edge can do that has something to learn."""
        return self.edge_ops[SKIP + 1 :]

    @property
    def num_cell_choices(self) -> int:
        """Number of choices in a cell between operations with and without parameters."""
        return self.steps * (self.node_steps + (2 if self.learned_edges else 0))

    @property
    def ports(self) -> int:
        """Mixtures that a node, and an inner step, gets: one for both of its inputs, or two."""
        return 2 if self.pair_inputs else 1

    @property
    def edges_per_step(self) -> list[int]:
        """Edges of each step of the cell: step i reads the inputs and the i earlier steps."""
        return [self.num_inputs + i for i in range(self.steps)]

    @property
    def inner_edges_per_step(self) -> list[int]:
        """Edges of each inner step of a node: step k reads x, y and the k earlier inner steps."""
        return [2 + k for k in range(self.node_steps)]

    @property
    def concat(self) -> tuple[int, ...]:
        last = self.num_inputs + self.steps
        return tuple(range(last - self.multiplier, last))

    @property
    def inner_concat(self) -> tuple[int, ...]:
        last = 2 + self.node_steps
        return tuple(range(last - self.node_multiplier, last))

    def candidates(self, step: int) -> int:
        """Return of how many states, the first ones, a step of a found cell reads two."""
        return self.num_inputs + (step if self.predecessors == "all" else 0)

    def allows(self, pair: Iterable[int], taken: list[tuple[int, int]]) -> bool:
        """Tell whether a step may read a pair of states where earlier ones have taken theirs."""
        if self.predecessors == "all":
            return all(set(pair) != set(other) for other in taken)
        return not set(pair) <= {state for other in taken for state in other}

    def may_read(self, step: int, pair: tuple[int, int], taken: list[tuple[int, int]]) -> bool:
        """Tell whether a step may read a pair of states, in this order.

        With one mixture per node the order has no meaning, and the lower state comes first.
        """
        in_order = pair[0] != pair[1] if self.pair_inputs else pair[0] < pair[1]
        return in_order and all(0 <= state < self.candidates(step) for state in pair) and self.allows(pair, taken)

    def problem(self, cell: CellGenotype) -> str:
        """Return which rule a cell breaks, in words; "" where it keeps all."""
        if len(cell.steps) != self.steps or len(cell.edges) != 2 * self.steps or cell.concat != self.concat:
            return f"expected {self.steps} steps and concat {self.concat}, found {len(cell.steps)} and {cell.concat}"
        taken: list[tuple[int, int]] = []
        for step, (a, b) in enumerate(edge_pairs(cell.edges)):
            pair, names = (a[1], b[1]), {a[0], b[0]}
            if not self.may_read(step, pair, taken):
                return f"steps[{step}]: expected two states that the space allows behind {taken}, found {pair}"
            if not names <= set(self.edge_ops[1:]):
                return f"steps[{step}]: expected edges of {', '.join(self.edge_ops[1:])}, found {', '.join(names)}"
            taken.append(pair)
        for step, node in enumerate(cell.steps):
            pairs = [(a[1], b[1]) for a, b in edge_pairs(node.inner_edges)]
            inner = all(0 <= s < 2 + k for k, pair in enumerate(pairs) for s in pair) and all(a != b for a, b in pairs)
            if len(node.inner_steps) != self.node_steps or not inner or node.inner_concat != self.inner_concat:
                return f"steps[{step}]: expected {self.node_steps} inner steps of two states each, found {pairs}"
            if not set(node.inner_steps) <= set(self.op_names):
                return f"steps[{step}]: expected operations of {', '.join(self.op_names)}, found {node.inner_steps}"
        return ""


def _at_most(name: str, value: int, limit: int, why: str) -> None:
    if value > limit:
        raise UserError(f"{name}: expected at most {limit} ({why}), found {value}")

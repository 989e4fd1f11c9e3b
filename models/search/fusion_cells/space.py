"""The search space of the fusion: one cell per place, all of the same sizes (models/search/space.py).

fusion_v1 is the published space of NAS-DSF, bmnas that of BM-NAS, fusion_v2 ours: choices.py.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from models.search.best_combinations import Ranked
from models.search.costs import Measure
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import PUBLISHED, SKIP, input_names, is_neighbour, level_inputs
from models.search.fusion_cells.costs import cell_cost, cost_table, expected_cost
from models.search.fusion_cells.derive import derive, describe_genotype, mean_entropy, named_weights
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.genotype_file import FusionReader
from models.search.fusion_cells.random_genotypes import draw_genotype, limit_parameter_free, mutated
from models.search.fusion_cells.supernet import SearchableFusion
from models.search.fusion_cells.tokens import allowed, cells_of_code, slots, to_code
from models.search.fusion_cells.top_k import top_k_genotypes
from models.search.space import Choice, CostTable, Row, Supernets, check_code
from utils.errors import UserError


@dataclass(frozen=True)
class FusionSpace(CellSpace):
    """Space of the fusion networks of all levels; it fills `models.search.space.Space`.

    Args:
        inputs: names of a cell's inputs: taps MODALITY/NAME, then those of neighbouring levels.
        levels: names of the places.
        max_parameter_free: choices without parameters that a genotype may have, over all levels; the strongest stay,
            the others give way to the best that learns. None: any number.
        feature_sizes: (height, width) of each level's maps, for the cost table.
    """

    inputs: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    max_parameter_free: int | None = None
    feature_sizes: tuple[tuple[int, ...], ...] = ()

    @property
    def num_choices(self) -> int:
        return len(self.levels) * self.num_cell_choices

    def derive(self, supernets: Supernets) -> Genotype:
        return derive(list(supernets.values()), self.inputs, self.levels, self.max_parameter_free)

    def sample(self, rng: random.Random) -> Genotype:
        drawn = draw_genotype(self, self.inputs, self.levels, rng)
        return limit_parameter_free(drawn, self, self.max_parameter_free, rng)

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        return limit_parameter_free(mutated(genotype, self, rng), self, self.max_parameter_free, rng)

    def top_k(self, supernets: Supernets, count: int) -> Ranked:
        return top_k_genotypes(list(supernets.values()), self.inputs, self.levels, count, self.max_parameter_free)

    def activate(self, supernets: Supernets, genotype: Genotype | None) -> None:
        for number, supernet in enumerate(supernets.values()):
            supernet.activate(genotype.cells[number] if genotype else None)

    def choices(self, supernets: Supernets) -> Iterator[list[Choice]]:
        """Give two rounds for selection by perturbation (2108.04392, algorithm 1).

        First the operation of each inner step and the two states of each step; then what the edges of these states do,
        where there is more than one operation. Inner edges are left to the logits.
        """
        for alternatives in (operations_and_states, edges_of_states):
            yield [choice for supernet in supernets.values() for choice in alternatives(supernet)]

    def cost_table(self, measure: Measure, device: torch.device) -> CostTable:
        sizes = self.feature_sizes or ((self.length,),) * len(self.levels)
        return dict(zip(self.levels, cost_table(self, list(sizes), measure, device), strict=True))

    def cost(self, genotype: Genotype, table: CostTable) -> float:
        return sum(cell_cost(cell, table[level]) for level, cell in zip(self.levels, genotype.cells, strict=True))

    def expected_cost(self, supernets: Supernets, table: CostTable, device: torch.device) -> Callable[[], Tensor]:
        return expected_cost(list(supernets.values()), [table[level] for level in self.levels], device)

    def validate(self, genotype: Genotype) -> None:
        for number, cell in enumerate(genotype.cells):
            if wrong := self.problem(cell):
                raise UserError(f"genotype: cells[{number}]: {wrong}")

    def describe(self, genotype: Genotype) -> Row:
        return describe_genotype(genotype, self)

    def describe_logits(self, supernets: Supernets) -> Row:
        return mean_entropy(list(supernets.values()))

    def named_weights(self, supernets: Supernets) -> dict[str, dict]:
        inputs = [level_inputs(self.inputs, number, self.levels) for number in range(len(self.levels))]
        return dict(zip(self.levels, map(named_weights, supernets.values(), inputs), strict=True))

    def from_json(self, data: Any, source: str) -> Genotype:
        taps = [name for name in self.inputs if not is_neighbour(name)]
        return FusionReader(taps, self.levels, self.channels, self.rank).from_json(data, source)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(slot.size for slot in slots(self)) * len(self.levels)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(slot.kind for slot in slots(self)) * len(self.levels)

    def allowed(self, prefix: Sequence[int]) -> tuple[bool, ...]:
        return allowed(self, prefix[len(prefix) // len(slots(self)) * len(slots(self)) :])

    def to_code(self, genotype: Genotype) -> tuple[int, ...]:
        return tuple(token for cell in genotype.cells for token in to_code(self, cell))

    def from_code(self, code: Sequence[int]) -> Genotype:
        check_code(self, code)
        return Genotype(self.inputs, self.levels, self.channels, cells_of_code(self, code), space=self.name)


def fusion_space(
    taps: Sequence[str], levels: Sequence[str], channels: int, *, name: str = PUBLISHED, **sizes: Any
) -> FusionSpace:
    """Return the space of cells on these taps.

    Args:
        taps: names MODALITY/NAME of a level's own taps, in order.
        levels: names of the places.
        channels: C.
        name: one of SPACES.
        sizes: other fields of `FusionSpace`.
    """
    inputs = input_names(name, tuple(taps), len(levels))
    return FusionSpace(len(inputs), channels, name=name, inputs=inputs, levels=tuple(levels), **sizes)


def random_genotype(space: FusionSpace, seed: int) -> Genotype:
    """Return the genotype that a seed draws uniformly: the random-search baseline (1902.07638)."""
    return replace(space.sample(random.Random(seed)), meta={"random_genotype": seed})


def operations_and_states(fusion: SearchableFusion) -> Iterator[Choice]:
    """Yield the choice of the operation of each inner step, and of the states of each step."""
    ops = range(len(fusion.space.op_names))
    for step, edges in enumerate(_edges_of_inputs(fusion.space)):
        for k in range(fusion.space.node_steps):
            yield Choice(fusion.mask_ops, [(step, k, o) for o in ops], 1)
        yield Choice(fusion.mask_edges, [(slice(None), edge, slice(SKIP, None)) for edge in edges], 2)


def edges_of_states(fusion: SearchableFusion) -> Iterator[Choice]:
    """Yield the choice of what each edge does whose state was kept."""
    ops = range(SKIP, len(fusion.space.edge_ops))
    for edge in [edge for edges in _edges_of_inputs(fusion.space) for edge in edges if len(ops) > 1]:
        if not torch.isinf(fusion.mask_edges[:, edge, SKIP:]).all():
            yield Choice(fusion.mask_edges, [(slice(None), edge, o) for o in ops], 1)


def _edges_of_inputs(space: CellSpace) -> list[range]:
    """Return, for each step, the numbers of its edges that read inputs of the cell."""
    firsts = [sum(space.edges_per_step[:step]) for step in range(space.steps)]
    return [range(first, first + space.num_inputs) for first in firsts]

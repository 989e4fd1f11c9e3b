"""What a search asks of a search space, and several spaces searched together.

A space belongs to one part of a model: the fusion, the neck, the towers of the head, or the cells of a classifier. It
holds the places of the part (the levels of a pyramid, say) and the names of what its cells read. The supernets of a
part are modules by place; the space of each is the same object.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from models.search.architecture import Architecture
from models.search.best_combinations import Ranked, best_combinations
from models.search.costs import Measure
from models.search.relaxations import Stage
from utils.errors import UserError

Row = dict[str, Any]
Supernets = Mapping[str, Any]  # modules by place; each has `space`, `stage` and `weights()`
SupernetsByPart = Mapping[str, Supernets]
CostTable = dict[str, dict[str, dict[str, float]]]  # by place, kind of operation and operation


class Choice(NamedTuple):
    """A choice that a search can decide by removing alternatives, one after another.

    Args:
        mask: added to logits; minus infinity removes an alternative.
        alternatives: indices into the mask, one entry each.
        num_kept: alternatives that stay.
    """

    mask: Tensor
    alternatives: list[tuple]
    num_kept: int


class Space(Protocol):
    """The search space of one part.

    Genotypes are values of the space's own type, as `Architecture` asks for. A space without logits has no `derive`,
    `top_k`, `choices` and `describe_logits`: strategies that learn logits refuse it.
    """

    @property
    def num_choices(self) -> int:
        """Number of choices between operations with and without parameters in a genotype."""

    def derive(self, supernets: Supernets) -> Any:
        """Return the genotype that the logits prefer."""

    def sample(self, rng: random.Random) -> Any:
        """Return a genotype drawn uniformly."""

    def mutate(self, genotype: Any, rng: random.Random) -> Any:
        """Return the genotype changed in one place."""

    def top_k(self, supernets: Supernets, count: int) -> Ranked:
        """Return the likeliest genotypes with their log probabilities, the likeliest first."""

    def activate(self, supernets: Supernets, genotype: Any | None) -> None:
        """Make the supernets run as a genotype on their own weights; None: as mixtures again."""

    def choices(self, supernets: Supernets) -> Iterator[list[Choice]]:
        """Give the rounds of choices for selection by perturbation; a round may depend on the masks of those before."""

    def cost_table(self, measure: Measure, device: torch.device) -> CostTable:
        """Return the cost of each operation at each place."""

    def cost(self, genotype: Any, table: CostTable) -> float:
        """Return the cost of a genotype by a table."""

    def expected_cost(self, supernets: Supernets, table: CostTable, device: torch.device) -> Callable[[], Tensor]:
        """Return what computes the expected cost, differentiable in the logits; 1 for even weights."""

    def validate(self, genotype: Any) -> None:
        """Raise UserError where a genotype breaks a rule of the space."""

    def describe(self, genotype: Any) -> Row:
        """Return counts of operations, "parameter_free", "genotype" (its id) and "argmax" (the genotype in words)."""

    def describe_logits(self, supernets: Supernets) -> Row:
        """Return statistics of the logits, such as entropies."""

    def named_weights(self, supernets: Supernets) -> dict[str, dict]:
        """Return the relaxed logits under names, by place."""

    def from_json(self, data: Any, source: str) -> Any:
        """Return the genotype of untrusted JSON; raises UserError that names `source`, field, expected and found."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each token of a code."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each token, such as "state" or "operation"; tokens of one kind share their values' meaning."""

    def allowed(self, prefix: Sequence[int]) -> tuple[bool, ...]:
        """Tell which values the token behind a prefix may have, so that a valid code remains reachable."""

    def to_code(self, genotype: Any) -> tuple[int, ...]: ...

    def from_code(self, code: Sequence[int]) -> Any:
        """Return the genotype of a code; raises UserError for one that is not valid."""


def check_code(space: Space, code: Sequence[int]) -> None:
    """Raise UserError where a code has another length, or a token is none that `allowed` lets through."""
    if len(code) != len(space.sizes):
        raise UserError(f"code: expected {len(space.sizes)} tokens, found {len(code)}")
    for number, token in enumerate(code):
        values = [value for value, may in enumerate(space.allowed(code[:number])) if may]
        if token not in values:
            raise UserError(f"code: token {number}: expected one of {values}, found {token}")


@dataclass(frozen=True)
class JointSpace:
    """The spaces of all parts that are searched together. Genotypes are of type `Architecture`.

    With one part it draws the same numbers, and describes a genotype by the same row, as the space of this part.

    Args:
        spaces: by part.
        supernets: by part and place; empty where only genotypes are drawn.
    """

    spaces: dict[str, Space]
    supernets: SupernetsByPart = field(default_factory=dict)

    @classmethod
    def of(cls, searchables: SupernetsByPart) -> "JointSpace":
        """Return the joint space of a model's supernets."""
        return cls({part: next(iter(places.values())).space for part, places in searchables.items()}, searchables)

    @property
    def num_choices(self) -> int:
        return sum(space.num_choices for space in self.spaces.values())

    def derive(self) -> Architecture:
        return Architecture({part: space.derive(self.supernets[part]) for part, space in self.spaces.items()})

    def sample(self, rng: random.Random) -> Architecture:
        return Architecture({part: space.sample(rng) for part, space in self.spaces.items()})

    def mutate(self, parent: Architecture, rng: random.Random) -> Architecture:
        """Return the architecture changed in one place of one part."""
        part = rng.choice(list(self.spaces)) if len(self.spaces) > 1 else next(iter(self.spaces))
        return Architecture({**parent.parts, part: self.spaces[part].mutate(parent.parts[part], rng)})

    def top_k(self, count: int) -> list[Architecture]:
        """Return the likeliest architectures, the likeliest first."""
        ranked = [space.top_k(self.supernets[part], count) for part, space in self.spaces.items()]
        return [Architecture(dict(zip(self.spaces, picked))) for _, picked in best_combinations(ranked, count)]

    def activate(self, architecture: Architecture | None) -> None:
        """Make all supernets run as an architecture on their own weights; None: as mixtures again."""
        for part, space in self.spaces.items():
            space.activate(self.supernets[part], architecture.parts[part] if architecture else None)

    def set_stage(self, stage: Stage) -> None:
        """Set the stage of the search that the relaxations of all supernets depend on."""
        for places in self.supernets.values():
            for supernet in places.values():
                supernet.stage = stage

    def choices(self) -> Iterator[list[Choice]]:
        """Give the rounds of choices of all parts; the first rounds of all parts are one."""
        rounds = [space.choices(self.supernets[part]) for part, space in self.spaces.items()]
        for parts in zip_longest(*rounds, fillvalue=[]):
            yield [choice for part in parts for choice in part]

    def cost_table(self, measure: Measure, device: torch.device) -> dict[str, Any]:
        """Return the cost of each operation by place, or by PART/PLACE where there are several parts."""
        return _merged({part: space.cost_table(measure, device) for part, space in self.spaces.items()})

    def cost(self, architecture: Architecture, table: dict[str, Any]) -> float:
        return sum(space.cost(architecture.parts[p], self._of_part(table, p)) for p, space in self.spaces.items())

    def expected_cost(self, table: dict[str, Any], device: torch.device) -> Callable[[], Tensor]:
        """Return what computes the mean of the parts' expected costs, each 1 for even weights."""
        tables = {part: self._of_part(table, part) for part in self.spaces}
        costs = [s.expected_cost(self.supernets[part], tables[part], device) for part, s in self.spaces.items()]
        return costs[0] if len(costs) == 1 else lambda: torch.stack([cost() for cost in costs]).mean()

    def validate(self, architecture: Architecture) -> None:
        for part, space in self.spaces.items():
            space.validate(architecture.parts[part])

    def describe(self, architecture: Architecture) -> Row:
        """Return the row of the only part, or one whose names begin with PART/ where there are several."""
        rows = {part: space.describe(architecture.parts[part]) for part, space in self.spaces.items()}
        if len(rows) == 1:
            return next(iter(rows.values()))
        free = sum(row["parameter_free"] for row in rows.values())
        whole = {"parameter_free": free, "genotype": architecture.id, "argmax": architecture.words}
        return {name: v for name, v in _merged(rows).items() if name.partition("/")[2] not in whole} | whole

    def describe_logits(self) -> Row:
        return _merged({part: s.describe_logits(self.supernets[part]) for part, s in self.spaces.items()})

    def named_weights(self) -> dict[str, dict]:
        return _merged({part: s.named_weights(self.supernets[part]) for part, s in self.spaces.items()})

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(size for space in self.spaces.values() for size in space.sizes)

    @property
    def kinds(self) -> tuple[str, ...]:
        kinds = ((part, kind) for part, space in self.spaces.items() for kind in space.kinds)
        return tuple(f"{part}/{kind}" if len(self.spaces) > 1 else kind for part, kind in kinds)

    def allowed(self, prefix: Sequence[int]) -> tuple[bool, ...]:
        left = list(prefix)
        for space in self.spaces.values():
            if len(left) < len(space.sizes):
                return space.allowed(left)
            left = left[len(space.sizes) :]
        return ()

    def to_code(self, architecture: Architecture) -> tuple[int, ...]:
        return tuple(token for part, space in self.spaces.items() for token in space.to_code(architecture.parts[part]))

    def from_code(self, code: Sequence[int]) -> Architecture:
        tokens = iter(code)
        parts = {part: s.from_code(tuple(islice(tokens, len(s.sizes)))) for part, s in self.spaces.items()}
        return Architecture(parts)

    def _of_part(self, values: Mapping[str, Any], part: str) -> dict[str, Any]:
        """Return what `_merged` has merged of one part."""
        if len(self.spaces) == 1:
            return dict(values)
        return {key.removeprefix(f"{part}/"): v for key, v in values.items() if key.startswith(f"{part}/")}


def _merged(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Merge dicts by part into one; its keys begin with PART/ where there are several parts."""
    several = len(parts) > 1
    return {f"{part}/{key}" if several else key: v for part, values in parts.items() for key, v in values.items()}

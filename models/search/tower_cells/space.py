"""The search space of head towers: one cell for boxes and one for classes (models/search/space.py).

FAD (2007.12075, section 3.2): a cell has two inputs and three nodes of two edges; 1.8e7 cells per tower with ten
operations. Each tower has one set of weights for all levels of the pyramid.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from models.search.best_combinations import Ranked, best_combinations
from models.search.costs import Measure
from models.search.fusion_cells.costs import price_of_edges
from models.search.fusion_cells.genotype import Edge, Genotype, Names, edge_pairs
from models.search.relaxations import EVALUATION
from models.search.space import Choice, CostTable, Row, Supernets, check_code
from models.search.tower_cells.derive import derive_cell, ranked_nodes, scores_of
from models.search.tower_cells.genotype import INPUTS, PLACES, TowerCell
from models.search.tower_cells.genotype_file import TowerReader, read_cell
from models.search.tower_cells.layers import make_layer
from models.search.tower_cells.operations import CHAINS, EDGES, NUM_INPUTS, NUM_NODES, PUBLISHED, SPACES
from utils.errors import UserError

EDGES_PER_NODE = [NUM_INPUTS + node for node in range(NUM_NODES)]


@dataclass(frozen=True)
class TowerSpace(TowerReader):
    """Space of the towers; it fills `models.search.space.Space`.

    Args:
        places: names of the searched towers, of "box" and "cls".
        channels: C, inside of the edges.
        name: one of SPACES.
        derivation: one of DERIVATIONS.
        map_size: (height, width) that operations are measured on, for the cost table: the finest level's.
    """

    places: Names = PLACES
    name: str = PUBLISHED
    derivation: str = "softmax"
    map_size: tuple[int, int] = (32, 32)
    num_choices = 0  # every operation has parameters

    @property
    def operations(self) -> Names:
        return SPACES[self.name]

    def derive(self, supernets: Supernets) -> Genotype:
        scores = [scores_of(supernet, self.derivation) for supernet in supernets.values()]
        return self._genotype(derive_cell(of_tower, self.operations) for of_tower in scores)

    def sample(self, rng: random.Random) -> Genotype:
        return self._genotype(self._draw_cell(rng) for _ in self.places)

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Return the genotype with another operation, or another source, of one edge."""
        cells = list(genotype.cells)
        while True:
            number, place = rng.randrange(len(cells)), rng.randrange(2 * NUM_NODES)
            edges = list(cells[number].edges)
            operation, source = edges[place]
            if rng.random() < 0.5:
                edges[place] = rng.choice(self.operations), source
            else:
                edges[place] = operation, rng.randrange(NUM_INPUTS + place // 2)
            cell = TowerCell.of(edges)
            if cell != cells[number] and all(a[1] != b[1] for a, b in edge_pairs(cell.edges)):
                return replace(genotype, cells=(*cells[:number], cell, *cells[number + 1 :]), meta={})

    def top_k(self, supernets: Supernets, count: int) -> Ranked:
        nodes = [
            ranked
            for supernet in supernets.values()
            for ranked in ranked_nodes(supernet, self.derivation, self.operations, count)
        ]
        best = best_combinations(nodes, count)
        return [(score, self._of_pairs(picked)) for score, picked in best]

    def activate(self, supernets: Supernets, genotype: Genotype | None) -> None:
        for number, supernet in enumerate(supernets.values()):
            supernet.activate(genotype.cells[number] if genotype else None)

    def choices(self, supernets: Supernets) -> Iterator[list[Choice]]:
        """Give two rounds: the two states of each node that has more, then the operation of each kept edge."""
        masks, numbers = [supernet.mask_edges for supernet in supernets.values()], range(len(EDGES))
        of_node = [[n for n in numbers if EDGES[n][0] == node] for node in range(NUM_NODES)]
        nodes = [edges for edges in of_node if len(edges) > 2]
        yield [Choice(mask, [(n, slice(1, None)) for n in edges], 2) for mask in masks for edges in nodes]
        kept = [(mask, n) for mask in masks for n in numbers if not torch.isinf(mask[n, 1:]).all()]
        yield [Choice(mask, [(n, 1 + o) for o in range(len(self.operations))], 1) for mask, n in kept]

    def cost_table(self, measure: Measure, device: torch.device) -> CostTable:
        """Return the cost of each operation on a map of the finest level, the same at each place."""
        maps = [torch.zeros(1, self.channels, *self.map_size, device=device)]
        with torch.random.fork_rng(devices=[]):  # their weights are no draws of the run
            layers = {
                name: torch.nn.Sequential(*(make_layer(kind, self.channels) for kind in CHAINS[name]))
                for name in self.operations
            }
        prices = {name: measure(chain.to(device).eval(), maps) for name, chain in layers.items()}
        return {place: {"edges": dict(prices)} for place in self.places}

    def cost(self, genotype: Genotype, table: CostTable) -> float:
        by_place = zip(self.places, genotype.cells, strict=True)
        return sum(table[place]["edges"][operation] for place, cell in by_place for operation, _ in cell.edges)

    def expected_cost(self, supernets: Supernets, table: CostTable, device: torch.device) -> Callable[[], Tensor]:
        """Return what computes the expected cost of the genotype, two edges per node, relative to even weights."""
        prices = {place: torch.tensor([0.0, *table[place]["edges"].values()], device=device) for place in self.places}

        def cost(even: bool) -> Tensor:
            total = torch.zeros((), device=device)
            for price, supernet in zip(prices.values(), supernets.values(), strict=True):
                weights = supernet.weights(stage=EVALUATION)  # an expectation, not a draw
                weights = torch.full_like(weights, 1 / weights.shape[-1]) if even else weights
                total = total + price_of_edges(weights, price, EDGES_PER_NODE)
            return total

        with torch.no_grad():
            cost_of_even = max(float(cost(even=True)), 1e-12)
        return lambda: cost(even=False) / cost_of_even

    def validate(self, genotype: Genotype) -> None:
        if genotype.levels != self.places:
            raise UserError(f"genotype: field levels: expected {list(self.places)}, found {list(genotype.levels)}")
        for number, cell in enumerate(genotype.cells):
            read_cell([list(edge) for edge in cell.edges], f"genotype: cells[{number}]", self.operations)

    def describe(self, genotype: Genotype) -> Row:
        names = [operation for cell in genotype.cells for operation, _ in cell.edges]
        counts = {f"count_{name}": names.count(name) for name in self.operations}
        return counts | {"parameter_free": 0, "genotype": genotype.id, "argmax": genotype.words}

    def describe_logits(self, supernets: Supernets) -> Row:
        weights = torch.cat([supernet.weights(double=True) for supernet in supernets.values()])
        entropies = torch.special.entr(weights / weights.sum(-1, keepdim=True)).sum(-1)
        return {"entropy_edges": float(entropies.mean())}

    def named_weights(self, supernets: Supernets) -> dict[str, dict]:
        return {place: self._named(supernet.weights(double=True)) for place, supernet in supernets.items()}

    def _named(self, weights: Tensor) -> dict[str, dict[str, dict[str, float]]]:
        """Return "edges": the best operation's weight by node and state; "ops": all weights by edge and operation."""
        states = (*INPUTS, *(f"node {n + 1}" for n in range(NUM_NODES)))
        edges: dict[str, dict[str, float]] = {f"node {node + 1}": {} for node in range(NUM_NODES)}
        ops = {}
        for (node, source), row in zip(EDGES, weights[:, 1:].tolist(), strict=True):
            edges[f"node {node + 1}"][states[source]] = round(max(row), 5)
            ops[f"node {node + 1} of {states[source]}"] = dict(zip(self.operations, [round(w, 5) for w in row]))
        return {"edges": edges, "ops": ops}

    @property
    def sizes(self) -> tuple[int, ...]:
        num_ops = len(self.operations)
        return tuple(s for count in EDGES_PER_NODE for s in (count, count, num_ops, num_ops)) * len(self.places)

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("state", "state", "operation", "operation") * NUM_NODES * len(self.places)

    def allowed(self, prefix: Sequence[int]) -> tuple[bool, ...]:
        """Tell which values the next token may have: the second state of a node is later than the first."""
        size, token = self.sizes[len(prefix)], len(prefix) % 4
        if token == 0:
            return (True,) * (size - 1) + (False,)
        return tuple(value > prefix[-1] for value in range(size)) if token == 1 else (True,) * size

    def to_code(self, genotype: Genotype) -> tuple[int, ...]:
        pairs = [pair for cell in genotype.cells for pair in edge_pairs(cell.edges)]
        codes = ((a[1], b[1], self.operations.index(a[0]), self.operations.index(b[0])) for a, b in pairs)
        return tuple(token for code in codes for token in code)

    def from_code(self, code: Sequence[int]) -> Genotype:
        check_code(self, code)
        nodes = zip(*(iter(code),) * 4)
        return self._of_pairs([((self.operations[a], j), (self.operations[b], k)) for j, k, a, b in nodes])

    def _draw_cell(self, rng: random.Random) -> TowerCell:
        edges = []
        for count in EDGES_PER_NODE:
            pair = rng.choice(list(combinations(range(count), 2)))
            edges += [(rng.choice(self.operations), source) for source in pair]
        return TowerCell.of(edges)

    def _of_pairs(self, pairs: Sequence[tuple[Edge, Edge]]) -> Genotype:
        """Return the genotype of two edges per node, all nodes of all towers after one another."""
        edges = [edge for pair in pairs for edge in pair]
        size = 2 * NUM_NODES
        return self._genotype(TowerCell.of(edges[n : n + size]) for n in range(0, len(edges), size))

    def _genotype(self, cells: Iterable[TowerCell]) -> Genotype:
        return Genotype(INPUTS, self.places, self.channels, tuple(cells), space=self.name)


def random_genotype(space: TowerSpace, seed: int) -> Genotype:
    """Return the genotype that a seed draws uniformly: the random-search baseline (1902.07638)."""
    return replace(space.sample(random.Random(seed)), meta={"random_genotype": seed})

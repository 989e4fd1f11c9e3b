"""Derivation of a tower: from logits to a cell, and to the likeliest cells. Deterministic.

Each edge takes its best operation but `none`; each node the two edges whose best operation weighs most, the first on a
tie (FAD, 2007.12075, section 3.2, after DARTS). Edges are compared by their softmaxed weights, `none` in the
denominator; the public code compares raw logits ("raw"), though a constant added to a row changes no network.

Shapes: E edges, O operations.
"""

from collections.abc import Iterator
from itertools import combinations, product

from models.search.best_combinations import Ranked, best_first, log_weight
from models.search.fusion_cells.genotype import Names
from models.search.tower_cells.genotype import TowerCell
from models.search.tower_cells.operations import EDGES, NUM_NODES
from models.search.tower_cells.supernet import TowerSupernet

DERIVATIONS = ("softmax", "raw")
Scores = list[list[float]]  # (E, O): higher is better


def scores_of(supernet: TowerSupernet, derivation: str) -> Scores:
    """Return what derivation goes by: relaxed weights without those of `none`, or raw logits."""
    values = supernet.weights(double=True) if derivation == "softmax" else supernet.logits().detach().cpu().double()
    return values[:, 1:].tolist()


def derive_cell(scores: Scores, operations: Names) -> TowerCell:
    """Return the cell that the scores prefer."""
    edges = []
    for rows in _rows_by_node(scores):
        kept = sorted(rows, key=lambda source: -max(rows[source]))[:2]  # stable
        edges += [(operations[rows[source].index(max(rows[source]))], source) for source in kept]
    return TowerCell.of(edges)


def ranked_nodes(supernet: TowerSupernet, derivation: str, operations: Names, count: int) -> list[Ranked]:
    """Return the likeliest pairs of edges of each node with their log probabilities, up to a constant."""
    scores = scores_of(supernet, derivation)
    logs = [[log_weight(score) for score in row] for row in scores] if derivation == "softmax" else scores
    ranked = []
    for rows in _rows_by_node(logs):
        pairs = (
            (rows[j][a] + rows[k][b], ((operations[a], j), (operations[b], k)))
            for j, k in combinations(rows, 2)
            for a, b in product(range(len(operations)), repeat=2)
        )
        ranked.append(best_first(pairs)[:count])
    return ranked


def _rows_by_node(scores: Scores) -> Iterator[dict[int, list[float]]]:
    """Yield the rows of each node by source."""
    for node in range(NUM_NODES):
        yield {source: row for (of, source), row in zip(EDGES, scores, strict=True) if of == node}

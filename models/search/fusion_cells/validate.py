"""The rules of a space that every genotype of it keeps; a file may hold genotypes that only fit the streams."""

from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.genotype import CellGenotype, edge_pairs


def problem(cell: CellGenotype, space: CellSpace) -> str:
    """Return which rule a cell breaks, in words; "" where it keeps all."""
    if len(cell.steps) != space.steps or len(cell.edges) != 2 * space.steps or cell.concat != space.concat:
        return f"expected {space.steps} steps and concat {space.concat}, found {len(cell.steps)} and {cell.concat}"
    taken: list[tuple[int, int]] = []
    for step, (a, b) in enumerate(edge_pairs(cell.edges)):
        pair, names = (a[1], b[1]), {a[0], b[0]}
        if not may_read(space, step, pair, taken):
            return f"steps[{step}]: expected two states that the space allows behind {taken}, found {pair}"
        if not names <= set(space.edge_ops[1:]):
            return f"steps[{step}]: expected edges of {', '.join(space.edge_ops[1:])}, found {', '.join(names)}"
        taken.append(pair)
    for step, node in enumerate(cell.steps):
        pairs = [(a[1], b[1]) for a, b in edge_pairs(node.inner_edges)]
        inner = all(0 <= s < 2 + k for k, pair in enumerate(pairs) for s in pair) and all(a != b for a, b in pairs)
        if len(node.inner_steps) != space.node_steps or not inner or node.inner_concat != space.inner_concat:
            return f"steps[{step}]: expected {space.node_steps} inner steps of two states each, found {pairs}"
        if not set(node.inner_steps) <= set(space.op_names):
            return f"steps[{step}]: expected operations of {', '.join(space.op_names)}, found {node.inner_steps}"
    return ""


def may_read(space: CellSpace, step: int, pair: tuple[int, int], taken: list[tuple[int, int]]) -> bool:
    """Tell whether a step may read a pair of states, in this order: with one mixture per node the order says nothing,
    so that the lower state stands first."""
    in_order = pair[0] != pair[1] if space.pair_inputs else pair[0] < pair[1]
    return in_order and all(0 <= state < space.candidates(step) for state in pair) and space.allows(pair, taken)

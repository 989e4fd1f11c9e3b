"""Options of the space of fusion cells, which several tasks search. Imports no torch."""

from typing import Any

from models.search.fusion_cells.choices import spaces_of
from utils.args import Options, Parser
from utils.option_types import count, positive


def add_space_options(parser: Parser, *, rank: int, default: str, text: str, node_steps: int, node_multiplier: int):
    """Add the sizes of a fusion cell.

    Args:
        rank: of the features, which decides the spaces to choose from.
        default, text: of --space.
    """
    add = parser.group("search space").add_argument
    add("--space", choices=spaces_of(rank), default=default, help=f"{text} (%(default)s)")
    add("--steps", type=positive, default=2, help="fusion nodes of a cell (%(default)s)")
    add("--multiplier", type=positive, default=2, help="last states that a cell's output concatenates (%(default)s)")
    add("--node_steps", type=positive, default=node_steps, help="operations per fusion node (%(default)s)")
    text = "last inner states that a node concatenates (%(default)s)"
    add("--node_multiplier", type=positive, default=node_multiplier, help=text)
    text = "choices without parameters that a genotype may have; the weakest give way to others (any number)"
    add("--max_parameter_free", type=count, metavar="N", help=text)
    add("--num_keep_edges", type=positive, default=2, help="edges kept per node; only 2 is defined (%(default)s)")


def space_values(options: Options) -> dict[str, Any]:
    """Return the options of the space as keywords of `fusion_space`."""
    sizes = ("steps", "multiplier", "node_steps", "node_multiplier", "pair_inputs", "max_parameter_free")
    return {"name": options.space} | {name: options[name] for name in sizes}

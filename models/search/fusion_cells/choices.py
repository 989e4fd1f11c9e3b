"""The search spaces of fusion cells by name, and the names of a cell's inputs. Imports no torch: options read it.

fusion_v1 is the published space of NAS-DSF, bmnas that of BM-NAS. fusion_v2 is ours: convolutions on edges, more fusion
operations, and the taps of the two nearest other levels beside a level's own.
"""

from dataclasses import dataclass

MAPS, SEQUENCES = 4, 3  # ranks of features: (B, C, H, W) and (B, C, L)


@dataclass(frozen=True)
class Choices:
    """What a search chooses from in a space.

    Args:
        edges: operations of an edge of the cell, `none` first.
        fusions: operations of a node, in the order of their logits.
        neighbours: number of other levels whose last taps are inputs of a cell as well.
        rank: of the features that a cell fuses.
    """

    edges: tuple[str, ...]
    fusions: tuple[str, ...]
    neighbours: int
    rank: int = MAPS


PUBLISHED_FUSIONS = ("Sum", "ECAAttn", "ShuffleAttn", "ConcatConv")
OUR_FUSIONS = ("CBAM", "ECAGate", "SpatialAttn", "DotProductAttn", "GLU", "ChannelWeights", "ConcatConv3x3")
OUR_FUSIONS += ("ReliabilityGate",)
SPACES = {
    "fusion_v1": Choices(("none", "skip"), PUBLISHED_FUSIONS, 0),
    "fusion_v2": Choices(("none", "skip", "sep_conv_3x3", "dil_conv_3x3"), PUBLISHED_FUSIONS + OUR_FUSIONS, 2),
    "bmnas": Choices(("none", "skip"), ("Sum", "ScaleDotAttn", "LinearGLU", "ConcatFC"), 0, SEQUENCES),
}
PUBLISHED = "fusion_v1"
INNER_EDGES = ("none", "skip")  # of a node, in every space
SKIP = INNER_EDGES.index("skip")


def spaces_of(rank: int) -> list[str]:
    """Return the names of the spaces for features of a rank."""
    return [name for name, choices in SPACES.items() if choices.rank == rank]


def num_neighbours(space: str, num_levels: int) -> int:
    """Return how many other levels' last taps a level of a pyramid gets."""
    return min(SPACES[space].neighbours, num_levels - 1)


def level_inputs(inputs: tuple[str, ...], number: int, levels: tuple[str, ...]) -> tuple[str, ...]:
    """Return a cell's inputs with the taps of other levels named by these: MODALITY/nearN is MODALITY/P4, say."""
    nearest = nearest_levels(number, len(levels), len(levels))
    near = {f"near{n + 1}": levels[other] for n, other in enumerate(nearest)}
    parts = [name.partition("/") for name in inputs]
    return tuple(f"{modality}{slash}{near.get(rest, rest)}" for modality, slash, rest in parts)


def input_names(space: str, taps: tuple[str, ...], num_levels: int) -> tuple[str, ...]:
    """Return the names of a cell's inputs: the level's own taps, then the last ones of its nearest other levels.

    Args:
        taps: MODALITY/bifpnREPEAT, in order.
    """
    modalities = dict.fromkeys(name.partition("/")[0] for name in taps)
    near = [f"{m}/near{n + 1}" for n in range(num_neighbours(space, num_levels)) for m in modalities]
    return (*taps, *near)


def nearest_levels(level: int, num_levels: int, count: int) -> list[int]:
    """Return the levels nearest to one, the finer first where two are equally near."""
    levels = [other for other in range(num_levels) if other != level]
    return sorted(levels, key=lambda other: (abs(other - level), other))[:count]


def is_neighbour(name: str) -> bool:
    """Tell whether an input of a cell is a tap of another level."""
    return name.partition("/")[2].startswith("near")

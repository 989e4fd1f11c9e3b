"""The operations of the towers' search spaces, in one table. Imports no torch: options read it.

FAD (2007.12075), section 3.2: an operation is a chain of layers, one to three of a family, then perhaps a dilated one.
Names, chains, columns of the logits, shared edges and found operations all follow from the table. fad10 are the ten
operations that were released; fad12 adds dilation 3, as the paper lists it.
"""

Chain = tuple[str, ...]  # kinds of layers: "std", "sin", "dil", "dilr3"

FAMILIES = {"std": "std_conv_3x3", "sin": "sinSep_conv_3x3"}
ENDINGS = {
    "": (1, ()),
    "+dil_conv_3x3_r3": (1, ("dilr3",)),
    "+dil_conv_3x3": (1, ("dil",)),
    "_x2": (2, ()),
    "_x2+dil_conv_3x3": (2, ("dil",)),
    "_x3": (3, ()),
}
CHAINS: dict[str, Chain] = {
    name + ending: (kind,) * count + last
    for kind, name in FAMILIES.items()
    for ending, (count, last) in ENDINGS.items()
}
PUBLISHED = "fad10"
SPACES: dict[str, tuple[str, ...]] = {
    PUBLISHED: tuple(name for name, chain in CHAINS.items() if "dilr3" not in chain),
    "fad12": tuple(CHAINS),
}
NUM_INPUTS, NUM_NODES = 2, 3  # of a cell
EDGES = tuple((node, source) for node in range(NUM_NODES) for source in range(NUM_INPUTS + node))  # rows of the logits

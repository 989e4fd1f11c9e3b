"""The search strategies, one entry each. Imports no torch: options read it.

All strategies share the supernet and the number of training samples. Those that learn logits run engine/bilevel.py,
`random` and `evolution` run engine/sampled.py.
"""

from dataclasses import dataclass

PARTIAL = 4  # K of PC-DARTS
COSTS = ("macs", "params", "latency")  # names of the measures of models/search/costs.py


@dataclass(frozen=True)
class Strategy:
    """How a strategy differs from first-order DARTS.

    Args:
        relaxation: name in RELAXATIONS (relaxations.py).
        penalty: name in PENALTIES (penalties.py) of a term that is added to the loss of the logits, or "".
        second_order: whether logits follow the second-order gradient of DARTS.
        partial: mixtures act on one in `partial` channels.
        searcher: "gradient", which learns logits; "random", which trains each drawn genotype on its own; or
            "evolution", which trains a drawn genotype per step, all on the weights of the supernet.
    """

    relaxation: str = "softmax"
    penalty: str = ""
    second_order: bool = False
    partial: int = 1
    searcher: str = "gradient"


STRATEGIES = {
    "darts": Strategy(),
    "darts2": Strategy(second_order=True),
    "gdas": Strategy("gumbel"),
    "pcdarts": Strategy(partial=PARTIAL),
    "drnas": Strategy("dirichlet", penalty="pull_to_start"),
    "fair": Strategy("sigmoid", penalty="zero_one"),
    "sdarts-rs": Strategy("noisy_softmax"),
    "random": Strategy(searcher="random"),
    "evolution": Strategy(searcher="evolution"),
}

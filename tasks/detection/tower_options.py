"""Options of searched towers, of whichever detector they are on. Imports no torch."""

from models.search.tower_cells.operations import PUBLISHED, SPACES
from utils.args import Parser
from utils.option_types import positive


def add_box_loss(parser: Parser) -> None:
    """Add the loss of FCOS's boxes."""
    add = parser.group("network").add_argument
    text = "loss of boxes of FCOS: generalised IoU, minus the logarithm of IoU, or 1 - IoU (giou)"
    add("--box_loss", choices=["giou", "iou", "linear_iou"], default="giou", help=text)


def add_cell_options(parser: Parser, section: str, channels: int | None = 96, towers: str = "both") -> None:
    """Add what searched towers are made of; `channels`, `towers`: defaults, where None follows from C."""
    add = parser.group("towers").add_argument
    text = "operations of a tower: the ten that were released, or the twelve of the paper (fad10)"
    add("--tower_space", choices=list(SPACES), default=PUBLISHED, help=text)
    text = "which are cells; the other is plain"
    text += " (both)" if towers == "both" else "; with --head fcos both (none)"
    add("--towers", choices=dict.fromkeys(("both", "box", "cls", towers)), default=towers, help=text)
    text = f"channels inside a cell ({channels or '3/8 of --C, with --head fcos'})"
    add("--head_channels", type=positive, default=channels, help=text)
    if section == "search":
        text = "weights that operations are compared by: softmax of an edge, or logits, as the public code (softmax)"
        add("--derive", choices=["softmax", "raw"], default="softmax", help=text)
        add("--no_decouple", action="store_true", help="leave out the 1x1 convolutions of shared edges (off)")
        return
    add("--head_cells", type=positive, default=2, help="cells of a tower, one behind the other (2)")

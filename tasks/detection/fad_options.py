"""Options of FAD: published names and defaults, and ours. Imports no torch.

Options that all detectors share: tasks/detection/options.py; that all tasks share: commands/options.py.
"""

from tasks.detection.options import ABSENT, add_data_options
from tasks.detection.tower_options import add_box_loss, add_cell_options
from utils.args import Parser
from utils.option_types import positive

# Entries of models/detection/tables.py that the detector consists of.
FRAME = {"encoder": "fpn", "neck": "none"}
HEADS = ("fcos", "retinanet")
# Values of options that a command does not have.
UNREAD = dict.fromkeys(("box_fusion", "partner_exp_dir", "robustness", "match_macs"))
BASELINES = ("fcos", "fcos_wired")
LR = {"search": 4e-3, "found": 1e-2}  # published


def add_options(parser: Parser, section: str) -> None:
    """Add the options of "pretrain", "search" or "found"."""
    parser.set_defaults(**ABSENT, **FRAME, **UNREAD, backbone="resnet50", checkpointdir="checkpoints/fad")
    size, in_words = ((800, 1344), "800x1344") if section == "found" else ((416, 704), "416x704")
    add_data_options(parser, dataset="voc2012", size=size, size_in_words=in_words)
    parser.set_defaults(normalization="encoder", canvas="oriented")
    add = parser.group("network").add_argument
    add("--camera", choices=["rgb", "thermal"], default="rgb", help="whose pictures are read (rgb)")
    add("--head", choices=HEADS, default="fcos", help="head behind the towers (fcos)")
    add_box_loss(parser)
    add("--C", type=positive, default=256, help="channels of FPN, towers and head (256)")
    if section == "pretrain":
        parser.set_defaults(towers="plain", baseline="fcos")
        return
    add_cell_options(parser, section)
    if section == "found":
        add_found_options(parser)
    rates = {"eta_max": LR[section], "stream_lr": LR[section]}
    parser.set_defaults(**rates, recipe="sgd_steps", biases_apart=True, weight_decay=1e-4)


def add_found_options(parser: Parser) -> None:
    """Add plain towers in place of searched ones, and where a test writes."""
    add = parser.group("towers").add_argument
    text = "train plain towers of four convolutions, as FCOS; or those whose class tower reads the box tower (none)"
    add("--baseline", choices=list(BASELINES), help=text)
    text = "widen plain towers to the tower parameters of this search run or genotype, within 10 %% (none)"
    add("--match_parameters", metavar="PATH", help=text)
    text = "widen plain towers to its multiply-accumulates, likewise (none)"
    add("--match_macs", metavar="PATH", help=text)
    text = "with --eval_exp_dir: write the detections (COCO JSON) here as well (none)"
    add("--results", metavar="FILE", help=text)

"""Options of detection: published names and defaults of NAS-DSF, and ours. Imports no torch.

Options that all tasks share: commands/options.py.
"""

import argparse
from pathlib import Path

from datasets.detection.names import CANVASES, DATA_SETS, KINDS, dataset_name
from models.search.fusion_cells.choices import MAPS, PUBLISHED
from tasks.detection.tower_options import add_box_loss, add_cell_options
from tasks.fusion_options import add_space_options
from utils.args import Parser
from utils.errors import near
from utils.option_types import above_zero, factor, image_size, not_negative, positive, probability, share

# The keys of the table of baselines (models/detection/baselines.py), and those of both streams.
FUSIONS = ("mean", "sum", "concat_conv", "eca_attn", "shuffle_attn")
BASELINES = ("thermal", "rgb", "early", "rgb_twice", *FUSIONS)
ONNX = "onnx:"  # as in models/detection/baselines.py
# Entries of models/detection/tables.py that the detector consists of.
FRAME = {"encoder": "bifpn", "neck": "none", "towers": "none", "head": "efficientdet"}
# Values of options that a command does not have.
ABSENT = {"widen": None, "modality_dropout": 0.0, "match_parameters": None}
ABSENT |= dict.fromkeys(("onnx_modality", "onnx_description", "eval_dataset"))


def baseline(text: str) -> str:
    """Return what --baseline may be: a name, or an ONNX file."""
    if text in BASELINES or (text.startswith(ONNX) and Path(text.removeprefix(ONNX)).name):
        return text
    expected = f"expected {', '.join(BASELINES)} or {ONNX}FILE"
    raise argparse.ArgumentTypeError(f"{expected}, found {text!r}{near(text, BASELINES)}")


baseline.metavar = "NAME|onnx:FILE"


def add_options(parser: Parser, section: str) -> None:
    """Add the options of "pretrain", "search" or "found"."""
    parser.set_defaults(**FRAME, **ABSENT)
    add_data_options(parser)
    add_detector_options(parser)
    if section == "pretrain":
        add_pretrain_options(parser)
        return
    add_head_options(parser, section)
    text = "fusion_v1, as published; or fusion_v2: convolutions on edges, more fusions, taps of neighbouring levels, "
    text += "docs/search.md"
    add_space_options(parser, rank=MAPS, default=PUBLISHED, text=text, node_steps=1, node_multiplier=3)
    parser.group("search space").add_argument("--L", type=int, default=8, help="published option of no effect here (8)")
    text = "what is kept: the taps of every BiFPN repeat, or the encoder's maps, a tenth of the size, from which the "
    text += "BiFPN is computed anew (taps; with auto, what fits)"
    parser.group("cached features").add_argument("--cache_level", choices=["taps", "encoder"], help=text)
    text = "learn and choose on the same N training pairs, not mirrored: what cannot learn these has a fault (off)"
    parser.group("check").add_argument("--overfit", type=positive, metavar="N", help=text)
    if section == "found":
        parser.set_defaults(epochs=50, drpt=0.2, weight_decay=3e-4)  # the public code decays by 1e-4 in both phases
        add_found_options(parser)


def add_head_options(parser: Parser, section: str) -> None:
    """Add the head, and the towers that one without its own is behind."""
    add = parser.group("network").add_argument
    text = "head: EfficientDet's, pretrained; or FCOS's, new, behind towers that are plain, searched or of a genotype, "
    add("--head", choices=["efficientdet", "fcos"], default="efficientdet", help=text + "docs/fad.md (efficientdet)")
    add_box_loss(parser)
    add_cell_options(parser, section, channels=None, towers="none")


def add_data_options(
    parser: Parser, dataset: str = "flir_aligned", size: tuple[int, int] = (768, 768), size_in_words: str = "768"
) -> None:
    """Add the options of the data; the defaults are published."""
    add = parser.group("data").add_argument
    text = f"how DIR is laid out: {', '.join(DATA_SETS)}, or a YAML file that says so, docs/own_data.md ({dataset})"
    add("--dataset", type=dataset_name, default=dataset, metavar="NAME|FILE", help=text)
    text = "cross-validation: all lists together are cut into K folds of neighbouring pairs, docs/train.md; without "
    text += "--fold one run per fold, then mean and spread (the lists)"
    add("--folds", type=positive, metavar="K", help=text)
    text = "with --folds: the fold that is the test list; the others are the training list (none)"
    add("--fold", type=positive, metavar="I", help=text)
    add("--num-classes", type=positive, help="class channels of the head (from the data; published 90)")
    text = f"input, N or HxW, in pixels ({size_in_words}, as published)"
    add("--image_size", type=image_size, default=size, help=text)
    text = (
        "oriented: pictures that are higher than wide get --image_size transposed, batches are of one orientation, and "
    )
    text += "what is padded is 0 after normalisation, docs/train.md (%(default)s)"
    add("--canvas", choices=CANVASES, default=CANVASES[0], help=text)
    text = "with --canvas oriented: the short side of a training batch in pixels, drawn evenly from LO to HI (that of "
    text += "--image_size)"
    add("--short_sides", type=positive, nargs=2, metavar=("LO", "HI"), help=text)
    add("--hflip", type=share, default=0.5, help="probability of a mirrored training pair (0.5)")
    text = "training pairs are scaled by a factor between, then cropped or padded (1 1: off)"
    add("--scale_jitter", type=float, nargs=2, default=(1.0, 1.0), metavar=("LO", "HI"), help=text)
    text = "in place of scale_jitter: training pairs are scaled by one of these factors, 0.1 to 10, drawn for each, "
    text += "and cropped or padded around the centre; features of all can be cached (none)"
    add("--scales", type=factor, nargs="+", metavar="S", help=text)
    add("--photometric", type=not_negative, default=0.0, help="strength of brightness and contrast changes (0: off)")
    add("--no-prefetcher", action="store_true", help="published flag without effect here (off)")


def add_detector_options(parser: Parser) -> None:
    parser.set_defaults(backbone="efficientnetv2_rw_t", checkpointdir="checkpoints/flira")
    add = parser.group("network").add_argument
    add("--C", type=positive, default=128, help="channels of BiFPN, fusion and head (128)")
    add("--num_input_nodes", type=positive, help="taps per level, 2 x BiFPN repeats (from the streams; published 10)")
    add("--fusion_levels", type=positive, help="pyramid levels from P3 on (from the streams; published 5)")
    add("--anchor_scale", type=above_zero, default=4.0, help="side of the smallest anchor in strides (4)")
    text = "share of a batch in the running statistics of BiFPN and head norms (0.01, published)"
    add("--norm_momentum", type=probability, default=0.01, help=text)
    text = "streams' file in checkpointdir (%(default)s)"
    add("--fullbb_path", default="Att_Fusion_Net_Pretrained_Best.pth.tar", help=text)
    add("--head_path", default="Head_Net_Pretrained_Best.pth.tar", help="head's file in checkpointdir (%(default)s)")


def add_pretrain_options(parser: Parser) -> None:
    parser.set_defaults(epochs=50)
    add = parser.group("pretraining").add_argument
    text = "which detectors to train; early: one of both images stacked; thermal and rgb may run side by side (both)"
    add("--modality", choices=["thermal", "rgb", "both", "early"], default="both", help=text)
    add("--head_epochs", type=positive, default=10, help="epochs of the shared head, streams frozen (10)")
    text = "probability of leaving out an encoder block, stochastic depth (0.2)"
    add("--drop_path", type=probability, default=0.2, help=text)
    text = "start instead from a COCO-pretrained EfficientDet's state dict, or from another checkpointdir of ours "
    text += "(from ImageNet weights)"
    add("--init", metavar="PATH", help=text)


def add_found_options(parser: Parser) -> None:
    add = parser.group("found network").add_argument
    text = "train a hand-made fusion of the last taps, one modality, both stacked (early), or RGB fused with itself "
    text += f"({', '.join(BASELINES)}); or score the detector of an ONNX file, of which nothing is trained, "
    add("--baseline", type=baseline, help=text + "docs/onnx_detectors.md (none)")
    text = "with --baseline onnx:FILE: the sensor whose pictures it reads (rgb; of tools.export's files their own)"
    add("--onnx_modality", choices=["rgb", "thermal"], help=text)
    text = "with --baseline onnx:FILE: YAML file that describes it (FILE.yaml beside it, where there is one)"
    add("--onnx_description", metavar="FILE", help=text)
    text = f"widen {', '.join(FUSIONS)} to the fusion parameters of this search run or genotype, within 10 %% (none)"
    add("--match_parameters", metavar="PATH", help=text)
    text = "with --head fcos: widen plain towers to the multiply-accumulates of those of this run or genotype (none)"
    add("--match_macs", metavar="PATH", help=text)
    text = "share of the training pairs, drawn anew in each epoch, of which one sensor, drawn evenly, gives a black "
    text += "picture; for fusions of two streams (0)"
    add("--modality_dropout", type=probability, default=0.0, metavar="P", help=text)
    text = "with --eval_exp_dir: write the detections (COCO JSON) here as well (none)"
    add("--results", metavar="FILE", help=text)
    text = "with --eval_exp_dir: test with sensors dead, corrupted and shifted as well, into robustness.json and .png, "
    text += f"docs/robustness.md; kinds: {', '.join(KINDS)} (all, where none is named)"
    add("--robustness", nargs="*", choices=KINDS, metavar="KIND", help=text)
    text = (
        "with --eval_exp_dir: DIR is another set, laid out as for --dataset; its classes are taken by name, those that "
    )
    text += "it does not label are not scored (the set of the run)"
    add("--eval_dataset", type=dataset_name, metavar="NAME|FILE", help=text)
    text = "fuse the boxes of --eval_exp_dir and --partner_exp_dir, untrained: suppression, weighted boxes fusion "
    add("--box_fusion", choices=["nms", "wbf"], help=text + "(none)")
    add("--partner_exp_dir", metavar="RUN", help="with --box_fusion: the second training run (none)")

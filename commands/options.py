"""The options of the three commands: published names and defaults (specs: command line), and ours.

`--help` is the manual: unit, default, published value. Parsing and configs: args.py.
"""

import argparse
from collections.abc import Callable

from datasets.detection.corruptions import KINDS
from datasets.detection.registry import LOCATE, dataset_name
from engine.checkpointer import interval
from models.detection.baselines import BASELINES, FUSIONS
from models.search.fusion_cells.choices import MAPS, PUBLISHED, spaces_of
from models.search.strategies import COSTS, STRATEGIES
from utils.args import Parser

RECIPE_NAMES = ("adam_restarts", "sgd_steps", "sgd_cosine")  # of engine/recipes.py, for search and training


def number(convert: Callable[[str], float], name: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return an argparse type that says what it expected: "expected a whole number from 1, found '-3'"."""

    def read(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"expected {name}, found {text!r}")
        return value

    read.metavar = "N" if convert is int else "X"
    return read


positive = number(int, "a whole number from 1", lambda v: v >= 1)
count = number(int, "a whole number from 0", lambda v: v >= 0)
seed = number(int, "a whole number from 0 to 4294967295", lambda v: 0 <= v < 2**32)
not_negative = number(float, "a number from 0", lambda v: 0 <= v < float("inf"))
above_zero = number(float, "a number above 0", lambda v: 0 < v < float("inf"))
share = number(float, "a number from 0 to 1", lambda v: 0 <= v <= 1)
probability = number(float, "a number from 0 to below 1", lambda v: 0 <= v < 1)


def image_size(text: str) -> tuple[int, int]:
    """Read `256` (square) or `256x320` (height x width)."""
    sides = [int(side) if side.isdecimal() else 0 for side in text.split("x")]
    if len(sides) > 2 or min(sides) < 32:
        raise argparse.ArgumentTypeError(f"expected N or HxW, each of at least 32 pixels, found {text!r}")
    return sides[0], sides[-1]


def add_data_options(parser: Parser) -> None:
    group = parser.add_argument_group("data")
    add = group.add_argument
    add("data", metavar="DIR", nargs="?", help="folder of the data set; with --resume that of the run, unless given")
    text = f"how DIR is laid out: {', '.join(LOCATE)}, or a YAML file that says so, docs/own_data.md (flir_aligned)"
    add("--dataset", type=dataset_name, default="flir_aligned", metavar="NAME|FILE", help=text)
    add("--num-classes", type=positive, help="class channels of the head (from the data; published 90)")
    add("--image_size", type=image_size, default=(768, 768), help="input, N or HxW, in pixels (768, as published)")
    add("--split_seed", type=count, default=0, help="seed of the cut into train, arch and val (0)")
    add(
        "--paper-protocol",
        action="store_true",
        help="published protocol: test serves as arch and val; results say so (off)",
    )
    add("--hflip", type=share, default=0.5, help="probability of a mirrored training pair (0.5)")
    add(
        "--scale_jitter",
        type=float,
        nargs=2,
        default=(1.0, 1.0),
        metavar=("LO", "HI"),
        help="training pairs are scaled by a factor between, then cropped or padded (1 1: off)",
    )
    add("--photometric", type=not_negative, default=0.0, help="strength of brightness and contrast changes (0: off)")
    text = "pairs that training may leave out, in all, since a file of them cannot be read; a test leaves out none (0)"
    add("--max_bad_files", type=count, default=0, metavar="N", help=text)
    add("--workers", type=count, default=4, help="loader processes (4, as published)")
    add("--pin-mem", action="store_true", help="pin loader memory, for CUDA (off)")
    add("--no-prefetcher", action="store_true", help="published flag without effect here (off)")


def add_model_options(parser: Parser) -> None:
    group = parser.add_argument_group("detector")
    add = group.add_argument
    add("--backbone", default="efficientnetv2_rw_t", help="timm encoder with strides 8, 16, 32 (efficientnetv2_rw_t)")
    add("--C", type=positive, default=128, help="channels of BiFPN, fusion and head (128)")
    add("--num_input_nodes", type=positive, help="taps per level, 2 x BiFPN repeats (from the streams; published 10)")
    add("--fusion_levels", type=positive, help="pyramid levels from P3 on (from the streams; published 5)")
    add("--anchor_scale", type=above_zero, default=4.0, help="side of the smallest anchor in strides (4)")
    text = "share of a batch in the running statistics of BiFPN and head norms (0.01, published)"
    add("--norm_momentum", type=probability, default=0.01, help=text)
    add("--checkpointdir", default="checkpoints/flira", help="folder of pretrained weights (checkpoints/flira)")
    add(
        "--fullbb_path",
        default="Att_Fusion_Net_Pretrained_Best.pth.tar",
        help="streams' file in checkpointdir (Att_Fusion_Net_Pretrained_Best.pth.tar)",
    )
    add(
        "--head_path",
        default="Head_Net_Pretrained_Best.pth.tar",
        help="head's file in checkpointdir (Head_Net_Pretrained_Best.pth.tar)",
    )


def add_run_options(parser: Parser) -> None:
    group = parser.add_argument_group("run")
    add = group.add_argument
    add(
        "--config",
        metavar="FILE",
        help="YAML of option names; sections pretrain, search, found; typed options win (none)",
    )
    add("--seed", type=seed, default=2, help="seed of every random draw but the split's (2)")
    add("--save", default="EXP", help="name in the run folder's name (EXP)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    add("--amp", action="store_true", help="bfloat16 autocast (off)")
    text = "torch.compile the network: minutes of compiling at the start, faster steps then (off)"
    add("--compile", action="store_true", help=text)
    text = "one process per GPU of this machine; for anything else torchrun, docs/many_devices.md (off)"
    add("--parallel", action="store_true", help=text)
    add("--wandb", action="store_true", help="log to Weights & Biases; offline where there is no key (off)")
    add("--no_report", action="store_true", help="leave out report.html of the run folder (written)")
    add("--dry_run", action="store_true", help="build everything, print sizes and steps, and leave (off)")
    text = "refuse operations that may give other digits on each run of a GPU; a CPU has none of them (off)"
    add("--deterministic", action="store_true", help=text)
    add("--clip_grad", type=not_negative, default=10.0, help="largest gradient norm (10; 0: no limit)")
    text = "batches whose gradients are averaged for one step: batchsize x N pairs in the memory of one batch (1)"
    add("--accum", type=positive, default=1, metavar="N", help=text)
    text = "steps that may be skipped, in all, since their loss or gradient is not finite; their pairs are named (10)"
    add("--max_bad_steps", type=count, default=10, metavar="N", help=text)
    text = "save the run every N steps, or after a time as 30s, 10m, 2h, beside the end of each epoch (10m)"
    add("--checkpoint_every", type=interval, default="10m", metavar="N|TIME", help=text)
    text = "go on with a run that was stopped: its folder, or auto: the newest with this --save, else a new one (none)"
    add("--resume", metavar="auto|RUN", help=text)
    add("--allow_split_mismatch", action="store_true", help="take checkpoints of another split; results say so (off)")


def add_space_options(parser: Parser) -> None:
    group = parser.add_argument_group("search space")
    add = group.add_argument
    text = "fusion_v1, as published; or fusion_v2: convolutions on edges, more fusions, taps of neighbouring levels, "
    text += "docs/search.md (fusion_v1)"
    add("--space", choices=spaces_of(MAPS), default=PUBLISHED, help=text)
    add("--steps", type=positive, default=2, help="fusion nodes per level (2)")
    add("--multiplier", type=positive, default=2, help="last states that a level's output concatenates (2)")
    add("--node_steps", type=positive, default=1, help="operations per fusion node (1)")
    add("--node_multiplier", type=positive, default=3, help="last inner states that a node concatenates (3)")
    text = "choices without parameters that a genotype may have; the weakest give way to others (any number)"
    add("--max_parameter_free", type=count, metavar="N", help=text)
    add("--num_keep_edges", type=positive, default=2, help="edges kept per node; only 2 is defined (2)")
    add("--L", type=int, default=8, help="published option of no effect here (8)")


def add_weight_options(
    parser: Parser,
    epochs: int,
    dropout: float,
    weight_decay: float,
    batchsize: int = 16,
    eta_max: float = 3e-3,
    cycle: int = 5,
    note: str = "; the public code used 1e-4 in both phases",
) -> None:
    group = parser.add_argument_group("weights")
    add = group.add_argument
    add("--batchsize", type=positive, default=batchsize, help=f"examples per step ({batchsize})")
    add("--epochs", type=positive, default=epochs, help=f"epochs ({epochs})")
    add("--drpt", type=probability, default=dropout, help=f"dropout in the fusion nodes ({dropout:g})")
    text = f"highest learning rate of a cosine cycle, Adam ({eta_max:g})"
    add("--eta_max", type=not_negative, default=eta_max, help=text)
    add("--eta_min", type=not_negative, default=1e-6, help="lowest learning rate of a cosine cycle (1e-6)")
    add("--Ti", type=positive, default=cycle, help=f"epochs of the first cosine cycle ({cycle})")
    add("--Tm", type=positive, default=2, help="factor from cycle to cycle (2)")
    add("--weight_decay", type=not_negative, default=weight_decay, help=f"weight decay ({weight_decay:g}{note})")
    add_recipe_options(group)
    add("--seeds", type=seed, nargs="+", metavar="N", help="one run per seed, then mean and spread (the one of --seed)")


def add_recipe_options(group: argparse._ArgumentGroup) -> None:
    """Add the choice of optimiser and schedule, and the values of recipes other than the published one."""
    add = group.add_argument
    text = "optimiser and schedule: Adam with cosine restarts, or SGD with steps or one cosine (adam_restarts)"
    add("--recipe", choices=RECIPE_NAMES, default=RECIPE_NAMES[0], help=text)
    text = "of sgd_steps: epochs, also fractions, after which the learning rate is a tenth (none)"
    add("--marks", type=above_zero, nargs="+", metavar="EPOCH", help=text)
    add("--momentum", type=probability, default=0.9, help="factor of the last step in the sgd recipes (0.9)")
    add("--warmup_steps", type=count, default=0, metavar="N", help="steps of a lower rate in the sgd recipes (0)")
    text = "rate in these steps: rising from a third, or a third (linear)"
    add("--warmup_kind", choices=("linear", "constant"), default="linear", help=text)
    add("--biases_apart", action="store_true", help="biases learn at twice the rate, without weight decay (off)")


def add_overfit_option(parser: Parser) -> None:
    text = "learn and choose on the same N training pairs, not mirrored: what cannot learn these has a fault (off)"
    parser.add_argument_group("check").add_argument("--overfit", type=positive, metavar="N", help=text)


def add_pretrain_options(parser: Parser) -> None:
    group = parser.add_argument_group("pretraining")
    add = group.add_argument
    text = "which detectors to train; early: one of both images stacked; thermal and rgb may run side by side (both)"
    add("--modality", choices=["thermal", "rgb", "both", "early"], default="both", help=text)
    add("--batchsize", type=positive, default=16, help="pairs per step (16)")
    add("--epochs", type=positive, default=50, help="epochs per modality (50)")
    add("--head_epochs", type=positive, default=10, help="epochs of the shared head, streams frozen (10)")
    add("--lr", type=not_negative, default=1e-3, help="highest learning rate, AdamW, one cycle (1e-3)")
    add("--weight_decay", type=not_negative, default=1e-4, help="weight decay (1e-4)")
    add("--warmup", type=probability, default=0.1, help="share of the steps in which the learning rate rises (0.1)")
    add(
        "--drop_path",
        type=probability,
        default=0.2,
        help="probability of leaving out an encoder block, stochastic depth (0.2)",
    )
    add("--no-imagenet", action="store_true", help="start from random weights, not timm's ImageNet weights (off)")
    text = "start instead from a COCO-pretrained EfficientDet's state dict, or from another checkpointdir of ours "
    text += "(from ImageNet weights)"
    add("--init", metavar="PATH", help=text)


def add_search_options(parser: Parser) -> None:
    group = parser.add_argument_group("search")
    add = group.add_argument
    add("--arch_learning_rate", type=not_negative, default=3e-4, help="learning rate of the logits, Adam (3e-4)")
    add("--arch_weight_decay", type=not_negative, default=1e-3, help="weight decay of the logits (1e-3)")
    add("--alternate", choices=["epoch", "step"], default="epoch", help="weights and logits in turn (epoch)")
    text = "docs/search.md; as published: darts, darts2 (second order) (darts)"
    add("--strategy", choices=list(STRATEGIES), default="darts", help=text)
    add("--arch_warmup", type=count, default=0, metavar="N", help="epochs in which the logits rest (0)")
    text = "the supernet gives a node two mixtures of states, as the found network has it, not one twice (off)"
    add("--pair_inputs", action="store_true", help=text)
    text = "genotypes of --strategy random, each trained for epochs / N (one per epoch)"
    add("--candidates", type=positive, metavar="N", help=text)
    add("--population", type=positive, default=10, help="of --strategy evolution: the youngest that breed (10)")
    add("--tournament", type=positive, default=4, help="of --strategy evolution: drawn, the fittest breeds (4)")
    add("--rounds", type=positive, default=40, help="of --strategy evolution: genotypes rated on val (40)")
    group = parser.add_argument_group("collapse")
    add = group.add_argument
    add("--hessian", action="store_true", help="log the dominant eigenvalue of the logits' Hessian per epoch (off)")
    text = "end the search when that eigenvalue rises, or when too many choices have no parameters (never)"
    add("--early_stop", choices=["eigenvalue", "parameter_free"], help=text)
    group = parser.add_argument_group("from supernet to genotype")
    add = group.add_argument
    text = "take the strongest operations, or those whose removal costs the supernet most on val (argmax)"
    add("--select", choices=["argmax", "perturb"], default="argmax", help=text)
    text = "train the N likeliest genotypes briefly and take the best on val (1: do not)"
    add("--topk", type=positive, default=1, metavar="N", help=text)
    add("--topk_epochs", type=positive, default=1, metavar="N", help="epochs of each of these (1)")
    text = "these begin where the search began, or on the supernet's weights, all then on the same batches (start)"
    add("--topk_weights", choices=["start", "supernet"], default="start", help=text)
    group = parser.add_argument_group("cost")
    add = group.add_argument
    text = "weight of the expected cost in the loss of the logits, 1 being the cost of an even mixture (0)"
    add("--lambda_cost", type=not_negative, default=0.0, metavar="L", help=text)
    text = "what costs: multiply-accumulates, parameters, or seconds measured here per operation (macs)"
    add("--cost", choices=list(COSTS), default="macs", help=text)


def add_cache_options(parser: Parser, levels: bool = True) -> None:
    """Add the options of cached features; `levels`: several kinds can be kept."""
    group = parser.add_argument_group("cached features")
    add = group.add_argument
    text = (
        "keep what the frozen streams make of each image instead of computing it in every epoch: in memory, in files "
    )
    text += "below cache_dir that later runs take up, or where there is room (off)"
    add("--cache_features", choices=["off", "ram", "disk", "auto"], default="off", help=text)
    if levels:
        text = "what is kept: the taps of every BiFPN repeat, or the encoder's maps, a tenth of the size, from which "
        text += "the BiFPN is computed anew (taps; with auto, what fits)"
        add("--cache_level", choices=["taps", "encoder"], help=text)
    text = "type of what is kept; the half types take half the room and change the results' last digits (float32)"
    add("--cache_dtype", choices=["float32", "float16", "bfloat16"], default="float32", help=text)
    add("--cache_dir", default="cache", metavar="DIR", help="folder of the files; delete it at any time (cache)")


def add_found_options(parser: Parser) -> None:
    group = parser.add_argument_group("found network")
    add = group.add_argument
    add("--search_exp_dir", metavar="RUN", help="search run whose genotype.json is trained (none)")
    add("--eval_exp_dir", metavar="RUN", help="run whose best.pt is tested; nothing is trained (none)")
    add("--genotype", metavar="FILE", help="train this genotype, JSON or public text form (none)")
    text = (
        "train a hand-made fusion of the last taps, one modality, both stacked (early), or RGB fused with itself (none)"
    )
    add("--baseline", choices=list(BASELINES), help=text)
    text = f"widen {', '.join(FUSIONS)} to the fusion parameters of this search run or genotype, within 10 %% (none)"
    add("--match_parameters", metavar="PATH", help=text)
    add("--random_genotype", type=seed, metavar="SEED", help="train a genotype drawn uniformly from this seed (none)")
    text = "share of the training pairs, drawn anew in each epoch, of which one sensor, drawn evenly, gives a black "
    text += "picture; for fusions of two streams (0)"
    add("--modality_dropout", type=probability, default=0.0, metavar="P", help=text)
    add("--results", metavar="FILE", help="with --eval_exp_dir: write the detections (COCO JSON) here as well (none)")
    add("--eval_part", choices=["test", "val"], default="test", help="with --eval_exp_dir: part to test on (test)")
    text = "with --eval_exp_dir: test with sensors dead, corrupted and shifted as well, into robustness.json and .png, "
    text += f"docs/robustness.md; kinds: {', '.join(KINDS)} (all, where none is named)"
    add("--robustness", nargs="*", choices=KINDS, metavar="KIND", help=text)
    text = (
        "learning rate of the streams' encoders and BiFPNs, trained along; statistics of their norms rest (0: frozen)"
    )
    add("--stream_lr", type=not_negative, default=0.0, metavar="LR", help=text)
    text = (
        "fuse the boxes of --eval_exp_dir and --partner_exp_dir, untrained: suppression, weighted boxes fusion (none)"
    )
    add("--box_fusion", choices=["nms", "wbf"], help=text)
    add("--partner_exp_dir", metavar="RUN", help="with --box_fusion: the second training run (none)")


def make_parser(section: str) -> Parser:
    """Return the parser of "pretrain", "search" or "found"."""
    parser = Parser(DESCRIPTIONS[section], usage="%(prog)s DIR [options]")
    add_data_options(parser)
    add_model_options(parser)
    if section == "pretrain":
        add_pretrain_options(parser)
    else:
        add_weight_options(parser, *{"search": (30, 0.0, 1e-4), "found": (50, 0.2, 3e-4)}[section])
        add_overfit_option(parser)
        add_space_options(parser)
        {"search": add_search_options, "found": add_found_options}[section](parser)
        add_cache_options(parser)
    add_run_options(parser)
    return parser


DESCRIPTIONS = {
    "pretrain": "Train one detector per modality and the shared head; writes checkpointdir.",
    "search": "Search the fusion architecture on frozen streams; writes RUN/genotype.json.",
    "found": "Train the found network or a baseline, or test a trained one (--eval_exp_dir).",
}

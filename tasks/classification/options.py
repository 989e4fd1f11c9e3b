"""The options of the classification commands: published names and defaults (2104.09379, section 4), and ours."""

from functools import partial

from commands.options import (
    add_cache_options,
    add_run_options,
    add_search_options,
    add_weight_options,
    count,
    not_negative,
    positive,
    probability,
    seed,
)
from models.search.fusion_cells.choices import SEQUENCES, spaces_of
from tasks.classification.presets import DataSet, Weights
from tasks.classification.task import F1_TYPES
from utils.args import Parser

PURPOSE = {
    "pretrain": "Train an encoder per modality; writes checkpointdir.",
    "search": "Search the fusion on frozen encoders; writes RUN/genotype.json.",
    "found": "Train the found network or a baseline, or test a trained one (--eval_exp_dir).",
}


def make_parser(data_set: DataSet, section: str) -> Parser:
    """Return the parser of "pretrain", "search" or "found"."""
    parser = Parser(f"{data_set.title}. {PURPOSE[section]}", usage="%(prog)s DIR [options]")
    _add_data(parser, data_set)
    if section == "pretrain":
        _add_pretraining(parser, data_set)
    else:
        own: Weights = getattr(data_set, section)
        add_weight_options(parser, own.epochs, own.dropout, own.decay, own.batch, own.eta_max, own.cycle, note="")
        _add_space(parser, data_set)
        add_search_options(parser) if section == "search" else _add_found(parser, data_set)
        add_cache_options(parser, levels=False)
    add_run_options(parser)
    return parser


def parser_of(data_set: DataSet):
    """Return what makes the parsers of a data set's commands."""
    return partial(make_parser, data_set)


def _add_data(parser: Parser, data_set: DataSet) -> None:
    group = parser.add_argument_group("data")
    add = group.add_argument
    add("data", metavar="DIR", nargs="?", help="folder of the data set; with --resume that of the run, unless given")
    add("--small_dataset", action="store_true", help="the first 64 examples of each list, to try a command out (off)")
    add("--split_seed", type=count, default=0, help="seed of the cut of the dev list into arch and val (0)")
    text = "published protocol: the whole dev list serves as arch and val; results say so (off)"
    add("--paper-protocol", action="store_true", help=text)
    if data_set.draws:
        add(
            "--augment", action="store_true", help="training draws crops; not with cached features (off; published: on)"
        )
    text = (
        "examples that training may leave out, in all, since a file of them cannot be read; a test leaves out none (0)"
    )
    add("--max_bad_files", type=count, default=0, metavar="N", help=text)
    add("--workers", type=count, default=4, help="loader processes (4)")
    add("--pin-mem", action="store_true", help="pin loader memory, for CUDA (off)")
    group = parser.add_argument_group("encoders")
    add = group.add_argument
    text = f"network of pictures and clips: {data_set.backbone}, {data_set.choices} ({data_set.backbone})"
    add("--backbone", default=data_set.backbone, metavar="NAME", help=text)
    where = f"checkpoints/{data_set.name}"
    add("--checkpointdir", default=where, help=f"folder of pretrained encoders ({where})")
    for modality, option in data_set.files.items():
        name = f"{modality}_encoder.pth"
        add(f"--{option}", default=name, metavar="FILE", help=f"{modality} file in it ({name})")
    if data_set.multi_label:
        text = (
            "the F1 by which an epoch is chosen: the mean over genres by their number, of all decisions, over genres, "
        )
        text += "or over films (weighted)"
        add("--f1_type", choices=F1_TYPES, default="weighted", help=text)


def _add_space(parser: Parser, data_set: DataSet) -> None:
    group = parser.add_argument_group("search space")
    add = group.add_argument
    add("--space", choices=spaces_of(SEQUENCES), default="bmnas", help="search space (bmnas)")
    text = "what a step may read: inputs and earlier steps, no pair twice, as in the paper; or inputs alone, as in the "
    text += "public code (all)"
    add("--predecessors", choices=["all", "inputs"], default="all", help=text)
    add("--C", type=positive, default=data_set.channels, help=f"channels of a feature ({data_set.channels})")
    add("--L", type=positive, default=data_set.length, help=f"positions of a feature ({data_set.length})")
    add("--steps", type=positive, default=2, help="fusion nodes (2)")
    add("--multiplier", type=positive, default=2, help="last states that the output concatenates (2)")
    steps = data_set.node_steps
    add("--node_steps", type=positive, default=steps, help=f"operations per fusion node ({steps})")
    add("--node_multiplier", type=positive, default=steps, help=f"last inner states that a node concatenates ({steps})")
    add("--num_input_nodes", type=positive, help="taps of all encoders, for a check (from the encoders)")
    add("--num_keep_edges", type=positive, default=2, help="edges kept per node; only 2 is defined (2)")
    text = "choices without parameters that a genotype may have; the weakest give way to others (any number)"
    add("--max_parameter_free", type=count, metavar="N", help=text)


def _add_found(parser: Parser, data_set: DataSet) -> None:
    group = parser.add_argument_group("found network")
    add = group.add_argument
    add("--search_exp_dir", metavar="RUN", help="search run whose genotype.json is trained (none)")
    add("--eval_exp_dir", metavar="RUN", help="run whose best.pt is tested; nothing is trained (none)")
    add("--genotype", metavar="FILE", help="train this genotype, JSON (none)")
    names = [*data_set.files, "sum", "concat"]
    add("--baseline", choices=names, help="train one modality, or the last taps summed or side by side (none)")
    add("--random_genotype", type=seed, metavar="SEED", help="train a genotype drawn uniformly from this seed (none)")
    add("--eval_part", choices=["test", "val"], default="test", help="with --eval_exp_dir: part to test on (test)")
    rate = data_set.found.eta_max if data_set.train_encoders else 0.0
    text = f"learning rate of the encoders, trained along; statistics of their norms rest ({rate:g}; 0: frozen)"
    add("--stream_lr", type=not_negative, default=rate, metavar="LR", help=text)


def _add_pretraining(parser: Parser, data_set: DataSet) -> None:
    group = parser.add_argument_group("pretraining")
    add = group.add_argument
    names = [*data_set.files, "both"]
    add("--modality", choices=names, default="both", help="which encoders to train (both)")
    add("--batchsize", type=positive, default=16, help="examples per step (16)")
    add("--epochs", type=positive, default=30, help="epochs per encoder (30)")
    add("--lr", type=not_negative, default=1e-3, help="highest learning rate, AdamW, one cycle (1e-3)")
    add("--weight_decay", type=not_negative, default=1e-4, help="weight decay (1e-4)")
    add("--warmup", type=probability, default=0.1, help="share of the steps in which the learning rate rises (0.1)")
    add(
        "--no-imagenet", action="store_true", help="start from random weights, not ImageNet's where there are any (off)"
    )

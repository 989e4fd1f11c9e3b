"""The published command lines of FAD (2007.12075): their options and configuration keys, translated into ours.

    python tools/search_net.py --config-file configs/fad/search/NAME.yaml OUTPUT_DIR DIR [KEY VALUE ...]
    python tools/train_net.py --config-file configs/fad/augment/NAME.yaml --genotype-file FILE OUTPUT_DIR DIR
    python tools/test_net.py --config-file ... --genotype-file FILE MODEL.WEIGHT best.pt

The data lie in the folder `datasets`. A configuration file is one of theirs, with nested upper-case keys, or one of
ours. What runs the lines: tools/published_lines.py.
"""

import ast
from argparse import REMAINDER, Namespace
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from utils.args import Parser
from utils.errors import UserError, near
from utils.subprocesses import ROOT
from utils.untrusted import read_yaml

DATA = "datasets"  # as published
OURS = {"search": ROOT / "configs/fad_search.yaml", "found": ROOT / "configs/fad_train.yaml"}
BACKBONES = {"R-50": "resnet50", "R-101": "resnet101", "X-101-64x4d": "resnext101_64x4d"}
DATA_SETS = {"voc_2012": "voc2012", "coco_2017": "coco2017"}  # by what names of lists begin with
STRIDE = 32  # that sides are padded to

# Key, which may end in *, -> our option. Keys below are read by functions of this module.
OPTIONS = {
    "SOLVER.BASE_LR": "--eta_max",
    "SOLVER.WEIGHT_DECAY": "--weight_decay",
    "SOLVER.MOMENTUM": "--momentum",
    "SOLVER.WARMUP_ITERS": "--warmup_steps",
    "SOLVER.WARMUP_METHOD": "--warmup_kind",
    "SOLVER.IMS_PER_BATCH": "--batchsize",
    "SOLVER.CHECKPOINT_PERIOD": "--checkpoint_every",
    "SOLVER.SEARCH.BASE_LR": "--arch_learning_rate",
    "SOLVER.SEARCH.WEIGHT_DECAY": "--arch_weight_decay",
    "DATALOADER.NUM_WORKERS": "--workers",
    "MODEL.BACKBONE.OUT_CHANNELS": "--C",
    "MODEL.FAD.NUM_CHANNELS_*": "--head_channels",
    "MODEL.FAD.NUM_CELLS_*": "--head_cells",
}
READ_HERE = ("SOLVER.STEPS", "SOLVER.MAX_ITER", "MODEL.WEIGHT", "MODEL.BACKBONE.CONV_BODY", "OUTPUT_DIR")
READ_HERE += ("INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST")
READ_HERE += ("INPUT.MIN_SIZE_RANGE_TRAIN", "DATASETS.TRAIN", "DATASETS.TEST", "TEST.IMS_PER_BATCH")
SECTIONS = {key.partition(".")[0] for key in (*OPTIONS, *READ_HERE)}  # of a configuration of theirs
SEARCH_ALONE = ("--arch_learning_rate", "--arch_weight_decay")
FOUND_ALONE = ("--head_cells",)
EFFECTS = {  # of options without any, in words
    "skip_test": "a test is a command of its own",
    "use_tensorboard": "metrics.jsonl has the curves, and --wandb logs",
}
Keys = dict[str, Any]


def parse_published(name: str, argv: list[str]) -> Namespace:
    """Parse the options of a published script; what is left are keys and values."""
    parser = Parser("A published command line of FAD.")
    add = parser.add_argument
    add("--config-file", metavar="FILE", required=True, help="configuration, theirs or ours")
    if name != "search":
        add("--genotype-file", metavar="FILE", required=True, help="genotype that is trained or tested")
    add("--skip-test", action="store_true", help="no effect here (off)")
    add("--use-tensorboard", action="store_true", help="no effect here (off)")
    add("--local_rank", "--local-rank", type=int, default=0, help="read from the launcher's variables (0)")
    add("opts", metavar="KEY VALUE", nargs=REMAINDER, help="keys of the configuration")
    args = parser.parse_args(argv)
    if len(args.opts) % 2:
        raise UserError(f"{args.opts[-1]}: expected a value behind the key, found none")
    return args


def translate(name: str, args: Namespace) -> tuple[list[str], Keys]:
    """Return the command line of our main, but for what counts iterations, and the keys."""
    content = read_yaml(args.config_file, f"--config-file {args.config_file}")
    theirs = isinstance(content, dict) and bool(SECTIONS & {*content})
    keys = dict(_flat(content)) if theirs else {}
    keys |= {key: _value(text) for key, text in zip(args.opts[::2], args.opts[1::2])}
    section = "search" if name == "search" else "found"
    words = [DATA, "--config", str(OURS[section] if theirs else args.config_file), "--save", save_of(keys)]
    if name == "test":
        return [*words, *of_test(keys, args)], keys
    unread, named = FOUND_ALONE if section == "search" else SEARCH_ALONE, {}
    for key, value in keys.items():
        option = option_of(key)
        if option and named.setdefault(option, value) != value:
            raise UserError(f"{key}: expected {named[option]} as of a key alike, found {value}: both are {option}")
    words += [word for option, value in named.items() if option not in unread for word in (option, str(value))]
    if "SOLVER.BASE_LR" in keys:
        words += ["--stream_lr", str(keys["SOLVER.BASE_LR"])]  # one rate for all
    words += [*of_input(keys), *of_backbone(keys), *of_data(keys)]
    if name == "train":
        words += ["--genotype", args.genotype_file]
    return words, keys


def option_of(key: str) -> str | None:
    """Return our option for a key; None for one that a function reads.

    Raises:
        UserError: an unknown key.
    """
    for pattern, option in OPTIONS.items():
        if fnmatchcase(key, pattern):
            return option
    if key in READ_HERE:
        return None
    raise UserError(f"{key}: expected a known key, found another{near(key, (*OPTIONS, *READ_HERE))}")


def of_input(keys: Keys) -> list[str]:
    """Return the options of the sides of pictures, padded as published."""
    words = []
    sides = [keys.get(f"INPUT.{end}_SIZE_TRAIN") for end in ("MIN", "MAX")]
    if sides != [None, None]:
        short, long = (_number(side, "INPUT.*_SIZE_TRAIN") for side in sides)
        words += ["--image_size", "x".join(str(-(-side // STRIDE) * STRIDE) for side in (short, long))]
        tested = [keys.get(f"INPUT.{end}_SIZE_TEST", side) for end, side in zip(("MIN", "MAX"), (short, long))]
        if [_number(side, "INPUT.*_SIZE_TEST") for side in tested] != [short, long]:
            raise UserError(f"INPUT.*_SIZE_TEST: expected {short} and {long} as in training, found {tested}")
    low, high = _numbers(keys.get("INPUT.MIN_SIZE_RANGE_TRAIN", (-1, -1)), "INPUT.MIN_SIZE_RANGE_TRAIN", 2)
    return [*words, *(["--short_sides", str(low), str(high)] if low > 0 else [])]


def of_backbone(keys: Keys) -> list[str]:
    """Return the options of the encoder and of the weights that it starts from."""
    words, body = [], keys.get("MODEL.BACKBONE.CONV_BODY")
    if body is not None:
        name = str(body).partition("-FPN")[0]
        if name not in BACKBONES:
            raise UserError(f"MODEL.BACKBONE.CONV_BODY: expected {', '.join(BACKBONES)} before -FPN, found {body}")
        words += ["--backbone", BACKBONES[name]]
    weight = str(keys.get("MODEL.WEIGHT", ""))
    return [*words, *(["--encoder_weights", weight] if weight and "://" not in weight else [])]


def of_data(keys: Keys) -> list[str]:
    """Return the option of the data set."""
    names = keys.get("DATASETS.TRAIN", ())
    names = (names,) if isinstance(names, str) else names
    found = {ours for theirs, ours in DATA_SETS.items() for name in names if str(name).startswith(theirs)}
    if names and len(found) != 1:
        raise UserError(f"DATASETS.TRAIN: expected lists of {' or '.join(DATA_SETS)}, found {names}")
    return ["--dataset", *found] if found else []


def of_test(keys: Keys, args: Namespace) -> list[str]:
    """Return the options of a test, whose network and data are those of its run."""
    for key in keys:
        option_of(key)
    weight = Path(str(keys.get("MODEL.WEIGHT", "")))
    if weight.name != "best.pt":
        raise UserError(f"MODEL.WEIGHT: expected the best.pt of a training run, found {weight}")
    batch = keys.get("TEST.IMS_PER_BATCH")
    words = ["--eval_exp_dir", str(weight.parent), "--genotype", args.genotype_file]
    return [*words, *(["--batchsize", str(batch)] if batch is not None else [])]


def save_of(keys: Keys) -> str:
    """Return the name of the run: the last of OUTPUT_DIR."""
    return Path(str(keys.get("OUTPUT_DIR", "fad"))).name or "fad"


def _flat(content: dict, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a nested configuration."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", _value(value) if isinstance(value, str) else value


def _value(text: str) -> Any:
    """Read a value as a Python literal, else as text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def in_epochs(keys: Keys, examples: int, batchsize: int) -> list[str]:
    """Return what counts iterations, each of a batch, as options that count epochs of some examples."""
    words, steps = [], -(-examples // batchsize)
    if "SOLVER.MAX_ITER" in keys:
        words += ["--epochs", str(max(round(_number(keys["SOLVER.MAX_ITER"], "SOLVER.MAX_ITER") / steps), 1))]
    if "SOLVER.STEPS" in keys:
        marks = [step / steps for step in _numbers(keys["SOLVER.STEPS"], "SOLVER.STEPS")]
        words += ["--marks", *(f"{mark:.4g}" for mark in marks)]
    return words


def _numbers(value: Any, key: str, count: int | None = None) -> list[int]:
    """Return whole numbers of a list, as many as `count` says."""
    numbers = list(value) if isinstance(value, tuple | list) else []
    if not numbers or any(type(n) is not int for n in numbers) or count not in (None, len(numbers)):
        raise UserError(f"{key}: expected {count or 'some'} whole numbers, as (60000, 80000), found {value}")
    return numbers


def _number(value: Any, key: str) -> int:
    """Return a whole number above 0, or the only one of a list."""
    value = value[0] if isinstance(value, tuple | list) and len(value) == 1 else value
    if type(value) is not int or value < 1:
        raise UserError(f"{key}: expected a whole number above 0, found {value}")
    return value

"""The demo's options, and the methods that it compares."""

import argparse
from dataclasses import dataclass, fields

from datasets.road_scenes import SIZES
from utils.args import Parser
from utils.errors import UserError
from utils.option_types import positive, seed
from utils.subprocesses import CORES

SINGLE = ("thermal", "rgb")
WIDENED = {"sum_widened": "sum", "concat_conv_widened": "concat_conv"}  # to the searched network's parameters
BOX_FUSIONS = {"box_nms": "nms", "box_wbf": "wbf"}  # of the single sensors' detections; nothing is trained
TRAINED_FUSIONS = ("mean", "sum", "concat_conv", "eca_attn", "shuffle_attn", "rgb_twice", "early")
HAND_MADE = (*TRAINED_FUSIONS, *WIDENED, *BOX_FUSIONS)
METHODS = (*SINGLE, *HAND_MADE, "random", "searched")
DEFAULT_METHODS = ("thermal", "rgb", "sum", "concat_conv", "searched")


@dataclass(frozen=True)
class Options:
    """What a demo runs on: `data` is a folder in a layout of FLIR-Aligned, or None to render `train`, ... pairs."""

    seed: int = 2
    out: str = "runs/demo"
    config: str = "configs/demo.yaml"
    data: str | None = None
    train: int = SIZES["train"]
    val: int = SIZES["val"]
    test: int = SIZES["test"]
    width: int = SIZES["width"]
    slots: int = min(2, CORES)
    methods: tuple[str, ...] = DEFAULT_METHODS


def parse(argv: list[str]) -> Options:
    parser = Parser("Render road scenes, pretrain, search, train, test, compare and draw.")
    add_options(parser, " ".join(DEFAULT_METHODS))
    parser.add_argument("--seed", type=seed, default=Options.seed, help="seed of scenes and of all training (2)")
    parser.add_argument("--out", default=Options.out, help="folder of results; an earlier one is renamed (runs/demo)")
    parser.add_argument("--data", metavar="DIR", help="a FLIR-Aligned folder to use instead of rendered scenes (none)")
    args = parser.parse_args(argv)
    given = [name for name in SIZES if getattr(args, name) is not None]
    if args.data and given:
        raise UserError(f"--{given[0]}: no effect with --data: its scenes are there already")
    return to_options(args)


def add_options(parser: Parser, methods: str) -> None:
    """Add what the demo and its benchmark share; `methods` names the default ones."""
    add = parser.add_argument
    add("--config", default=Options.config, help="settings of all commands (configs/demo.yaml)")
    for name, value in SIZES.items():
        what = "width of a scene in pixels" if name == "width" else f"pairs to render for {name}"
        add(f"--{name}", type=positive, help=f"{what} ({value})")
    add("--slots", type=positive, default=Options.slots, help=f"commands side by side ({Options.slots})")
    add("--methods", nargs="+", choices=METHODS, metavar="NAME", help=f"of {', '.join(METHODS)} ({methods})")


def to_options(args: argparse.Namespace) -> Options:
    """Return the options that are set, each method once and in the order of the table."""
    names = {field.name for field in fields(Options)}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    if args.methods:
        given["methods"] = tuple(m for m in METHODS if m in args.methods)
    return Options(**given)

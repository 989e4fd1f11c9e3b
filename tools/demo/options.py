"""The demo's options."""

import argparse
from dataclasses import dataclass, field, fields

from tools.demo.tasks import DEFAULT_METHODS, DEMOS, FLIRA, Demo
from utils.args import Parser
from utils.errors import UserError, near
from utils.option_types import positive, seed
from utils.subprocesses import CORES

SIZES = tuple(dict.fromkeys(name for demo in DEMOS.values() for name in demo.sizes))


@dataclass(frozen=True)
class Options:
    """Options of a demo. `data` is the folder of existing data; None: data of these `sizes` is generated."""

    task: str = "flira"
    seed: int = FLIRA.seed
    out: str = FLIRA.out
    config: str = FLIRA.config
    data: str | None = None
    sizes: dict[str, int] = field(default_factory=lambda: dict(FLIRA.sizes))
    slots: int = min(2, CORES)
    methods: tuple[str, ...] = DEFAULT_METHODS

    @property
    def demo(self) -> Demo:
        return DEMOS[self.task]


def parse(argv: list[str]) -> Options:
    parser = Parser("Generate data, pretrain, search, train, test, compare and draw.")
    parser.add_argument("--task", choices=DEMOS, default="flira", help="flira, fad: road scenes; mmimdb: films (flira)")
    add_options(parser, " ".join(DEFAULT_METHODS))
    parser.add_argument("--seed", type=seed, help="seed of data and of all training (2; mmimdb: 1)")
    text = "folder of results; an earlier one is renamed (runs/demo; of another task runs/demo-TASK)"
    parser.add_argument("--out", help=text)
    text = "a FLIR-Aligned folder to use instead of rendered scenes; for --task flira (none)"
    parser.add_argument("--data", metavar="DIR", help=text)
    args = parser.parse_args(argv)
    sizes = [name for name in SIZES if getattr(args, name) is not None]
    if args.data and args.task != "flira":
        raise UserError(f"--data: no effect with --task {args.task}: its data is generated")
    if args.data and sizes:
        raise UserError(f"--{sizes[0]}: no effect with --data: its scenes are there already")
    return to_options(args)


def add_options(parser: Parser, methods: str) -> None:
    """Add the options that the demo shares with its benchmark; `methods` names the default methods."""
    add = parser.add_argument
    add("--config", help=f"settings of all commands ({FLIRA.config}; of another task configs/demo_TASK.yaml)")
    for name in SIZES:
        tasks = {task: demo.sizes[name] for task, demo in DEMOS.items() if name in demo.sizes}
        noun = "width of a scene in pixels" if name == "width" else f"samples to generate for {name}"
        add(f"--{name}", type=positive, help=f"{noun} ({', '.join(f'{task}: {size}' for task, size in tasks.items())})")
    add("--slots", type=positive, default=Options.slots, help=f"commands side by side ({Options.slots})")
    fad = " ".join(DEMOS["fad"].default_methods)
    choices = "; ".join(f"{task}: {', '.join(demo.methods)}" for task, demo in DEMOS.items())
    add("--methods", nargs="+", metavar="NAME", help=f"of {choices} ({methods}; mmimdb: all; fad: {fad})")


def to_options(args: argparse.Namespace) -> Options:
    """Return the options with the task's defaults; each method once, in the order of the table.

    Raises:
        UserError: the task has no such size or method.
    """
    given = {name: value for name, value in vars(args).items() if value is not None}
    task = given.get("task", "flira")
    demo = DEMOS[task]
    sizes = {name: given[name] for name in SIZES if name in given}
    if unknown := sizes.keys() - demo.sizes.keys():
        raise UserError(f"--{min(unknown)}: no effect with --task {task}")
    for name in given.get("methods", ()):
        if name not in demo.methods:
            raise UserError(f"--methods: no such method of --task {task}: {name}{near(name, demo.methods)}")
    values = {"seed": demo.seed, "out": demo.out, "config": demo.config}
    values |= {option.name: given[option.name] for option in fields(Options) if option.name in given}
    chosen = given.get("methods", demo.default_methods)
    methods = tuple(name for name in demo.methods if name in chosen)
    return Options(**values | {"sizes": demo.sizes | sizes, "methods": methods})

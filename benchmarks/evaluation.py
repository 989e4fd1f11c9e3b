"""Measures the cost of an evaluation relative to an epoch, on rendered road scenes and random weights.

    python -m benchmarks.evaluation [--config configs/demo.yaml] [--train 1400] [--val 140] [--width 192] [--runs 5]

Other options are passed to the search command, such as --cache_features ram. Runs one epoch of the search, then
evaluations of the supernet on `val`; medians over the runs. `val_pass_s` is a whole evaluation: `load_s` (waiting for
batches), `forward_s` (the network), `detect_s` (from its output to boxes in COCO form) and `scoring_s`. In percent of
the epoch (`epoch_s`): scoring, evaluation (all but the network), and the whole pass. Prints JSON. Rows:
results/evaluation.csv.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.random_streams import make_scenes, search_options
from benchmarks.rows import append_row
from commands.options import parser_of
from commands.recipe import recipe_of
from commands.run import cache_options, compute_of
from datasets.data_module import DataModule
from datasets.road_scenes import SIZES
from engine.bilevel import Bilevel
from engine.compute import Compute
from engine.feature_caching import cached
from engine.feature_fill import Encoding
from engine.nonfinite import Guard
from engine.step import Session, evaluate
from models.search.parameters import arch_parameters
from tasks import TASKS
from tasks.detection.build import build_supernet, open_data
from tasks.detection.flira import FLIRA
from utils.args import Options, Parser, command, parse
from utils.option_types import positive
from utils.seed import seed_everything


@command
def main(argv: list[str]) -> None:
    parser = Parser("Measure the cost of an evaluation relative to an epoch.")
    parser.add_argument("--config", default="configs/demo.yaml", help="settings of the search (configs/demo.yaml)")
    for name in ("train", "val", "width"):
        parser.add_argument(f"--{name}", type=positive, default=SIZES[name], help=f"pairs or pixels ({SIZES[name]})")
    parser.add_argument("--runs", type=positive, default=5, help="evaluations; the first is a warm-up (5)")
    args, search_args = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        scenes = make_scenes(Path(folder), args.train, args.val, args.width)
        off = [] if "--cache_features" in search_args else ["--cache_features", "off"]  # the config may turn it on
        options = [*search_options(Path(folder), scenes, args.config), *off, *search_args]
        row = measure(parse(parser_of(TASKS["flira"]), options, "search"), args.runs)
    sizes = {name: getattr(args, name) for name in ("config", "train", "val", "width", "runs")}
    append_row("evaluation", sizes | row)
    print(json.dumps(sizes | row))


def measure(args: Options, runs: int) -> dict[str, float | str]:
    """Return the seconds of an epoch and of the parts of an evaluation, and their shares in percent."""
    seed_everything(args.seed)
    compute, parts = compute_of(args), open_data(args)
    args = FLIRA.complete(args, parts)
    model = compute.place(build_supernet(args, parts))
    log, where = partial(print, file=sys.stderr), {"learning": ("train", "arch"), "plain": ("val",)}
    parts = cached(Encoding(parts, model, compute), cache_options(args), log, **where)
    epoch = seconds_of(make_epoch(args, model, parts, compute))
    passes = [time_evaluation(model, parts, compute) for _ in range(runs)]
    seconds = {name: statistics.median(times[name] for times in passes[1:] or passes) for name in passes[0]}
    shares = {name: seconds[name] for name in ("scoring", "val_pass")}
    shares["evaluation"] = seconds["val_pass"] - seconds["forward"]
    return (
        {"cache": args.cache_features, "epoch_s": round(epoch, 2)}
        | {f"{name}_s": round(value, 4) for name, value in seconds.items()}
        | {f"{name}_percent": round(100 * value / epoch, 2) for name, value in shares.items()}
    )


def make_epoch(args: Options, model: nn.Module, parts: DataModule, compute: Compute) -> Callable[[], object]:
    """Return a function that runs one epoch of the search."""
    logits = torch.optim.Adam(arch_parameters(model), lr=args.arch_learning_rate, fused=True)
    train, arch = (parts.loader(part, train=True) for part in ("train", "arch"))
    session = Session(model, FLIRA, compute, Guard(compute.device))
    sides = {"arch_optimizer": logits, "arch_loader": arch, "second_order": args.strategy == "darts2"}
    sides |= args.keywords("alternate", "epochs")
    learner = Bilevel.make(session, recipe_of(args), train, args.epochs, **sides)

    def one_epoch() -> None:
        session.progress.passes.clear()
        learner.start_epoch(0)
        learner.train_epoch()

    return one_epoch


def time_evaluation(model: nn.Module, parts: DataModule, compute: Compute) -> dict[str, float]:
    """Evaluate on `val`; returns the seconds of each part, and of the whole as "val_pass"."""
    seconds = dict.fromkeys(("load", "forward", "detect", "scoring"), 0.0)
    evaluator = FLIRA.make_evaluator(parts, "val")
    evaluator.compute, score = lambda: timed(seconds, "scoring", score), evaluator.compute
    forward = model.forward
    model.forward = lambda *inputs: timed(seconds, "forward", lambda: forward(*inputs))
    batches = timed_batches(parts.loader("val", train=False), seconds)
    session = Session(model, FLIRA, compute, Guard(compute.device))
    whole = seconds_of(lambda: evaluate(session, batches, evaluator, "evaluate"))
    del model.forward
    seconds["detect"] = whole - sum(seconds.values())
    return seconds | {"val_pass": whole}


def timed_batches(loader: Iterable[dict], seconds: dict[str, float]) -> Iterator[dict]:
    batches = timed(seconds, "load", lambda: iter(loader))
    while (batch := timed(seconds, "load", lambda: next(batches, None))) is not None:
        yield batch


def timed(seconds: dict[str, float], name: str, run: Callable[[], object]) -> object:
    """Run a function and add its seconds, work on a GPU included."""
    started, result = now(), run()
    seconds[name] += now() - started
    return result


def seconds_of(run: Callable[[], object]) -> float:
    started = now()
    run()
    return now() - started


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    raise SystemExit(main())

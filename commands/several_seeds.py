"""--seeds 1 2 3: the same command once per seed, and what came out: mean and spread, and a page that compares."""

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path

from commands.run import FINISHED, find_run
from utils.distributed import ranks
from utils.errors import UserError
from utils.run_folder import RUNS, SEED_SUFFIX, read_json


def each_seed(args: argparse.Namespace, kind: str) -> Iterator[argparse.Namespace]:
    """Yield the options of each run that a command is to do, one after another; compare the runs in the end.

    Args:
        args: as parsed; without --seeds they are yielded as they are.
        kind: of the runs.

    Raises:
        UserError: --seeds beside what it contradicts, or a seed twice.
    """
    if args.seeds is None or ("seeds" not in args.typed and one_is_typed(args)):
        args.seeds = None
        yield args
        return
    check(args)
    runs = []
    for seed in args.seeds:
        one = copy.deepcopy(args)
        one.seeds, one.seed, one.save = None, seed, f"{args.save}{SEED_SUFFIX}{seed}"
        one.given, one.typed = (names - {"seeds"} | {"seed", "save"} for names in (one.given, one.typed))
        yield one
        if args.dry_run:
            return
        if not ranks().first:
            continue
        runs.append(find_run(argparse.Namespace(resume="auto", save=one.save), kind))
    if runs:
        compare(runs, args, kind)


def one_is_typed(args: argparse.Namespace) -> bool:
    """Tell whether the command line asks for one run, which wins over seeds of a config."""
    return "seed" in args.typed or bool(getattr(args, "eval_exp_dir", None)) or args.resume not in (None, "auto")


def check(args: argparse.Namespace) -> None:
    if not args.seeds:
        raise UserError("--seeds: expected at least one seed, found none")
    if "seed" in args.typed:
        raise UserError("--seeds: expected no --seed beside it: it names every seed")
    if len(set(args.seeds)) < len(args.seeds):
        raise UserError(f"--seeds: expected different seeds, found {' '.join(map(str, args.seeds))}")
    if getattr(args, "eval_exp_dir", None):
        raise UserError("--seeds: no effect with --eval_exp_dir: a test draws nothing")
    if args.resume not in (None, "auto"):
        raise UserError(f"--seeds: expected --resume auto beside it, or none, found --resume {args.resume}")


def compare(runs: list[Path], args: argparse.Namespace, kind: str) -> None:
    """Print mean and spread of the best score on val over the seeds; write the page that compares the runs."""
    from report.comparison import write_comparison  # with matplotlib, which takes its time to import
    from report.others import spread
    from report.run import Run

    assert all((run / FINISHED).exists() for run in runs), "a run ended without its last line"
    scores, metric = [Run(run).score for run in runs], f"{Run(runs[0]).metric}_val"
    for run, score in zip(runs, scores, strict=True):
        print(f"seed {read_json(run / 'args.json')['seed']}: {metric} {spread([score])}  {run}")
    print(
        f"seeds {' '.join(map(str, args.seeds))}: {metric} {spread(scores)}, points of 100, mean ± standard deviation"
    )
    if len(runs) > 1 and not args.no_report:
        page = Path(RUNS) / f"{kind}-{args.save}-seeds.html"
        print(f"comparison: {write_comparison([Run(run) for run in runs], page)}")

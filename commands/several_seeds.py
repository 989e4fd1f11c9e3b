"""--seeds 1 2 3: the same command once per seed, then mean and spread, and a page that compares the runs."""

from collections.abc import Iterator
from pathlib import Path

from utils.args import DEFAULT, TYPED, Options
from utils.distributed import ranks
from utils.errors import UserError
from utils.run_folder import FINISHED, RUNS, SEED_SUFFIX, newest_run, read_json


def each_seed(options: Options, kind: str) -> Iterator[Options]:
    """Yield the options of each run that a command is to do, one after another; compare the runs in the end.

    Args:
        options: as parsed; without --seeds they are yielded as they are.
        kind: of the runs.

    Raises:
        UserError: --seeds beside what it contradicts, or a seed twice.
    """
    if options.seeds is None or (not options.is_typed("seeds") and is_one_typed(options)):
        yield options.with_values(DEFAULT, seeds=None) if options.seeds else options
        return
    check(options)
    runs = []
    for seed in options.seeds:
        save = f"{options.save}{SEED_SUFFIX}{seed}"
        values = {"seeds": None, "seed": seed, "save": save}
        yield options.replaced(values, {"seeds": DEFAULT, "seed": TYPED, "save": TYPED})
        if options.dry_run:
            return
        if ranks().first:
            runs.append(newest_run(kind, save))
    if runs:
        compare(runs, options, kind)


def is_one_typed(options: Options) -> bool:
    """Return whether the command line asks for one run, which wins over seeds of a config."""
    return options.is_typed("seed") or bool(options.eval_exp_dir) or options.resume not in (None, "auto")


def check(options: Options) -> None:
    if not options.seeds:
        raise UserError("--seeds: expected at least one seed, found none")
    if options.is_typed("seed"):
        raise UserError("--seeds: expected no --seed beside it: it names every seed")
    if len(set(options.seeds)) < len(options.seeds):
        raise UserError(f"--seeds: expected different seeds, found {' '.join(map(str, options.seeds))}")
    if options.eval_exp_dir:
        raise UserError("--seeds: no effect with --eval_exp_dir: a test draws nothing")
    if options.resume not in (None, "auto"):
        raise UserError(f"--seeds: expected --resume auto beside it, or none, found --resume {options.resume}")


def compare(runs: list[Path], options: Options, kind: str) -> None:
    """Print mean and spread of the best score on val over the seeds; write the page that compares the runs."""
    from report.comparison import mean_deviation, write_comparison  # with matplotlib, which takes its time to import
    from report.run import Run

    assert all((run / FINISHED).exists() for run in runs), "a run ended without its last line"
    scores, metric = [Run(run).score for run in runs], f"{Run(runs[0]).metric}_val"
    for run, score in zip(runs, scores, strict=True):
        print(f"seed {read_json(run / 'args.json')['seed']}: {metric} {mean_deviation([score])}  {run}")
    seeds = " ".join(map(str, options.seeds))
    print(f"seeds {seeds}: {metric} {mean_deviation(scores)}, points of 100, mean ± standard deviation")
    if len(runs) > 1 and not options.no_report:
        page = Path(RUNS) / f"{kind}-{options.save}-seeds.html"
        print(f"comparison: {write_comparison([Run(run) for run in runs], page)}")

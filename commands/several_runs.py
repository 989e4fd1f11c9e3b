"""Several runs of one command, one after another: --seeds 1 2 3, or --folds K without --fold.

In the end mean and spread of their scores on val are printed, and a page compares them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.args import DEFAULT, TYPED, Options
from utils.distributed import ranks
from utils.errors import UserError
from utils.run_folder import FINISHED, FOLD_SUFFIX, RUNS, SEED_SUFFIX, newest_run, read_json


@dataclass(frozen=True)
class Series:
    """Runs that differ in one option.

    Args:
        option: that says which runs there are: "seeds" or "folds".
        varied: the option that differs: "seed" or "fold".
        numbers: its values.
        suffix: of --save, in front of the number.
    """

    option: str
    varied: str
    numbers: tuple[int, ...]
    suffix: str

    def save(self, options: Options, number: int) -> str:
        return f"{options.save}{self.suffix}{number}"


def each_run(options: Options, kind: str) -> Iterator[Options]:
    """Yield the options of each run that a command is to do, one after another; compare the runs in the end.

    Args:
        options: as parsed; without --seeds or --folds they are yielded as they are.
        kind: of the runs.

    Raises:
        UserError: --seeds beside what it contradicts, or a seed twice; no search of a fold.
    """
    series = series_of(options)
    if series is None:
        yield options.with_values(DEFAULT, seeds=None) if options.seeds else options
        return
    runs = []
    for number in series.numbers:
        save = series.save(options, number)
        paths = paths_of_fold(options, kind, number) if series.option == "folds" else {}
        values = {series.varied: number, "save": save} | paths
        of_run = options.replaced(values, dict.fromkeys(values, TYPED))
        yield of_run.replaced({"seeds": None}, {"seeds": DEFAULT}) if options.seeds else of_run
        if options.dry_run:
            return
        if ranks().first:
            runs.append(newest_run(kind, save))
    if runs:
        compare(runs, series, options, kind)


def series_of(options: Options) -> Series | None:
    """Return the runs that a command line asks for; None: one run."""
    seeds = options.seeds is not None and (options.is_typed("seeds") or not is_one_typed(options))
    folds = bool(options.folds) and options.fold is None and not of_earlier_run(options)
    if folds and options.seeds:
        raise UserError("--seeds: expected --fold beside --folds, found none: runs are of several folds or seeds")
    if folds:
        return Series("folds", "fold", tuple(range(1, options.folds + 1)), FOLD_SUFFIX)
    if not seeds:
        return None
    check_seeds(options)
    return Series("seeds", "seed", tuple(options.seeds), SEED_SUFFIX)


def is_one_typed(options: Options) -> bool:
    """Return whether the command line asks for one run, which wins over seeds of a config."""
    return options.is_typed("seed") or of_earlier_run(options)


def of_earlier_run(options: Options) -> bool:
    """Return whether the command line names a run that is tested or resumed."""
    return bool(options.eval_exp_dir) or options.resume not in (None, "auto")


def check_seeds(options: Options) -> None:
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


def paths_of_fold(options: Options, kind: str, fold: int) -> dict[str, Any]:
    """Return the options of one fold that name places: its checkpointdir, and the search of the same fold."""
    paths = {}
    if options.search_exp_dir is None or options.is_given("checkpointdir"):  # else that of the search
        paths["checkpointdir"] = str(Path(options.checkpointdir) / f"fold{fold}")
    if kind == "found" and options.search_exp_dir is not None:
        paths["search_exp_dir"] = str(search_of_fold(options.search_exp_dir, fold))
    return paths


def search_of_fold(save: str, fold: int) -> Path:
    """Return the newest search of a fold; `save` is the --save that was given to the search of all folds."""
    run = newest_run("search", f"{save}{FOLD_SUFFIX}{fold}")
    if run is None or not (run / FINISHED).exists():
        expected = f"expected the --save of a finished search of all folds, {RUNS}/search-{save}{FOLD_SUFFIX}{fold}-*"
        raise UserError(f"--search_exp_dir {save}: {expected}, found {'none' if run is None else f'{run} unfinished'}")
    return run


def compare(runs: list[Path], series: Series, options: Options, kind: str) -> None:
    """Print mean and spread of the best score on val over the runs; write the page that compares them."""
    from report.comparison import mean_deviation, write_comparison  # with matplotlib, which takes its time to import
    from report.run import Run

    assert all((run / FINISHED).exists() for run in runs), "a run ended without its last line"
    scores = [scores_of(Run(run)) for run in runs]
    for run, found in zip(runs, scores, strict=True):
        number = read_json(run / "args.json")[series.varied]
        for name, score in found.items():
            print(f"{series.varied} {number}: {name} {mean_deviation([score])}  {run}")
    numbers = " ".join(map(str, series.numbers))
    for name in scores[0]:
        spread = mean_deviation([found.get(name) for found in scores])
        print(f"{series.option} {numbers}: {name} {spread}, points of 100, mean ± standard deviation")
    if len(runs) > 1 and not options.no_report:
        page = Path(RUNS) / f"{kind}-{options.save}-{series.option}.html"
        print(f"comparison: {write_comparison([Run(run) for run in runs], page)}")
    if kind == "search" and series.option == "folds":
        print(f"the training of all folds takes: --folds {options.folds} --search_exp_dir {options.save}")


def scores_of(run: Any) -> dict[str, float | None]:
    """Return the best score on val of a run, or of each network of a pretraining."""
    name = f"{run.metric}_val"
    return (
        {name: run.score} if run.best else {f"{phase} {name}": s for phase, s in run.best_by("phase", run.rows).items()}
    )

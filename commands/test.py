"""Test a trained network: rebuilt from its best.pt, scored on a part, results into runs/test-*. Nothing is trained."""

import time
from pathlib import Path

from commands.recorder import tracking
from commands.run import check_cache_options, compute_of, print_dry_run, start_run
from commands.train import describe
from commands.trained import Trained, rebuild
from engine.task import Metrics, Task
from models.search.architecture import Architecture
from models.search.parts import read_any
from report import report, track_files
from utils.args import Options
from utils.distributed import ranks
from utils.errors import UserError, flags
from utils.run_folder import RunFolder, write_json
from utils.seed import seed_everything

READ = ("data", "config", "search_exp_dir", "genotype", "eval_exp_dir", "results", "eval_part", "batchsize", "workers")
READ += ("device", "amp", "compile", "save", "wandb", "dry_run", "box_fusion", "partner_exp_dir", "robustness")
READ += ("pin_mem", "eval_dataset", "no_report", "cache_features", "cache_level", "cache_dtype", "cache_dir")
FROM_RUN = "the architecture comes from the run"
UNTESTED = dict.fromkeys(("baseline", "random_genotype", "match_parameters"), FROM_RUN)
UNTESTED["overfit"] = "a test trains nothing; --eval_part val tests on the pairs that the run has learned"
UNTESTED["modality_dropout"] = "a test trains nothing; --robustness tests with dead sensors"
UNTESTED |= dict.fromkeys(("augment", "stream_lr"), "a test trains nothing")


def test(task: Task, options: Options) -> None:
    """Test RUN/best.pt on the test part (or `val`); writes results.json and the answers into runs/test-*."""
    check_options(options)
    check_cache_options(options)
    seed_everything(options.seed)
    extra_tests = task.extra_tests(options)
    compute, part = compute_of(options), options.eval_part
    folders = [options.eval_exp_dir, *(folder for extra in extra_tests for folder in extra.partners())]
    trained = [rebuild(task, options, folder) for folder in folders]
    if options.search_exp_dir or options.genotype:
        ranks().broadcast_from_first(lambda: check_genotype(options, trained[0].architecture))
    plans = [extra.plan(trained) for extra in extra_tests]
    first = trained[0]
    if options.dry_run:
        sizes = describe(task, first.model, first.architecture) | {first.data.unit: len(first.data.records(part))}
        print_dry_run(sizes | {name: value for plan in plans for name, value in plan.items()})
        return

    run = start_test(first)
    started = time.perf_counter()
    tested = [run_tested.test(part, compute, run.log) for run_tested in trained]
    (metrics, answers), facts = tested[0], [run_tested.facts(part) for run_tested in trained]
    results = facts[0]
    for extra in extra_tests:
        if combined := extra.combine(trained, [found for _, found in tested], facts):
            answers, metrics, results = combined
    run.write_json("timing.json", {"wall_seconds": round(time.perf_counter() - started, 3)})
    write_results(run, first, metrics, answers, results)
    for extra in extra_tests:
        extra.finish(trained, compute, run, metrics, results)
    report(run, first.options, first.data)


def check_options(options: Options) -> None:
    """Refuse options that say what to train, and a file of results that cannot be written."""
    for name in filter(options.is_typed, UNTESTED):
        raise UserError(f"--{name}: no effect with --eval_exp_dir: {UNTESTED[name]}")
    ranks().broadcast_from_first(lambda: check_results(options.results))


def check_results(path: str | None) -> None:
    """Refuse a file of results that cannot be written."""
    if path and (Path(path).is_dir() or not Path(path).parent.is_dir()):
        raise UserError(f"--results {path}: expected a file in a folder that exists")


def check_genotype(options: Options, trained: Architecture | None) -> None:
    """Refuse a search run or a file whose genotype is not the one that was trained."""
    expected = trained.id if trained else "none"
    folder, file = options.search_exp_dir, options.genotype
    for name, source, path in (("search_exp_dir", folder, f"{folder}/genotype.json"), ("genotype", file, file)):
        if source and (found := read_any(path).id) != expected:
            words = f"expected genotype {expected} as trained in {options.eval_exp_dir}, found {found}"
            raise UserError(f"--{name} {source}: {words}")


def start_test(trained: Trained) -> RunFolder:
    """Create the run folder and name the options that a test ignores."""
    options, task = trained.options, trained.task
    run = start_run("test", task, options, trained.data)
    ignored = sorted(set(options.typed_names) - {*READ, *task.rebuilt_from})
    if ignored:
        run.log(f"ignored, since a test trains nothing: {flags(ignored)}")
    return run


def write_results(run: RunFolder, trained: Trained, metrics: Metrics, answers: list[dict], facts: dict) -> None:
    """Write answers and results; of several ranks one does."""
    if not run.is_writer:
        return
    options, task = trained.options, trained.task
    run.write_json(task.predictions_file, answers)
    if options.results:
        write_json(Path(options.results), answers)
    results = run.write_json("results.json", metrics | facts)
    with tracking(options, run) as tracker:
        tracker.log({"epoch": 0} | metrics)
        track_files(tracker, run, trained.data, options.eval_part)
    shown = {name: value for name, value in metrics.items() if value is not None and "_class_" not in name}
    numbers = {name: f"{value:.4f}" if isinstance(value, float) else str(value) for name, value in shown.items()}
    run.log("  ".join(f"{name} {number}" for name, number in numbers.items()))
    run.log(f"results: {results}")

"""The test phase: rebuild finished runs from their best.pt, score them on a part, write results into runs/test-*.

One run is scored as it is; the boxes of two can be fused (tasks/detection/box_fusion.py). Nothing is trained.
"""

import argparse
import time
from pathlib import Path

from datasets.data_module import DataModule
from models.search.architecture import Architecture
from models.search.parts import read_any
from report import report
from report.wandb_files import track_files
from tasks.detection.box_fusion import fuse_detections
from tasks.detection.robustness import planned, test_robustness
from utils.coco_eval import evaluate_by_scene, evaluate_detections
from utils.distributed import ranks
from utils.errors import UserError
from utils.experiment import check_cache_options, pick_compute, warnings
from utils.found import DATA, STREAMS, Trained, describe, rebuild
from utils.profile import macs_per_pair
from utils.reporting import count_parameters, print_dry_run, start_run, tracking
from utils.run_folder import RunFolder, commit, write_json

FOR_TEST = ("data", "config", "search_exp_dir", "eval_exp_dir", "results", "eval_part", "batchsize", "workers")
FOR_TEST += ("pin_mem", "device", "amp", "compile", "save", "wandb", "dry_run", "box_fusion", "partner_exp_dir")
FOR_TEST += ("robustness", "no_report", *STREAMS, *DATA, "cache_features", "cache_level", "cache_dtype", "cache_dir")
FROM_RUN = "the architecture comes from the run"
UNTESTED = dict.fromkeys(("genotype", "baseline", "random_genotype", "match_parameters"), FROM_RUN)
UNTESTED["overfit"] = "a test trains nothing; --eval_part val tests on the pairs that the run has learned"
UNTESTED["modality_dropout"] = "a test trains nothing; --robustness tests with dead sensors"


def test_found(args: argparse.Namespace) -> None:
    """Test RUN/best.pt on the test pairs (or `val`); writes results.json and detections.json into runs/test-*."""
    check_test_options(args)
    compute = pick_compute(args)
    trained = rebuild(args, args.eval_exp_dir)
    if args.search_exp_dir:
        ranks().broadcast_from_first(lambda: check_genotype(args, trained.genotype))
    conditions = {} if args.robustness is None else planned(args, trained)
    if args.dry_run:
        sizes = {"pairs": len(trained.parts.records(args.eval_part))}
        sizes |= {"conditions": sum(map(len, conditions.values()))} if conditions else {}
        print_dry_run(describe(trained.model, trained.genotype) | sizes)
        return

    run = start_test(trained.args, trained.parts)
    started = time.perf_counter()
    metrics, detections = trained.detect(args.eval_part, compute, run.log)
    facts = facts_of(trained, args.eval_part)
    finish(run, trained, metrics, detections, facts, started)
    if conditions:
        test_robustness(trained, conditions, compute, run, metrics, facts)
    report(run, args, trained.parts)


def test_box_fusion(args: argparse.Namespace) -> None:
    """Fuse the boxes of two runs, each detected by its own best.pt; writes what a test of one run writes."""
    check_test_options(args)
    compute = pick_compute(args)
    first, second = (rebuild(args, path) for path in (args.eval_exp_dir, args.partner_exp_dir))
    check_partners(first, second)
    if args.dry_run:
        sizes = {f"parameters_{t.path.name}": count_parameters(t.model) for t in (first, second)}
        print_dry_run(sizes | {"pairs": len(first.parts.records(args.eval_part))})
        return

    run = start_test(first.args, first.parts)
    started = time.perf_counter()
    both = [trained.detect(args.eval_part, compute, run.log)[1] for trained in (first, second)]
    records = first.parts.records(args.eval_part)
    detections = fuse_detections(args.box_fusion, both, records, first.parts.data.category_ids)
    metrics = evaluate_detections(*truth(first.parts, args.eval_part, detections))
    facts = facts_of_both(first, second, args.box_fusion, args.eval_part)
    facts["AP_val"] = metrics["AP"] if args.eval_part == "val" else None
    finish(run, first, metrics, detections, facts, started)
    report(run, args, first.parts)


def check_test_options(args: argparse.Namespace) -> None:
    """Refuse options that say what to train, halves of a box fusion, and a file of results that cannot be written."""
    untested = [name for name in UNTESTED if name in args.typed]
    if untested:
        raise UserError(f"--{untested[0]}: no effect with --eval_exp_dir: {UNTESTED[untested[0]]}")
    if bool(args.box_fusion) != bool(args.partner_exp_dir):
        given, missing = ("box_fusion", "partner_exp_dir") if args.box_fusion else ("partner_exp_dir", "box_fusion")
        raise UserError(f"--{given}: expected --{missing} beside it, found none")
    if args.box_fusion and args.search_exp_dir:
        raise UserError("--search_exp_dir: no effect with --box_fusion: both networks come from their runs")
    if args.box_fusion and "robustness" in args.typed:
        raise UserError("--robustness: no effect with --box_fusion: give it to a test of each of the two runs")
    check_cache_options(args)
    ranks().broadcast_from_first(lambda: check_results(args))


def check_results(args: argparse.Namespace) -> None:
    """Refuse a file of results that cannot be written."""
    if args.results and (Path(args.results).is_dir() or not Path(args.results).parent.is_dir()):
        raise UserError(f"--results {args.results}: expected a file in a folder that exists")


def check_genotype(args: argparse.Namespace, trained: Architecture | None) -> None:
    """Refuse a search run whose genotype is not the one that was trained."""
    searched, expected = read_any(Path(args.search_exp_dir) / "genotype.json"), trained.id if trained else "none"
    if searched.id != expected:
        raise UserError(
            f"--search_exp_dir {args.search_exp_dir}: expected genotype {expected} as trained in "
            f"{args.eval_exp_dir}, found {searched.id}"
        )


def check_partners(first: Trained, second: Trained) -> None:
    """Refuse to fuse one run with itself, or two that were not trained for the same classes on the same split."""
    if first.path.resolve() == second.path.resolve():
        raise UserError(f"--partner_exp_dir {second.path}: expected another run than --eval_exp_dir, found the same")
    ours, theirs = (t.state["args"] | {"split": t.state["split"]} for t in (first, second))
    for name in ("split", "dataset", "num_classes"):
        if theirs[name] != ours[name]:
            raise UserError(
                f"--partner_exp_dir {second.path}: {name}: expected {ours[name]} as in {first.path}, "
                f"found {theirs[name]}"
            )


def facts_of(trained: Trained, part: str) -> dict[str, object]:
    """Return what results record of a run beside its metrics."""
    state, genotype = trained.state, trained.genotype
    scenes = trained.parts.data.info["test"].get("hash")  # of a renderer; a plain name
    return {
        "part": part,
        "pairs": len(trained.parts.records(part)),
        "method": trained.method,
        "eval_exp_dir": str(trained.path),
        "epoch": state["progress"]["best_epoch"],
        "AP_val": state["progress"]["best"],
        "seed": state["args"]["seed"],
        "bad_files": len(state["bad_files"]),
        "parameters": count_parameters(trained.model),
        "parameters_fusion": count_parameters(trained.model.fusions),
        "macs": macs_per_pair(trained.model, trained.args.image_size),
        "protocol": state["protocol"],
        "split": state["split"],
        "genotype_protocol": genotype.meta.get("protocol") if genotype else None,
        "genotype_split": genotype.meta.get("split") if genotype else None,
        "checkpoint_split": state["checkpoint_split"],
        "commit": commit(),
        **({"scenes": scenes} if isinstance(scenes, str) else {}),
    }


def facts_of_both(first: Trained, second: Trained, how: str, part: str) -> dict[str, object]:
    """Return what results record of two runs whose boxes are fused; partner_* is the second's."""
    ours, theirs = facts_of(first, part), facts_of(second, part)
    names = ("epoch", "seed", "genotype_protocol", "genotype_split", "checkpoint_split")
    return ours | {
        "method": f"box {how}",
        "fused": f"{first.method} + {second.method}",
        "parameters": ours["parameters"] + theirs["parameters"],
        "macs": ours["macs"] + theirs["macs"],
        "parameters_fusion": 0,
        "partner_exp_dir": str(second.path),
        **{f"partner_{name}": theirs[name] for name in names},
    }


def start_test(args: argparse.Namespace, parts: DataModule) -> RunFolder:
    """Create the run folder and name the options that a test ignores."""
    run = start_run("test", args, parts, warnings(args, "test"))
    ignored = sorted(args.typed - set(FOR_TEST))
    if ignored:
        run.log(f"ignored, since a test trains nothing: {', '.join('--' + name for name in ignored)}")
    return run


def finish(
    run: RunFolder,
    trained: Trained,
    metrics: dict[str, float | None],
    detections: list[dict],
    facts: dict[str, object],
    started: float,
) -> None:
    """Write detections and results, with the metrics by scene where the data has them; of several ranks one does."""
    if not run.is_writer:
        return
    run.write_json("timing.json", {"wall_seconds": round(time.perf_counter() - started, 3)})
    args, parts = trained.args, trained.parts
    metrics = metrics | evaluate_by_scene(*truth(parts, args.eval_part, detections))
    run.write_json("detections.json", detections)
    if args.results:
        write_json(Path(args.results), detections)
    results = run.write_json("results.json", metrics | facts)
    with tracking(args, run) as tracker:
        tracker.log({"epoch": 0} | metrics)
        track_files(tracker, run, parts, args.eval_part)
    numbers = {k: f"{v:.4f}" if isinstance(v, float) else str(v) for k, v in metrics.items() if v is not None}
    run.log("  ".join(f"{name} {number}" for name, number in numbers.items()))
    run.log(f"results: {results}")


def truth(parts: DataModule, part: str, detections: list[dict]) -> tuple:
    """Return the arguments of the metrics of utils/coco_eval.py for a part."""
    ids = [record.image_id for record in parts.records(part)]
    return parts.data.ground_truth[parts.list_of(part)], detections, ids, parts.data.category_ids, parts.data.classes

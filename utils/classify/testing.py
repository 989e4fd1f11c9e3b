"""The test of a trained classifier: rebuilt from its best.pt, scored on a part, results into runs/test-*."""

import argparse
import time
from pathlib import Path
from types import NoneType

from engine.feature_caching import cached
from engine.nonfinite import Guard
from engine.step import Session
from models.search.architecture import architecture_from_json
from models.search.fusion_cells.choices import SEQUENCES
from models.search.fusion_cells.genotype_file import FusionReader
from report import report
from tasks.classification.build import assemble_encoders, build_encoder, found_classifier, open_examples, task_of
from tasks.classification.presets import DataSet
from tasks.classification.task import F1_TYPES, Classification
from utils import checkpoint
from utils.distributed import ranks
from utils.errors import UserError, short
from utils.experiment import cache_options, check_cache_options, pick_compute
from utils.inherit import check_inherited
from utils.reporting import count_parameters, print_dry_run, start_run, tracking, validator
from utils.run_folder import commit

FROM_RUN = ("backbone", "C", "L", "baseline", "split_seed", "paper_protocol", "small_dataset")
READ = ("data", "config", "eval_exp_dir", "eval_part", "batchsize", "workers", "pin_mem", "device", "amp", "save")
READ += ("wandb", "dry_run", "no_report", "cache_features", "cache_dtype", "cache_dir")
FIELDS = {"args": dict, "split": str, "protocol": str, "checkpoint_split": str, "classes": list, "bad_files": list}
FIELDS |= {"genotype": (dict, NoneType), "model": dict, "progress": dict}


def test_classifier(data_set: DataSet, args: argparse.Namespace) -> None:
    """Test RUN/best.pt on the test examples (or `val`); writes results.json and predictions.json into runs/test-*.

    Raises:
        UserError: no such run, or one of another data set or split.
    """
    if ignored := sorted(args.typed - set(READ)):
        raise UserError(f"--{ignored[0]}: no effect with --eval_exp_dir: a test trains nothing")
    path = Path(args.eval_exp_dir) / "best.pt"
    state = ranks().broadcast_from_first(lambda: checkpoint.load(path))
    check_fields(state, path, data_set)
    take_options(args, state, data_set, path)
    check_cache_options(args)
    compute = pick_compute(args)
    modalities = (args.baseline,) if args.baseline in data_set.files else tuple(data_set.files)
    parts = open_examples(data_set, args, modalities)
    check_data(args, parts, state, path)
    encoders = {m: build_encoder(data_set, args, m) for m in modalities}
    streams = assemble_encoders(data_set, args, encoders)
    known = state["genotype"]
    readers = {"fusion": FusionReader(streams.tap_names, streams.level_names, args.C, SEQUENCES)}
    genotype = architecture_from_json(known, str(path), readers) if known else None
    model = found_classifier(args, streams, genotype)
    checkpoint.load_state(model, state["model"], str(path))
    model = compute.place(model)
    if args.dry_run:
        print_dry_run({"parameters": count_parameters(model), "examples": len(parts.records(args.eval_part))})
        return

    run, started = start_run("test", args, parts, []), time.perf_counter()
    parts = cached(parts, model=model, compute=compute, log=run.log, plain=(args.eval_part,), **cache_options(args))
    task = task_of(data_set, args)
    session = Session(model, task, compute, Guard(compute.device))
    validate, answers = validator(session, parts, args.eval_part, full=True)
    metrics = validate()
    run.write_json("timing.json", {"wall_seconds": round(time.perf_counter() - started, 3)})
    run.write_json(task.ANSWERS, answers)
    facts = {"part": args.eval_part, "pairs": len(answers), "eval_exp_dir": args.eval_exp_dir}
    facts |= {"method": f"genotype {genotype.id}" if genotype else args.baseline}
    facts |= {f"genotype_{name}": genotype.meta.get(name) if genotype else None for name in ("protocol", "split")}
    facts |= facts_of(state, task) | {"parameters": count_parameters(model), "commit": commit()}
    facts["parameters_fusion"] = count_parameters(model.fusions) + count_parameters(model.reshape)
    results = run.write_json("results.json", metrics | facts)
    with tracking(args, run) as tracker:
        tracker.log({"epoch": 0} | metrics)
    shown = {name: value for name, value in metrics.items() if value is not None and "_class_" not in name}
    run.log("  ".join(f"{name} {value:.4f}" for name, value in shown.items()))
    run.log(f"results: {results}")
    report(run, args, parts)


def facts_of(state: dict, task: Classification) -> dict[str, object]:
    """Return what results record of the training."""
    progress = state["progress"]
    facts = {"epoch": progress["best_epoch"], f"{task.METRIC}_val": progress["best"], "seed": state["args"]["seed"]}
    facts |= {"bad_files": len(state["bad_files"])}
    return facts | {name: state[name] for name in ("protocol", "split", "checkpoint_split")}


def take_options(args: argparse.Namespace, state: dict, data_set: DataSet, path: Path) -> None:
    """Take what decides the network and the data from the run."""
    for name in FROM_RUN:
        setattr(args, name, check_inherited(name, state["args"].get(name), f"{path}: args"))
    if "f1_type" in args and state["args"].get("f1_type") in F1_TYPES:
        args.f1_type = state["args"]["f1_type"]
    if args.baseline not in (None, "sum", "concat", *data_set.files):
        raise UserError(f"{path}: args.baseline: expected one of {data_set.name}, found {short(args.baseline)}")
    args.max_bad_files, args.augment, args.stream_lr = None, False, 0.0  # a score is one over all examples


def check_fields(state: dict, path: Path, data_set: DataSet) -> None:
    """Refuse a checkpoint that is not of a training run of this data set."""
    for name, expected in {"kind": "found", "data_set": data_set.name, "format": checkpoint.FORMAT}.items():
        if state.get(name) != expected:
            raise UserError(f"{path}: {name}: expected {expected}, found {short(state.get(name))}")
    wrong = [name for name, kind in FIELDS.items() if not isinstance(state.get(name), kind)]
    inner = {"args": ("seed", *FROM_RUN), "progress": ("best", "best_epoch")}
    wrong = wrong or [f"{field}.{name}" for field, names in inner.items() for name in names if name not in state[field]]
    if wrong:
        raise UserError(f"{path}: {wrong[0]}: expected this field of a checkpoint of format 1, found nothing like it")


def check_data(args: argparse.Namespace, parts, state: dict, path: Path) -> None:
    """Refuse other classes than were learned, and `val` of another split."""
    if state.get("classes") != parts.data.classes:
        raise UserError(f"{path}: classes: expected those of the data, found {short(state.get('classes'))}")
    if not parts.records(args.eval_part):
        raise UserError(f"{args.data}: {args.eval_part} list: expected examples, found none")
    if args.eval_part == "val" and parts.split.hash != state.get("split"):
        raise UserError(
            f"--eval_part val: expected split {state.get('split')} as in training, found {parts.split.hash}"
        )

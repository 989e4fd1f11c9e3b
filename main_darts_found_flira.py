"""Train a found network (or a hand-made fusion, one modality, a random genotype), or test a trained one.

Training learns on train + arch and chooses the epoch on `val`; it never reads the test pairs. With --eval_exp_dir
nothing is trained: the run's best.pt is tested, once, into a run folder of its own.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from datasets.parts import Parts
from engine.train import Progress, train, warm_restarts
from models.fusion_baselines import BASELINES
from models.fusion_detector import FusionDetector, baseline_fusions, found_fusions
from models.search.derive import in_words
from models.search.genotype_io import genotype_from_json, read_genotype
from models.search.genotypes import Genotype, Space, genotype_to_json, random_genotype
from models.search.parameters import weight_parameters
from utils import checkpoint
from utils.args import command, inherit, parse, plain
from utils.errors import UserError
from utils.experiment import (
    build_head,
    build_streams,
    check_batch,
    check_split,
    inherit_pretrained,
    load_head,
    load_streams,
    open_data,
    pick_compute,
)
from utils.options import make_parser
from utils.reporting import TASK, Recorder, count_parameters, next_command, print_dry_run, start_run, validator
from utils.run_folder import commit, read_json, write_json
from utils.seed import seed_everything
from utils.tracking import Tracker

SOURCES = ("search_exp_dir", "genotype", "baseline", "random_genotype")
SPACE = ("steps", "multiplier", "node_steps", "node_multiplier")
STREAMS = ("backbone", "C", "num_input_nodes", "fusion_levels", "anchor_scale", "num_classes", "image_size")
DATA = ("dataset", "split_seed", "paper_protocol")
FROM_SEARCH = (*STREAMS, *DATA, "checkpointdir", "fullbb_path", "head_path")
FOR_TEST = ("data", "config", "search_exp_dir", "eval_exp_dir", "results", "eval_part", "batchsize", "workers")
FOR_TEST += ("pin_mem", "device", "amp", "save", "wandb", "dry_run", *STREAMS, *DATA)


@command
def main(argv: list[str]) -> None:
    args = parse(make_parser, argv, "found")
    if args.num_keep_edges != 2:
        raise UserError(
            f"--num_keep_edges: expected 2 (a genotype has two edges per node), found {args.num_keep_edges}"
        )
    seed_everything(args.seed)
    (test_found if args.eval_exp_dir else train_found)(args)


def train_found(args: argparse.Namespace) -> None:
    """Train what one of the four sources says; writes last.pt, best.pt and the best epoch's detections on `val`."""
    source = pick_source(args)
    inherit_sizes(args, source)
    compute = pick_compute(args)
    parts = open_data(args)
    checkpoint_split = check_split(args, parts.split)
    streams = load_streams(args)
    check_batch(args, parts, parts.learning)
    genotype = load_genotype(args, source, streams.tap_names, streams.level_names)
    head = load_head(args, head_file(args))
    model = compute.place(assemble(args, streams, head, genotype, parts))
    loader = parts.loader(*parts.learning, train=True)
    if args.dry_run:
        print_dry_run(describe(model, genotype) | {"steps_per_epoch": len(loader), "epochs": args.epochs})
        return

    run = start_run("found", args, parts)
    run.log(f"split of the checkpoints: {checkpoint_split}; head from {head_file(args)}")
    if genotype:
        run.write_json("genotype.json", genotype_to_json(genotype))
        run.log(f"genotype {genotype.id}: {in_words(genotype)}")
    tracker = Tracker(args.wandb, run.path, plain(args))
    optimizer = torch.optim.Adam(weight_parameters(model), lr=args.eta_max, weight_decay=args.weight_decay)
    schedule = warm_restarts(optimizer, len(loader), args.Ti, args.Tm, args.eta_min)
    validate, detections = validator(model, parts, "val", compute)
    progress = Progress()
    facts = {"kind": "found", "args": plain(args), "split": parts.split.hash, "protocol": parts.split.protocol}
    facts["checkpoint_split"] = checkpoint_split
    facts["genotype"] = genotype_to_json(genotype) if genotype else None
    record = Recorder(run, tracker, model, progress, facts)

    def on_epoch(row: dict, is_best: bool) -> None:
        record(row, is_best)
        if is_best:
            run.write_json("detections.json", detections)

    train(model, TASK, optimizer, schedule, loader, validate, args.epochs, compute, progress, on_epoch)
    tracker.finish()
    run.log(progress.in_words(TASK.METRIC))
    run.log(f"eval_exp_dir: {run.path}")
    options = {"search_exp_dir": args.search_exp_dir} if args.search_exp_dir else {}
    options |= {"eval_exp_dir": run.path} | ({} if args.config else {"batchsize": args.batchsize})
    run.log(next_command("main_darts_found_flira.py", args, options, ("config", "workers", "device", "amp")))


def test_found(args: argparse.Namespace) -> None:
    """Test RUN/best.pt on the test pairs (or `val`); writes results.json and detections.json into runs/test-*."""
    trained = Path(args.eval_exp_dir)
    state = checkpoint.load(trained / "best.pt")
    if state.get("kind") != "found":
        raise UserError(f"{trained}/best.pt: expected a run of main_darts_found_flira.py, found {state.get('kind')!r}")
    run_args = state["args"]
    if args.results and (Path(args.results).is_dir() or not Path(args.results).parent.is_dir()):
        raise UserError(f"--results {args.results}: expected a file in a folder that exists")
    check_agreement(args, run_args, state)
    inherit(args, run_args, (*STREAMS, *DATA, "baseline"), over_config=True)
    compute = pick_compute(args)
    parts = open_data(args)
    if args.eval_part == "val" and parts.split.hash != state["split"]:
        raise UserError(f"--eval_part val: expected split {state['split']} as in training, found {parts.split.hash}")
    streams = build_streams(args)
    names = streams.tap_names, streams.level_names
    genotype = (
        genotype_from_json(state["genotype"], f"{trained}/best.pt", *names, args.C) if state["genotype"] else None
    )
    model = assemble(args, streams, build_head(args), genotype, parts)
    checkpoint.load_state(model, state["model"], f"{trained}/best.pt")
    if args.dry_run:
        print_dry_run(describe(model, genotype) | {"pairs": len(parts.records(args.eval_part))})
        return

    run = start_run("test", args, parts)
    ignored = sorted(args.typed - set(FOR_TEST))
    if ignored:
        run.log(f"ignored, since a test trains nothing: {', '.join('--' + name for name in ignored)}")
    tracker = Tracker(args.wandb, run.path, plain(args))
    validate, detections = validator(compute.place(model), parts, args.eval_part, compute)
    started = time.perf_counter()
    metrics = validate()
    run.write_json("timing.json", {"wall_seconds": round(time.perf_counter() - started, 3)})
    facts = {
        "part": args.eval_part,
        "pairs": len(parts.records(args.eval_part)),
        "method": args.baseline or f"genotype {genotype.id}",
        "eval_exp_dir": str(trained),
        "epoch": state["progress"]["best_epoch"],
        "AP_val": state["progress"]["best"],
        "seed": run_args["seed"],
        "parameters_fusion": count_parameters(model.fusions),
        "protocol": state["protocol"],
        "split": state["split"],
        "genotype_protocol": genotype.meta.get("protocol") if genotype else None,
        "genotype_split": genotype.meta.get("split") if genotype else None,
        "checkpoint_split": state["checkpoint_split"],
        "commit": commit(),
    }
    run.write_json("detections.json", detections)
    if args.results:
        write_json(Path(args.results), detections)
    results = run.write_json("results.json", metrics | facts)
    tracker.log({"epoch": 0} | metrics)
    tracker.finish()
    run.log("  ".join(f"{k} {v:.4f}" for k, v in metrics.items() if v is not None))
    run.log(f"results: {results}")


def pick_source(args: argparse.Namespace) -> str:
    """Return which of the four says what to train; refuse none, several, and options that would be ignored."""
    named = [s for s in SOURCES if getattr(args, s) is not None]
    if len(named) != 1:
        options = ", ".join("--" + s for s in SOURCES)
        raise UserError(f"expected exactly one of {options}, found {', '.join('--' + s for s in named) or 'none'}")
    unused = [n for n in SPACE if n in args.typed and named[0] != "random_genotype"]
    unused += [n for n in ("results", "eval_part") if n in args.typed]
    unused += ["drpt"] if "drpt" in args.typed and named[0] == "baseline" else []
    if unused:
        whys = {"results": "it belongs to --eval_exp_dir", "drpt": "a baseline has no dropout"}
        why = (whys | {"eval_part": whys["results"]}).get(unused[0], "sizes come from the genotype")
        raise UserError(f"{', '.join('--' + n for n in unused)}: no effect with --{named[0]}: {why}")
    return named[0]


def inherit_sizes(args: argparse.Namespace, source: str) -> None:
    """Take what is not given from the search run, else from the pretraining of checkpointdir."""
    if source == "search_exp_dir":
        inherit(args, read_json(Path(args.search_exp_dir) / "args.json"), FROM_SEARCH)
    else:
        inherit_pretrained(args)


def load_genotype(
    args: argparse.Namespace, source: str, inputs: tuple[str, ...], levels: tuple[str, ...]
) -> Genotype | None:
    """Return the genotype that the source names; None for a baseline."""
    if source == "baseline":
        return None
    if source == "random_genotype":
        space = Space(len(inputs), args.C, *(getattr(args, n) for n in SPACE))
        return random_genotype(space, inputs, levels, args.random_genotype)
    path = args.genotype or Path(args.search_exp_dir) / "genotype.json"
    return read_genotype(path, inputs, levels, args.C)


def head_file(args: argparse.Namespace) -> Path:
    """Return the head to start from: a modality's own where it alone is trained and its file is there."""
    own = Path(args.checkpointdir) / f"{args.baseline}_head.pth"
    alone = args.baseline and len(BASELINES[args.baseline][0]) == 1 and "head_path" not in args.given
    return own if alone and own.exists() else Path(args.checkpointdir) / args.head_path


def assemble(args: argparse.Namespace, streams, head, genotype: Genotype | None, parts: Parts) -> FusionDetector:
    """Build the detector around the fusion networks of a genotype or baseline."""
    if genotype is None:
        fusions, modalities = baseline_fusions(args.baseline, args.C, args.fusion_levels)
        return FusionDetector(streams, fusions, head, parts.data.normalization, args.anchor_scale, modalities)
    fusions = found_fusions(genotype, args.drpt)
    return FusionDetector(streams, fusions, head, parts.data.normalization, args.anchor_scale)


def check_agreement(args: argparse.Namespace, run_args: dict, state: dict) -> None:
    """Refuse options of a test that contradict the run that is tested."""
    others = [n for n in SOURCES[1:] if n in args.typed]
    if others:
        raise UserError(f"--{others[0]}: no effect with --eval_exp_dir: the architecture comes from the run")
    for name in (*STREAMS, *DATA):
        ours, theirs = (json.loads(json.dumps(value)) for value in (getattr(args, name), run_args[name]))
        if name in args.typed and ours != theirs:
            raise UserError(f"--{name}: expected {theirs} as in {args.eval_exp_dir}, found {ours}")
    if args.search_exp_dir:
        searched = read_json(Path(args.search_exp_dir) / "genotype.json")
        trained = state.get("genotype") or {}
        if searched.get("cells") != trained.get("cells"):
            raise UserError(
                f"--search_exp_dir {args.search_exp_dir}: expected genotype {trained.get('id')} as trained in "
                f"{args.eval_exp_dir}, found {searched.get('id')}"
            )


def describe(model: FusionDetector, genotype: Genotype | None) -> dict[str, object]:
    parts = {"streams": model.streams, "fusion": model.fusions, "head": model.head}
    sizes = {f"parameters_{name}": count_parameters(part) for name, part in parts.items()}
    return sizes | ({"genotype": genotype.id, "in_words": in_words(genotype)} if genotype else {})


if __name__ == "__main__":
    sys.exit(main())

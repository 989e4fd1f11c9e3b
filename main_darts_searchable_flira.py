"""Search the fusion architecture of NAS-DSF on frozen streams: writes RUN/genotype.json.

Weights learn on `train`, logits on `arch`; the genotype that counts is that of the epoch whose supernet has the best
AP on `val`. The test pairs are not read. Next: main_darts_found_flira.py --search_exp_dir RUN.
"""

import argparse
import sys
from pathlib import Path

import torch

from engine.search import Bilevel, search
from engine.train import Progress, warm_restarts
from models.fusion_detector import FusionDetector, searchable_fusions
from models.search.derive import derive, describe
from models.search.genotypes import Genotype, Space, genotype_to_json
from models.search.parameters import arch_parameters, weight_parameters
from utils.args import command, parse, plain
from utils.caching import cache_sizes, cached, check_caching
from utils.errors import UserError
from utils.experiment import (
    check_batch,
    check_facts,
    check_split,
    inherit_pretrained,
    load_head,
    load_streams,
    open_data,
    pick_compute,
)
from utils.options import make_parser
from utils.reporting import TASK, Recorder, count_parameters, next_command, print_dry_run, start_run, validator
from utils.run_folder import commit
from utils.seed import seed_everything
from utils.tracking import Tracker


@command
def main(argv: list[str]) -> None:
    args = parse(make_parser, argv, "search")
    inherit_pretrained(args)
    check_combinations(args)
    check_caching(args, learns=True)
    seed_everything(args.seed)
    compute = pick_compute(args)
    parts = open_data(args)
    checkpoint_split = check_split(args, parts.split)
    check_facts(args, parts.data)
    model = compute.place(build_model(args, parts))
    check_batch(args, parts, ("train",), ("arch",))
    if args.dry_run:
        steps = {"weight_steps_per_epoch": compute.num_steps(parts.loader("train", train=True)), "epochs": args.epochs}
        print_dry_run(sizes(model) | steps | cache_sizes(args, parts, model, compute, ("train", "arch"), ("val",)))
        return

    run = start_run("search", args, parts)
    run.log(f"split of the checkpoints: {checkpoint_split}")
    parts = cached(args, parts, model, compute, run.log, ("train", "arch"), ("val",))
    train_loader, arch_loader = (parts.loader(part, train=True) for part in ("train", "arch"))
    tracker = Tracker(args.wandb, run.path, plain(args))
    weights = torch.optim.Adam(weight_parameters(model), lr=args.eta_max, weight_decay=args.weight_decay, fused=True)
    rates = {"lr": args.arch_learning_rate, "weight_decay": args.arch_weight_decay}
    logits = torch.optim.Adam(arch_parameters(model), betas=(0.5, 0.999), fused=True, **rates)
    schedule = warm_restarts(weights, compute.num_steps(train_loader), args.Ti, args.Tm, args.eta_min)
    validate, _ = validator(model, parts, "val", compute)
    progress = Progress()
    facts = {"kind": "search", "args": plain(args), "split": parts.split.hash, "protocol": parts.split.protocol}
    facts["checkpoint_split"] = checkpoint_split
    record = Recorder(run, tracker, model, progress, facts, parts.bad_files)

    def on_epoch(row: dict, is_best: bool) -> None:
        record(row, is_best)
        run.log(f"  genotype {row['genotype']}: {row['argmax']}")
        if is_best:
            genotype = derived(model, meta(args, parts, checkpoint_split, row))
            run.write_json("genotype.json", genotype_to_json(genotype))

    second_order = args.strategy == "darts2"
    sides = Bilevel(
        model, TASK, weights, logits, schedule, train_loader, arch_loader, args.alternate, second_order, compute
    )
    search(sides, validate, lambda: describe(model.fusions, derived(model, {})), args.epochs, progress, on_epoch)
    tracker.finish()
    run.log(progress.in_words(TASK.METRIC))
    run.log(f"search_exp_dir: {run.path}")
    options = {"search_exp_dir": run.path} | ({} if args.config else {"epochs": 50, "batchsize": 8})
    carried = ("config", "allow_split_mismatch", "max_bad_files", "workers", "device")
    run.log(next_command("main_darts_found_flira.py", args, options, carried))


def check_combinations(args: argparse.Namespace) -> None:
    """Refuse what the space does not define and what would be ignored."""
    if args.num_keep_edges != 2:
        raise UserError(
            f"--num_keep_edges: expected 2 (derivation keeps two edges per node), found {args.num_keep_edges}"
        )
    if args.amp and args.strategy == "darts2":
        raise UserError("--strategy darts2: expected float32, found --amp: finite differences need the digits")
    if args.accum > 1 and args.strategy == "darts2":
        raise UserError(f"--strategy darts2: expected --accum 1 (its gradient is of one batch), found {args.accum}")


def build_model(args: argparse.Namespace, parts) -> FusionDetector:
    """Build the supernet on the pretrained streams, with the pretrained shared head."""
    streams = load_streams(args)
    head = load_head(args, Path(args.checkpointdir) / args.head_path)
    sizes = args.steps, args.multiplier, args.node_steps, args.node_multiplier
    space = Space(args.num_input_nodes, args.C, *sizes)
    fusions = searchable_fusions(space, args.fusion_levels, args.drpt)
    return FusionDetector(streams, fusions, head, parts.data.normalization, args.anchor_scale)


def derived(model: FusionDetector, facts: dict) -> Genotype:
    return derive(model.fusions, model.streams.tap_names, model.streams.level_names, facts)


def meta(args: argparse.Namespace, parts, checkpoint_split: str, row: dict) -> dict:
    """Return where a genotype came from."""
    return {
        "seed": args.seed,
        "epoch": row["epoch"],
        "AP_val": row["AP_val"],
        "split": parts.split.hash,
        "protocol": parts.split.protocol,
        "checkpoint_split": checkpoint_split,
        "args": plain(args),
        "commit": commit(),
    }


def sizes(model: FusionDetector) -> dict[str, int]:
    return {
        "parameters_streams": count_parameters(model.streams),
        "parameters_fusion": count_parameters(model.fusions),
        "parameters_head": count_parameters(model.head),
        "logits": sum(p.numel() for p in arch_parameters(model)),
    }


if __name__ == "__main__":
    sys.exit(main())

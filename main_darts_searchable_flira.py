"""Search the fusion architecture of NAS-DSF on frozen streams: writes RUN/genotype.json.

Weights learn on `train`, logits on `arch`; the genotype that counts is that of the epoch whose supernet has the best
AP on `val`. The test pairs are not read. Next: main_darts_found_flira.py --search_exp_dir RUN.
"""

import argparse
import sys
from pathlib import Path

import torch

from datasets.parts import Parts
from engine.guard import Guard
from engine.progress import Row
from engine.search import Bilevel, search
from engine.step import Compute, Session
from engine.train import warm_restarts
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
from utils.keeper import Keeper
from utils.options import make_parser
from utils.reporting import TASK, Recorder, count_parameters, next_command, print_dry_run, tracking, validator
from utils.resume import finish, running, say_if_finished, take_up
from utils.run_folder import RunFolder, commit
from utils.seed import seed_everything
from utils.signals import Stop


@command
def main(argv: list[str]) -> None:
    args = take_up(parse(make_parser, argv, "search"), "search", make_parser)
    if say_if_finished(args.resume):
        return
    if not args.resume:  # whose options are all there
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

    with running("search", args, parts) as (run, stop):
        run.log(f"split of the checkpoints: {checkpoint_split}")
        run_search(args, parts, model, compute, checkpoint_split, run, stop)


def run_search(
    args: argparse.Namespace,
    parts: Parts,
    model: FusionDetector,
    compute: Compute,
    checkpoint_split: str,
    run: RunFolder,
    stop: Stop,
) -> None:
    """Search, from where the run was left."""
    session = Session(model, TASK, compute, Guard(compute.device, args.max_bad_steps, run.log))
    facts = {"kind": "search", "args": plain(args), "split": parts.split.hash, "protocol": parts.split.protocol}
    facts["checkpoint_split"] = checkpoint_split
    keeper = Keeper(run, session, facts, parts.digest, parts.bad_files, args.checkpoint_every, stop)
    parts = cached(args, parts, model, compute, run.log, ("train", "arch"), ("val",))
    keeper.note_features(parts)
    loaders = {part: parts.loader(part, train=True) for part in ("train", "arch")}
    weights = torch.optim.Adam(weight_parameters(model), lr=args.eta_max, weight_decay=args.weight_decay, fused=True)
    rates = {"lr": args.arch_learning_rate, "weight_decay": args.arch_weight_decay}
    logits = torch.optim.Adam(arch_parameters(model), betas=(0.5, 0.999), fused=True, **rates)
    schedule = warm_restarts(weights, compute.num_steps(loaders["train"]), args.Ti, args.Tm, args.eta_min)
    owners = {"weights": weights, "logits": logits, "schedule": schedule, **loaders}
    validate, _ = validator(session, parts, "val")

    def genotype_files(row: Row) -> dict[str, object]:
        return {"genotype.json": genotype_to_json(derived(model, meta(args, parts, checkpoint_split, row)))}

    with tracking(args, run) as tracker, keeper.at_work(**owners):
        record = Recorder(keeper, tracker, genotype_files)

        def on_epoch(row: Row, is_best: bool) -> None:
            record(row, is_best)
            run.log(f"  genotype {row['genotype']}: {row['argmax']}")

        sides = (loaders["train"], loaders["arch"], args.alternate, args.strategy == "darts2")
        bilevel = Bilevel(session, weights, logits, schedule, *sides)
        search(bilevel, validate, lambda: describe(model.fusions, derived(model, {})), args.epochs, on_epoch)
    options = {"search_exp_dir": run.path} | ({} if args.config else {"epochs": 50, "batchsize": 8})
    carried = ("config", "allow_split_mismatch", "max_bad_files", "workers", "device")
    following = next_command("main_darts_found_flira.py", args, options, carried)
    finish(run, [session.progress.in_words(TASK.METRIC), f"search_exp_dir: {run.path}", following])


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


def build_model(args: argparse.Namespace, parts: Parts) -> FusionDetector:
    """Build the supernet on the pretrained streams, with the pretrained shared head."""
    streams = load_streams(args)
    head = load_head(args, Path(args.checkpointdir) / args.head_path)
    sizes = args.steps, args.multiplier, args.node_steps, args.node_multiplier
    space = Space(args.num_input_nodes, args.C, *sizes)
    fusions = searchable_fusions(space, args.fusion_levels, args.drpt)
    return FusionDetector(streams, fusions, head, parts.data.normalization, args.anchor_scale)


def derived(model: FusionDetector, facts: dict) -> Genotype:
    return derive(model.fusions, model.streams.tap_names, model.streams.level_names, facts)


def meta(args: argparse.Namespace, parts: Parts, checkpoint_split: str, row: Row) -> dict:
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

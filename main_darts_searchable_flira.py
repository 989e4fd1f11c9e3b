"""Search the fusion architecture of NAS-DSF on frozen streams: writes RUN/genotype.json.

Weights learn on `train`, logits on `arch`; the genotype that counts is that of the epoch whose supernet has the best
AP on `val`. The test pairs are not read. Next: main_darts_found_flira.py --search_exp_dir RUN.
"""

import argparse
import random
import sys
from pathlib import Path

import torch

from datasets.parts import Parts
from engine.guard import Guard
from engine.progress import Row
from engine.search import search
from engine.step import Compute, Session
from models.fusion_detector import FusionDetector, searchable_fusions
from models.search.genotypes import genotype_to_json
from models.search.parameters import arch_parameters
from models.search.random_genotypes import draw_cell
from models.search.relaxations import Stage
from models.search.spaces import Space, input_names, num_neighbours
from models.search.strategies import STRATEGIES
from utils.args import command, parse, plain
from utils.caching import cache_sizes, cached, check_caching
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
from utils.memory import memory_estimate
from utils.options import make_parser
from utils.reporting import TASK, Recorder, count_parameters, next_command, print_dry_run, tracking
from utils.resume import finish, running, say_if_finished, take_up
from utils.run_folder import ALPHAS, RunFolder, commit
from utils.searching import Searching, check_combinations, learning_state, met_parts
from utils.seed import seed_everything
from utils.seeds import each_seed
from utils.settling import Settling
from utils.signals import Stop
from utils.tracked_files import track_files


@command
def main(argv: list[str]) -> None:
    for args in each_seed(parse(make_parser, argv, "search"), "search"):
        run_once(args)


def run_once(args: argparse.Namespace) -> None:
    """Do what the options say, with their one seed."""
    args = take_up(args, "search", make_parser)
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
        as_in_a_step(model, args)
        memory = memory_estimate(model, model.streams.modalities, args.image_size, args.batchsize, compute)
        print_dry_run(sizes(model) | steps | memory | cache_sizes(args, parts, model, compute, *met_parts(args)))
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
    initial = {name: tensor.clone() for name, tensor in learning_state(model).items()}
    session = Session(model, TASK, compute, Guard(compute.device, args.max_bad_steps, run.log))
    facts = {"kind": "search", "args": plain(args), "split": parts.split.hash, "protocol": parts.split.protocol}
    facts["checkpoint_split"] = checkpoint_split

    def make_keeper(session: Session, phase: str = "") -> Keeper:
        known = facts, parts.digest, parts.bad_files
        return Keeper(run, session, *known, args.checkpoint_every, stop, phase)

    keeper = make_keeper(session)
    parts = cached(args, parts, model, compute, run.log, *met_parts(args))
    keeper.note_features(parts)
    searching = Searching(args, session, parts, run, initial)
    validate = searching.validation()

    def genotype_files(row: Row) -> dict[str, object]:
        known = meta(args, parts, checkpoint_split, row["epoch"], row["AP_val"])
        return {"genotype.json": genotype_to_json(searching.derived(known, row["epoch"]))}

    with tracking(args, run) as tracker:
        learner = searching.learner()
        with keeper.at_work(**learner.owners):
            record = Recorder(keeper, tracker, genotype_files)

            def on_epoch(row: Row, is_best: bool) -> None:
                if alphas := searching.alphas():
                    run.append_row({"epoch": row["epoch"], "levels": alphas}, ALPHAS)
                record(row, is_best)
                run.log(f"  genotype {row['genotype']}: {row['argmax']}")
                searching.warn(row)

            reason = search(learner, validate, searching.describe, args.epochs, on_epoch, searching.enough)
        run.log(f"ended early: {reason}" if reason else f"all {args.epochs} epochs done")
        known = meta(args, parts, checkpoint_split, session.progress.best_epoch, session.progress.best)
        with torch.compiler.set_stance("force_eager"):  # one network after the other, each for a moment
            genotype = Settling(searching, make_keeper, tracker, known).settle()
        run.write_json("genotype.json", genotype_to_json(genotype))
        track_files(tracker, run, parts, "val")
    options = {"search_exp_dir": run.path} | ({} if args.config else {"epochs": 50, "batchsize": 8})
    carried = ("config", "allow_split_mismatch", "max_bad_files", "workers", "device")
    following = next_command("main_darts_found_flira.py", args, options, carried)
    finish(run, args, parts, [session.progress.in_words(TASK.METRIC), f"search_exp_dir: {run.path}", following])


def build_model(args: argparse.Namespace, parts: Parts) -> FusionDetector:
    """Build the supernet on the pretrained streams, with the pretrained shared head."""
    streams = load_streams(args)
    head = load_head(args, Path(args.checkpointdir) / args.head_path)
    sizes = args.steps, args.multiplier, args.node_steps, args.node_multiplier
    inputs = len(input_names(args.space, streams.tap_names, args.fusion_levels))
    space = Space(inputs, args.C, *sizes, name=args.space, pair_inputs=args.pair_inputs)
    strategy = STRATEGIES[args.strategy]
    fusions = searchable_fusions(space, args.fusion_levels, args.drpt, strategy.relaxation, strategy.partial)
    neighbours = num_neighbours(args.space, args.fusion_levels)
    return FusionDetector(streams, fusions, head, parts.data.normalization, args.anchor_scale, neighbours)


def as_in_a_step(model: FusionDetector, args: argparse.Namespace) -> None:
    """Let the supernets run what a step runs: one genotype where it trains one, what is drawn where it draws."""
    for fusion in model.fusions:
        if STRATEGIES[args.strategy].learns != "logits":
            fusion.take(draw_cell(fusion.space, random.Random(args.seed)))
        fusion.stage = Stage(0.0, "weights")


def meta(args: argparse.Namespace, parts: Parts, checkpoint_split: str, epoch: int, score: float | None) -> dict:
    """Return where a genotype came from."""
    return {
        "seed": args.seed,
        "epoch": epoch,
        "AP_val": score,
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

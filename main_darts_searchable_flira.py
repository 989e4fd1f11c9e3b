"""Search the fusion architecture of NAS-DSF on frozen streams: writes RUN/genotype.json.

Weights learn on `train`, logits on `arch`; the genotype that counts is that of the epoch whose supernet has the best
AP on `val`. The test pairs are not read. Next: main_darts_found_flira.py --search_exp_dir RUN.
"""

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path

from commands.options import make_parser
from commands.run import is_finished, resume_options, running
from commands.several_seeds import each_seed
from commands.strategy import CACHED_PARTS, check_combinations
from datasets.data_module import DataModule
from engine.feature_caching import cache_sizes, cached
from engine.memory_estimate import memory_estimate
from models.detection.detector import FusionDetector
from models.detection.fusions import searchable_fusions
from models.search.fusion_cells.choices import input_names, num_neighbours
from models.search.fusion_cells.random_genotypes import draw_cell
from models.search.fusion_cells.space import Space
from models.search.parameters import arch_parameters
from models.search.relaxations import Stage
from models.search.strategies import STRATEGIES
from tasks.detection import task as detection
from utils.args import command, parse
from utils.experiment import (
    cache_options,
    check_batch,
    check_cache_options,
    check_facts,
    check_split,
    inherit_pretrained,
    load_head,
    load_streams,
    open_data,
    pick_compute,
    warnings,
)
from utils.learning import Setting, run_search
from utils.reporting import count_parameters, next_command_line, print_dry_run
from utils.run_folder import RunFolder
from utils.seed import seed_everything


@command
def main(argv: list[str]) -> None:
    for args in each_seed(parse(make_parser, argv, "search"), "search"):
        run_once(args)


def run_once(args: argparse.Namespace) -> None:
    """Do what the options say, with their one seed."""
    args = resume_options(args, "search", make_parser)
    if is_finished(args.resume):
        return
    if not args.resume:  # whose options are all there
        inherit_pretrained(args)
    check_combinations(args)
    seed_everything(args.seed)
    compute = pick_compute(args)
    parts = open_data(args)
    check_cache_options(args, parts)
    checkpoint_split = check_split(args, parts.split)
    check_facts(args, parts.data)
    model = compute.place(build_model(args, parts))
    check_batch(args, parts, ("train",), ("arch",))
    if args.dry_run:
        steps = {"weight_steps_per_epoch": compute.num_steps(parts.loader("train", train=True)), "epochs": args.epochs}
        as_in_a_step(model, args)
        memory = memory_estimate(model, model.streams.modalities, args.image_size, args.batchsize, compute)
        cache = cache_sizes(parts, model=model, compute=compute, dtype=args.cache_dtype, **CACHED_PARTS)
        print_dry_run(sizes(model) | steps | memory | cache)
        return

    def cache(log: Callable[[str], None]) -> DataModule:
        return cached(parts, model=model, compute=compute, log=log, **CACHED_PARTS, **cache_options(args))

    def next_command(run: RunFolder) -> str:
        options = {"search_exp_dir": run.path} | ({} if args.config else {"epochs": 50, "batchsize": 8})
        carried = ("config", "allow_split_mismatch", "max_bad_files", "workers", "device")
        return next_command_line("main_darts_found_flira.py", args, options, carried)

    facts = {"checkpoint_split": checkpoint_split}
    with running("search", args, parts, warnings(args, "search")) as (run, stop):
        run.log(f"split of the checkpoints: {checkpoint_split}")
        run_search(Setting(args, parts, model, detection, compute, facts, cache, next_command), run, stop)


def build_model(args: argparse.Namespace, parts: DataModule) -> FusionDetector:
    """Build the supernet on the pretrained streams, with the pretrained shared head."""
    streams = load_streams(args)
    head = load_head(args, Path(args.checkpointdir) / args.head_path)
    sizes = args.steps, args.multiplier, args.node_steps, args.node_multiplier
    inputs = len(input_names(args.space, streams.tap_names, args.fusion_levels))
    space = Space(inputs, args.C, *sizes, name=args.space, pair_inputs=args.pair_inputs)
    strategy = STRATEGIES[args.strategy]
    fusions = searchable_fusions(space, args.fusion_levels, args.drpt, strategy.relaxation, strategy.partial)
    neighbours = num_neighbours(args.space, args.fusion_levels)
    return FusionDetector(streams, fusions, head, parts.data.normalization, neighbours)


def as_in_a_step(model: FusionDetector, args: argparse.Namespace) -> None:
    """Let the supernets run what a step runs: one genotype where it trains one, what is drawn where it draws."""
    for fusion in model.fusions:
        if STRATEGIES[args.strategy].searcher != "gradient":
            fusion.take(draw_cell(fusion.space, random.Random(args.seed)))
        fusion.stage = Stage(0.0, "weights")


def sizes(model: FusionDetector) -> dict[str, int]:
    return {
        "parameters_streams": count_parameters(model.streams),
        "parameters_fusion": count_parameters(model.fusions),
        "parameters_head": count_parameters(model.head),
        "logits": sum(p.numel() for p in arch_parameters(model)),
    }


if __name__ == "__main__":
    sys.exit(main())

"""Train a found network (or a hand-made fusion, one modality, a random genotype), or test a trained one.

Training learns on train + arch and chooses the epoch on `val`; it never reads the test pairs. With --eval_exp_dir
nothing is trained: the run's best.pt is tested, once, into a run folder of its own (utils/testing.py).
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from commands.options import make_parser
from commands.recipe import check_recipe
from commands.run import is_finished, resume_options, running
from commands.several_seeds import each_seed
from datasets.data_module import DataModule
from engine.feature_caching import cache_sizes, cached
from engine.memory_estimate import memory_estimate
from models.search.fusion_cells.choices import input_names
from models.search.fusion_cells.derive import in_words
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.genotype_file import read_genotype
from models.search.fusion_cells.random_genotypes import random_genotype
from models.search.fusion_cells.space import Space
from tasks.detection import task as detection
from utils.args import command, parse
from utils.distributed import ranks
from utils.errors import UserError
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
from utils.found import (
    DATA,
    STREAMS,
    assemble,
    check_dropout,
    check_widening,
    describe,
    matching_width,
    needed_modalities,
)
from utils.inherit import inherit
from utils.learning import Setting, run_training
from utils.reporting import next_command_line, print_dry_run
from utils.run_folder import RunFolder, read_json
from utils.seed import seed_everything
from utils.testing import test_box_fusion, test_found

SOURCES = ("search_exp_dir", "genotype", "baseline", "random_genotype")
SPACE = ("space", "steps", "multiplier", "node_steps", "node_multiplier")
FROM_SEARCH = (*STREAMS, *DATA, "overfit", "checkpointdir", "fullbb_path", "head_path")
FOR_TEST = ("results", "eval_part", "robustness", "box_fusion", "partner_exp_dir")


@command
def main(argv: list[str]) -> None:
    for args in each_seed(parse(make_parser, argv, "found"), "found"):
        run_once(args)


def run_once(args: argparse.Namespace) -> None:
    """Do what the options say, with their one seed."""
    args = resume_options(args, "found", make_parser)
    if is_finished(args.resume):
        return
    if args.num_keep_edges != 2:
        raise UserError(
            f"--num_keep_edges: expected 2 (a genotype has two edges per node), found {args.num_keep_edges}"
        )
    seed_everything(args.seed)
    if args.eval_exp_dir:
        (test_box_fusion if args.box_fusion else test_found)(args)
    else:
        train_found(args)


def train_found(args: argparse.Namespace) -> None:
    """Train what one of the four sources says; writes last.pt, best.pt and the best epoch's detections on `val`."""
    source = pick_source(args)
    check_recipe(args)
    check_widening(args)
    check_dropout(args)
    if not args.resume:  # whose options are all there
        args = ranks().broadcast_from_first(lambda: inherit_sizes(args, source))
    compute = pick_compute(args)
    parts = open_data(args)
    check_cache_options(args, parts)
    modalities = needed_modalities(args)
    checkpoint_split = check_split(args, parts.split, modalities)
    check_facts(args, parts.data)
    streams = load_streams(args, modalities)
    check_batch(args, parts, parts.learning)
    args.widen = ranks().broadcast_from_first(lambda: matching_width(args, streams))
    genotype = ranks().broadcast_from_first(lambda: load_genotype(args, source, streams.tap_names, streams.level_names))
    head = load_head(args, head_file(args))
    if args.stream_lr:
        streams.unfreeze()
    model = compute.place(assemble(args, streams, head, genotype, parts.data.normalization))
    if args.dry_run:
        steps = {"steps_per_epoch": compute.num_steps(parts.loader(*parts.learning, train=True)), "epochs": args.epochs}
        sizes = memory_estimate(model, modalities, args.image_size, args.batchsize, compute)
        where = {"learning": parts.learning, "plain": ("val",), "stream_lr": args.stream_lr}
        sizes |= cache_sizes(parts, model=model, compute=compute, dtype=args.cache_dtype, **where)
        print_dry_run(describe(model, genotype) | steps | sizes)
        return

    def cache(log: Callable[[str], None]) -> DataModule:
        where = {"learning": parts.learning, "plain": ("val",)}
        return cached(parts, model=model, compute=compute, log=log, **where, **cache_options(args))

    def next_command(run: RunFolder) -> str:
        options = {"search_exp_dir": args.search_exp_dir} if args.search_exp_dir else {}
        options |= {"eval_exp_dir": run.path} | ({} if args.config else {"batchsize": args.batchsize})
        return next_command_line("main_darts_found_flira.py", args, options, ("config", "workers", "device", "amp"))

    facts = {"checkpoint_split": checkpoint_split, "data": parts.data.facts}
    with running("found", args, parts, warnings(args, "found")) as (run, stop):
        run.log(f"split of the checkpoints: {checkpoint_split}; head from {head_file(args)}")
        if genotype:
            run.log(f"genotype {genotype.id}: {in_words(genotype)}")
        run_training(Setting(args, parts, model, detection, compute, facts, cache, next_command), genotype, run, stop)


def pick_source(args: argparse.Namespace) -> str:
    """Return which of the four says what to train; refuse none, several, and options that would be ignored."""
    for_test = [n for n in FOR_TEST if n in args.typed]
    if for_test:
        raise UserError(f"{', '.join('--' + n for n in for_test)}: expected --eval_exp_dir beside it, found none")
    named = [s for s in SOURCES if getattr(args, s) is not None]
    if len(named) != 1:
        options = ", ".join("--" + s for s in SOURCES)
        raise UserError(f"expected exactly one of {options}, found {', '.join('--' + s for s in named) or 'none'}")
    unused = [n for n in (*SPACE, "max_parameter_free") if n in args.typed and named[0] != "random_genotype"]
    unused += ["drpt"] if "drpt" in args.typed and named[0] == "baseline" else []
    if unused:
        why = "a baseline has no dropout" if unused == ["drpt"] else "sizes come from the genotype"
        raise UserError(f"{', '.join('--' + n for n in unused)}: no effect with --{named[0]}: {why}")
    return named[0]


def inherit_sizes(args: argparse.Namespace, source: str) -> argparse.Namespace:
    """Return the options with what is not given from the search run, else from the pretraining of checkpointdir."""
    if source == "search_exp_dir":
        path = Path(args.search_exp_dir) / "args.json"
        inherit(args, read_json(path), FROM_SEARCH, source=str(path))
    else:
        inherit_pretrained(args)
    return args


def load_genotype(
    args: argparse.Namespace, source: str, inputs: tuple[str, ...], levels: tuple[str, ...]
) -> Genotype | None:
    """Return the genotype that the source names; None for a baseline."""
    if source == "baseline":
        return None
    if source == "random_genotype":
        names = input_names(args.space, inputs, len(levels))
        space = Space(len(names), args.C, *(getattr(args, n) for n in SPACE[1:]), name=args.space)
        return random_genotype(space, names, levels, args.random_genotype, args.max_parameter_free)
    path = args.genotype or Path(args.search_exp_dir) / "genotype.json"
    return read_genotype(path, inputs, levels, args.C)


def head_file(args: argparse.Namespace) -> Path:
    """Return the head to start from: a modality's own where it alone is trained and its file is there."""
    modalities = needed_modalities(args)
    own = Path(args.checkpointdir) / f"{modalities[0]}_head.pth"
    alone = len(modalities) == 1 and "head_path" not in args.given
    return own if alone and own.exists() else Path(args.checkpointdir) / args.head_path


if __name__ == "__main__":
    sys.exit(main())

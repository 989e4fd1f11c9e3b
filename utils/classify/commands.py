"""Search, and training, of a data set's classifier: what main_darts_{searchable,found}_NAME.py do."""

import argparse
from functools import partial
from pathlib import Path

from commands.recipe import check_recipe
from commands.run import is_finished, resume_options, running
from commands.several_seeds import each_seed
from commands.strategy import CACHED_PARTS, check_combinations
from engine.feature_caching import cached
from models.classification.fused_classifier import FusionClassifier
from models.search.fusion_cells.choices import SEQUENCES
from models.search.fusion_cells.derive import in_words
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.genotype_file import read_genotype
from models.search.fusion_cells.random_genotypes import random_genotype
from tasks.classification.build import (
    check_encoders,
    check_taps,
    found_classifier,
    inherit_backbone,
    load_encoders,
    open_examples,
    space_of,
    supernet,
    task_of,
)
from tasks.classification.options import parser_of
from tasks.classification.presets import DataSet
from utils.args import parse
from utils.classify.testing import test_classifier
from utils.distributed import ranks
from utils.errors import UserError
from utils.experiment import cache_options, check_cache_options, pick_compute
from utils.inherit import inherit
from utils.learning import Setting, run_search, run_training
from utils.reporting import count_parameters, next_command_line, print_dry_run
from utils.run_folder import RunFolder, read_json
from utils.seed import seed_everything

SOURCES = ("search_exp_dir", "genotype", "baseline", "random_genotype")
SPACE = ("space", "predecessors", "steps", "multiplier", "node_steps", "node_multiplier", "max_parameter_free")
FROM_SEARCH = ("backbone", "C", "L", "split_seed", "paper_protocol", "small_dataset", "checkpointdir")
CARRIED = ("config", "small_dataset", "allow_split_mismatch", "max_bad_files", "workers", "device")
TO_TEST = ("config", "workers", "device", "amp")


def search(data_set: DataSet, argv: list[str]) -> None:
    """Search; writes RUN/genotype.json."""
    make_parser = parser_of(data_set)
    for args in each_seed(parse(make_parser, argv, "search"), "search"):
        args = resume_options(args, "search", make_parser)
        if not is_finished(args.resume):
            search_once(data_set, args)


def search_once(data_set: DataSet, args: argparse.Namespace) -> None:
    if not args.resume:  # whose options are all there
        inherit_backbone(args)
    check_combinations(args)
    seed_everything(args.seed)
    compute, modalities = pick_compute(args), tuple(data_set.files)
    parts = open_examples(data_set, args, modalities).for_search()
    check_cache_options(args, parts)
    checkpoint_split = check_encoders(args, parts)
    model = compute.place(supernet(args, load_encoders(data_set, args, modalities)))
    if args.dry_run:
        steps = {"weight_steps_per_epoch": compute.num_steps(parts.loader("train", train=True)), "epochs": args.epochs}
        print_dry_run(sizes(model) | steps)
        return

    def next_command(run: RunFolder) -> str:
        carried = (*CARRIED, *data_set.files.values())
        return next_command_line(f"main_darts_found_{data_set.name}.py", args, {"search_exp_dir": run.path}, carried)

    cache = partial(cached, parts, model=model, compute=compute, **CACHED_PARTS, **cache_options(args))
    facts = {"checkpoint_split": checkpoint_split, "data_set": data_set.name}
    with running("search", args, parts, []) as (run, stop):
        run.log(f"split of the checkpoints: {checkpoint_split}")
        run_search(Setting(args, parts, model, task_of(data_set, args), compute, facts, cache, next_command), run, stop)


def found(data_set: DataSet, argv: list[str]) -> None:
    """Train a genotype or a baseline, or test a trained one."""
    make_parser = parser_of(data_set)
    for args in each_seed(parse(make_parser, argv, "found"), "found"):
        args = resume_options(args, "found", make_parser)
        if is_finished(args.resume):
            continue
        if args.num_keep_edges != 2:
            raise UserError(f"--num_keep_edges: expected 2 (a genotype has two per node), found {args.num_keep_edges}")
        seed_everything(args.seed)
        test_classifier(data_set, args) if args.eval_exp_dir else train_once(data_set, args)


def train_once(data_set: DataSet, args: argparse.Namespace) -> None:
    check_recipe(args)
    source = pick_source(args)
    if not args.resume:
        args = ranks().broadcast_from_first(lambda: inherit_sizes(data_set, args, source))
    if args.cache_features != "off" and "stream_lr" not in args.given:
        args.stream_lr = 0.0  # cached features are of frozen encoders
    compute = pick_compute(args)
    modalities = (args.baseline,) if args.baseline in data_set.files else tuple(data_set.files)
    parts = open_examples(data_set, args, modalities)
    check_cache_options(args, parts)
    checkpoint_split = check_encoders(args, parts)
    streams = load_encoders(data_set, args, modalities)
    check_taps(args, streams)
    genotype = ranks().broadcast_from_first(lambda: load_genotype(args, source, streams))
    if args.stream_lr:
        streams.unfreeze()
    model = compute.place(found_classifier(args, streams, genotype))
    if args.dry_run:
        loader = parts.loader(*parts.learning, train=True)
        print_dry_run(sizes(model) | {"steps_per_epoch": compute.num_steps(loader), "epochs": args.epochs})
        return

    def next_command(run: RunFolder) -> str:
        return next_command_line(f"main_darts_found_{data_set.name}.py", args, {"eval_exp_dir": run.path}, TO_TEST)

    cache = partial(
        cached, parts, model=model, compute=compute, learning=parts.learning, plain=("val",), **cache_options(args)
    )
    facts = {"checkpoint_split": checkpoint_split, "data_set": data_set.name, "classes": parts.data.classes}
    with running("found", args, parts, []) as (run, stop):
        run.log(f"split of the checkpoints: {checkpoint_split}")
        if genotype:
            run.log(f"genotype {genotype.id}: {in_words(genotype)}")
        setting = Setting(args, parts, model, task_of(data_set, args), compute, facts, cache, next_command)
        run_training(setting, genotype, run, stop)


def inherit_sizes(data_set: DataSet, args: argparse.Namespace, source: str) -> argparse.Namespace:
    """Return the options with what is not given from the search run, else from the pretraining of checkpointdir."""
    if source == "search_exp_dir":
        path = Path(args.search_exp_dir) / "args.json"
        inherit(args, read_json(path), (*FROM_SEARCH, *data_set.files.values()), source=str(path))
    else:
        inherit_backbone(args)
    return args


def pick_source(args: argparse.Namespace) -> str:
    """Return which of the four says what to train; refuse none, several, and options that would be ignored."""
    if "eval_part" in args.typed:
        raise UserError("--eval_part: expected --eval_exp_dir beside it, found none")
    named = [name for name in SOURCES if getattr(args, name) is not None]
    if len(named) != 1:
        options = ", ".join("--" + name for name in SOURCES)
        raise UserError(f"expected exactly one of {options}, found {', '.join('--' + n for n in named) or 'none'}")
    unused = [name for name in SPACE if name in args.typed and named[0] != "random_genotype"]
    if unused:
        raise UserError(f"{', '.join('--' + n for n in unused)}: no effect with --{named[0]}: sizes come from it")
    return named[0]


def load_genotype(args: argparse.Namespace, source: str, streams) -> Genotype | None:
    """Return the genotype that the source names; None for a baseline."""
    if source == "baseline":
        return None
    names, levels = streams.tap_names, streams.level_names
    if source == "random_genotype":
        return random_genotype(space_of(args, streams), names, levels, args.random_genotype, args.max_parameter_free)
    path = args.genotype or Path(args.search_exp_dir) / "genotype.json"
    return read_genotype(path, names, levels, args.C, SEQUENCES)


def sizes(model: FusionClassifier) -> dict[str, object]:
    """Return the parameters of each part."""
    parts = {"encoders": model.streams, "reshape": model.reshape, "fusion": model.fusions, "classifier": model.head}
    return {f"parameters_{name}": count_parameters(part) for name, part in parts.items()}

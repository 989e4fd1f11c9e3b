"""The demo's commands: what each method needs, in which order, with which options."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from commands.options import parser_of
from tasks import TASKS
from tools.demo.options import BOX_FUSIONS, METHODS, SINGLE, WIDENED, Options
from tools.jobs import Finished, Job
from utils.args import SECTIONS, read_config
from utils.subprocesses import command_line, named

SEARCH, FOUND = "main_darts_searchable_flira.py", "main_darts_found_flira.py"
PRETRAINED = tuple(f"pretrain_{modality}" for modality in SINGLE)


@dataclass(frozen=True)
class Shared:
    """The options that commands share: of pretraining, search, training and test; the first is the data folder."""

    learning: tuple
    searching: tuple
    training: tuple
    testing: tuple


def shared_options(options: Options) -> Shared:
    """Return the options that the commands of one seed share."""
    common = (options.data or Path(options.out) / "scenes", "--config", options.config)
    learning = (*common, "--seed", options.seed, "--checkpointdir", Path(options.out) / "checkpoints")
    search, found = (_cache(options, section) for section in ("search", "found"))
    return Shared(learning, (*learning, *search), (*learning, *found), (*common, *found))


def methods_needed(methods: tuple[str, ...]) -> tuple[str, ...]:
    """Return the methods to run: those asked for, and the single sensors where their boxes are fused."""
    needed = set(methods) | set(SINGLE if set(methods) & set(BOX_FUSIONS) else ())
    return tuple(m for m in METHODS if m in needed)


def environment_for(slots: int, cores: int) -> dict[str, str]:
    """Return the variables that share the cores between commands side by side, those of torchrun's ranks here, too."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return {"OMP_NUM_THREADS": str(max(cores // (slots * ranks), 1))}


def demo_jobs(options: Options) -> list[Job]:
    """Return all commands; the search and what hangs on it come first, since that chain is the longest."""
    shared, methods = shared_options(options), methods_needed(options.methods)
    jobs = preparation(options, shared, (*SINGLE, *(("early",) if "early" in methods else ())))
    if {"searched", *WIDENED} & set(methods):
        jobs.append(job("search", SEARCH, (*shared.searching, "--save", "search"), PRETRAINED))
    for method in sorted(methods, key=lambda m: (m != "searched", m in WIDENED or m in BOX_FUSIONS)):
        if method in BOX_FUSIONS:
            jobs.append(fuse_boxes(f"test_{method}", method, shared.testing))
        else:
            jobs += [_train(method, shared.training, options.seed), test(method, shared.testing)]
    return jobs


def preparation(options: Options, shared: Shared, modalities: tuple[str, ...]) -> list[Job]:
    """Return what renders the scenes, where no data is given, and pretrains."""
    jobs = [] if options.data else [_render(options, shared.learning[0])]
    rendered = tuple(job.name for job in jobs)
    return jobs + [_pretrain(modality, shared.learning, rendered) for modality in modalities]


def cache_folder(options: Options) -> Path:
    """Return where the commands share cached features; the demo deletes it at its end."""
    return Path(options.out) / "cache"


def _cache(options: Options, section: str) -> tuple:
    """Return the option that shares a cache, where the config has one."""
    config = read_config(options.config, {name: parser_of(TASKS["flira"])(name) for name in SECTIONS}, section)
    return ("--cache_dir", cache_folder(options)) if config.get("cache_features", "off") != "off" else ()


def job(name: str, script: str, fixed: tuple, after: tuple[str, ...], more: Callable[[Finished], list] = lambda _: []):
    return Job(name, lambda done: command_line(script, *fixed, *more(done)), after)


def _render(options: Options, folder: str | Path) -> Job:
    sizes = [f"--{name}={getattr(options, name)}" for name in ("train", "val", "test", "width")]
    rendering = job("render", "datasets.road_scenes", (folder, "--seed", options.seed, *sizes), ())
    return replace(rendering, clears=Path(folder))


def _pretrain(modality: str, learning: tuple, rendered: tuple[str, ...]) -> Job:
    own = ("--modality", modality, "--save", modality)
    return job(f"pretrain_{modality}", "main_pretrain_flira.py", (*learning, *own), rendered)


def _train(method: str, training: tuple, seed: int) -> Job:
    if method == "searched":
        return train(method, training, "--search_exp_dir", search="search")
    if method == "random":
        return train(method, training, "--random_genotype", seed)
    if method in WIDENED:
        return train(method, training, "--baseline", WIDENED[method], "--match_parameters", search="search")
    return train(method, training, "--baseline", method)


def train(method: str, training: tuple, *source: object, search: str = "") -> Job:
    """Return the command that trains a method.

    Args:
        source: the options that say what to train; with `search`, the name of a search's job, its run comes behind.
    """

    def words(done: Finished) -> list:
        return [*source, *([searched_in(done, search)] if search else [])]

    after = (search,) if search else PRETRAINED
    after += ("pretrain_early",) if source == ("--baseline", "early") else ()
    return job(f"train_{method}", FOUND, (*training, "--save", method), after, words)


def test(method: str, testing: tuple) -> Job:
    """Return the command that tests a trained method."""

    def run(done: Finished) -> list:
        return ["--eval_exp_dir", trained_in(done, method)]

    return job(f"test_{method}", FOUND, (*testing, "--save", method), (f"train_{method}",), run)


def fuse_boxes(name: str, method: str, testing: tuple, after: tuple[str, ...] = ()) -> Job:
    """Return the command that fuses the boxes of the single sensors' detectors."""

    def runs(done: Finished) -> list:
        thermal, rgb = (trained_in(done, m) for m in SINGLE)
        return ["--box_fusion", BOX_FUSIONS[method], "--eval_exp_dir", thermal, "--partner_exp_dir", rgb]

    after = (*(f"train_{m}" for m in SINGLE), *after)
    return job(name, FOUND, (*testing, "--save", method), after, runs)


def searched_in(done: Finished, search: str = "search") -> str:
    return named(done[search].text, "search_exp_dir")


def trained_in(done: Finished, method: str) -> str:
    return named(done[f"train_{method}"].text, "eval_exp_dir")


def tested_in(done: Finished, method: str) -> Path:
    return Path(named(done[f"test_{method}"].text, "results")).parent

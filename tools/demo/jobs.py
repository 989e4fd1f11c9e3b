"""The demo's commands: what each method needs, in which order, with which options."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from commands.options import parser_of
from tasks import TASKS
from tools.demo.options import Options
from tools.demo.tasks import BOX_FUSIONS, SINGLE, WIDENED
from tools.jobs import Finished, Job
from utils.args import SECTIONS, read_config
from utils.subprocesses import command_line, named

Words = tuple[object, ...]  # arguments of a command


@dataclass(frozen=True)
class Shared:
    """The arguments that commands of one kind share; the first is the data folder.

    Args:
        task: name of the task, the end of the names of its commands.
        pretrained: names of the jobs that every search and training waits for.
        learning: of pretraining; `searching`, `training` and `testing` likewise.
    """

    task: str
    pretrained: tuple[str, ...]
    learning: Words
    searching: Words
    training: Words
    testing: Words


def shared_options(options: Options) -> Shared:
    """Return the arguments that the commands of one seed share."""
    out = Path(options.out)
    common = (options.data or out / options.demo.data, "--config", options.config)
    learning = (*common, "--seed", options.seed, "--checkpointdir", out / "checkpoints")
    search, found = (_cache(options, section) for section in ("search", "found"))
    return Shared(
        task=options.task,
        pretrained=tuple(f"pretrain_{modality}" for modality in options.demo.single),
        learning=learning,
        searching=(*learning, *search),
        training=(*learning, *found),
        testing=(*common, *found),
    )


def methods_needed(options: Options) -> tuple[str, ...]:
    """Return the methods to run: those asked for, and the single sensors if their boxes are fused."""
    needed = set(options.methods) | set(SINGLE if set(options.methods) & set(BOX_FUSIONS) else ())
    return tuple(m for m in options.demo.methods if m in needed)


def environment_for(slots: int, cores: int) -> dict[str, str]:
    """Return the variables that divide the cores among the commands, also among the ranks of a torchrun."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return {"OMP_NUM_THREADS": str(max(cores // (slots * ranks), 1))}


def demo_jobs(options: Options) -> list[Job]:
    """Return all commands. The search and the commands that wait for it come first: they are the longest chain."""
    shared, methods = shared_options(options), methods_needed(options)
    jobs = preparation(options, shared, ("early",) if "early" in methods else ())
    if {"searched", *WIDENED} & set(methods):
        jobs.append(search_job("search", shared))
    for method in sorted(methods, key=lambda m: (m != "searched", m in WIDENED or m in BOX_FUSIONS)):
        if method in BOX_FUSIONS:
            jobs.append(fuse_boxes_job(f"test_{method}", method, shared))
        else:
            jobs += [_train(method, shared, options.seed), evaluate_job(method, shared)]
    return jobs


def preparation(options: Options, shared: Shared, more: tuple[str, ...] = ()) -> list[Job]:
    """Return the commands that generate the data, if none is given, and pretrain each modality, `more` included."""
    jobs = [] if options.data else GENERATORS[options.task](options, Path(shared.learning[0]))
    generated = tuple(job.name for job in jobs[-1:])
    return jobs + [_pretrain(modality, shared, generated) for modality in (*options.demo.single, *more)]


def cache_folder(options: Options) -> Path:
    """Return the folder of cached features that the commands share; the demo deletes it at its end."""
    return Path(options.out) / "cache"


def _cache(options: Options, section: str) -> Words:
    """Return the option that names the cache, if the config turns caching on."""
    make = parser_of(TASKS[options.task])
    config = read_config(options.config, {name: make(name) for name in SECTIONS}, section)
    return ("--cache_dir", cache_folder(options)) if config.get("cache_features", "off") != "off" else ()


def job(name: str, script: str, fixed: Words, after: tuple[str, ...], more: Callable[[Finished], list] = lambda _: []):
    """Return a job; `more` gives further arguments from what has finished."""
    return Job(name, lambda done: command_line(script, *fixed, *more(done)), after)


def _render_scenes(options: Options, folder: Path) -> list[Job]:
    rendering = job("render", "datasets.road_scenes", (folder, *_size_options(options)), ())
    return [replace(rendering, clears=folder)]


def _make_films(options: Options, folder: Path) -> list[Job]:
    raw = Path(options.out) / "raw"
    files = (raw / "multimodal_imdb.hdf5", raw / "split.json", folder)
    return [
        job("make", "datasets.generated.mmimdb", (raw, *_size_options(options)), ()),
        job("prepare", "datasets.prepare_mmimdb", files, ("make",)),
    ]


GENERATORS: dict[str, Callable[[Options, Path], list[Job]]] = {"flira": _render_scenes, "mmimdb": _make_films}


def _size_options(options: Options) -> Words:
    return ("--seed", options.seed, *(f"--{name}={size}" for name, size in options.sizes.items()))


def _pretrain(modality: str, shared: Shared, generated: tuple[str, ...]) -> Job:
    words = (*shared.learning, "--modality", modality, "--save", modality)
    return job(f"pretrain_{modality}", f"main_pretrain_{shared.task}.py", words, generated)


def search_job(name: str, shared: Shared, options: Words = ()) -> Job:
    """Return a search with further options; the job's name without "search_" is its --save."""
    words = (*shared.searching, *options, "--save", name.removeprefix("search_"))
    return job(name, f"main_darts_searchable_{shared.task}.py", words, shared.pretrained)


def _train(method: str, shared: Shared, seed: int) -> Job:
    if method == "searched":
        return train_job(method, shared, ("--search_exp_dir",), search="search")
    if method == "random":
        return train_job(method, shared, ("--random_genotype", seed))
    if method in WIDENED:
        return train_job(method, shared, ("--baseline", WIDENED[method], "--match_parameters"), search="search")
    return train_job(method, shared, ("--baseline", method))


def train_job(name: str, shared: Shared, source: Words, search: str = "") -> Job:
    """Return the command that trains a method.

    Args:
        name: the method's name in names of jobs and runs.
        shared: arguments of all commands.
        source: the options that say what to train.
        search: name of the search's job; the folder of its run is put behind `source`.
    """

    def more(done: Finished) -> list:
        return [*source, *([searched_in(done, search)] if search else [])]

    after = (search,) if search else shared.pretrained
    after += ("pretrain_early",) if source == ("--baseline", "early") else ()
    return job(f"train_{name}", _found(shared), (*shared.training, "--save", name), after, more)


def evaluate_job(name: str, shared: Shared, options: Words = (), job_name: str = "") -> Job:
    """Return the command that tests a trained method, with further options."""

    def run(done: Finished) -> list:
        return ["--eval_exp_dir", trained_in(done, name)]

    words = (*shared.testing, "--save", name, *options)
    return job(job_name or f"test_{name}", _found(shared), words, (f"train_{name}",), run)


def fuse_boxes_job(name: str, method: str, shared: Shared, options: Words = (), after: tuple[str, ...] = ()) -> Job:
    """Return the command that fuses the boxes of the single sensors' detectors, as a job of this name."""

    def runs(done: Finished) -> list:
        thermal, rgb = (trained_in(done, m) for m in SINGLE)
        return ["--box_fusion", BOX_FUSIONS[method], "--eval_exp_dir", thermal, "--partner_exp_dir", rgb]

    after = (*(f"train_{m}" for m in SINGLE), *after)
    return job(name, _found(shared), (*shared.testing, *options, "--save", method), after, runs)


def _found(shared: Shared) -> str:
    return f"main_darts_found_{shared.task}.py"


def searched_in(done: Finished, search: str = "search") -> str:
    """Return the run folder of a search."""
    return named(done[search].text, "search_exp_dir")


def trained_in(done: Finished, method: str) -> str:
    """Return the run folder of a method's training."""
    return named(done[f"train_{method}"].text, "eval_exp_dir")


def tested_in(done: Finished, method: str) -> Path:
    """Return the run folder of a method's test."""
    return Path(named(done[f"test_{method}"].text, "results")).parent

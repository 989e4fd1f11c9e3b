"""The demo's commands: what each method needs, in which order, with which options."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from commands.options import parser_of
from tasks import TASKS
from tools.demo.options import Options
from tools.demo.tasks import BOX_FUSIONS, SINGLE, WIDENED, WIDENED_TOWERS
from tools.jobs import Finished, Job
from utils.args import SECTIONS, read_config
from utils.subprocesses import command_line, named

Words = tuple[object, ...]  # arguments of a command


class Shared(NamedTuple):
    """The script and the first arguments of the commands of each kind.

    Args:
        pretrained: names of the jobs that every search and training waits for.
        learning: of pretraining; `searching`, `training` and `testing` likewise.
    """

    pretrained: tuple[str, ...]
    learning: Words
    searching: Words
    training: Words
    testing: Words


def shared_options(options: Options) -> Shared:
    """Return the arguments that the commands of one seed share."""
    common = (data_folder(options), "--config", options.config)
    learning = (*common, "--seed", options.seed, "--checkpointdir", Path(options.out) / "checkpoints")
    folder = cache_folder(options)
    search, found = (cache_words(options.task, options.config, folder, section) for section in ("search", "found"))
    return Shared(
        pretrained=tuple(f"pretrain_{name}" for name in options.demo.pretrainings),
        learning=(f"main_pretrain_{options.task}.py", *learning),
        searching=(f"main_darts_searchable_{options.task}.py", *learning, *search),
        training=(f"main_darts_found_{options.task}.py", *learning, *found),
        testing=(f"main_darts_found_{options.task}.py", *common, *found),
    )


def data_folder(options: Options) -> Path:
    return Path(options.data or Path(options.out) / options.demo.data)


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
    widened = WIDENED | WIDENED_TOWERS
    if {"searched", *widened} & set(methods):
        jobs.append(search_job("search", shared))
    sources = {"searched": ("--search_exp_dir",), "random": ("--random_genotype", options.seed)}
    sources |= {method: ("--baseline", baseline, "--match_parameters") for method, baseline in widened.items()}
    for method in sorted(methods, key=lambda m: (m != "searched", m in widened or m in BOX_FUSIONS)):
        if method in BOX_FUSIONS:
            jobs.append(fuse_boxes_job(f"test_{method}", method, shared))
        else:
            search = "search" if method == "searched" or method in widened else ""
            source = sources.get(method, ("--baseline", method))
            jobs += [train_job(method, shared, source, search), evaluate_job(method, shared)]
    return jobs


def preparation(options: Options, shared: Shared, more: tuple[str, ...] = ()) -> list[Job]:
    """Return the commands that generate the data, if none is given, and pretrain all, `more` modalities included."""
    jobs = [] if options.data else GENERATORS[options.task](options)
    generated = tuple(job.name for job in jobs[-1:])
    for name in (*options.demo.pretrainings, *more):
        modality = ("--modality", name) if options.demo.single else ()
        jobs.append(job(f"pretrain_{name}", (*shared.learning, *modality, "--save", name), generated))
    return jobs


def cache_folder(options: Options) -> Path:
    """Return the folder of cached features that the commands share; the demo deletes it at its end."""
    return Path(options.out) / "cache"


def cache_words(task: str, config: str, folder: str | Path, section: str) -> Words:
    """Return the option that names the cache, if the config turns caching on."""
    make = parser_of(TASKS[task])
    values = read_config(config, {name: make(name) for name in SECTIONS}, section)
    return ("--cache_dir", folder) if values.get("cache_features", "off") != "off" else ()


def job(name: str, fixed: Words, after: tuple[str, ...], more: Callable[[Finished], list] = lambda _: []) -> Job:
    """Return a job of the script or module and the arguments `fixed`; `more` gives further ones from what is done."""
    return Job(name, lambda done: command_line(*fixed, *more(done)), after)


def _render_scenes(options: Options) -> list[Job]:
    words = (data_folder(options), *_size_options(options))
    return [Job("render", lambda done: command_line("datasets.road_scenes", *words), clears=words[0])]


def _make_films(options: Options) -> list[Job]:
    raw = Path(options.out) / "raw"
    files = (raw / "multimodal_imdb.hdf5", raw / "split.json", data_folder(options))
    making = job("make", ("datasets.generated.mmimdb", raw, *_size_options(options)), ())
    return [making, job("prepare", ("datasets.prepare_mmimdb", *files), ("make",))]


GENERATORS: dict[str, Callable[[Options], list[Job]]] = {
    "flira": _render_scenes,
    "mmimdb": _make_films,
    "fad": _render_scenes,
}


def _size_options(options: Options) -> Words:
    return ("--seed", options.seed, *(f"--{name}={size}" for name, size in options.sizes.items()))


def search_job(name: str, shared: Shared, options: Words = ()) -> Job:
    """Return a search with further options; the job's name without "search_" is its --save."""
    return job(name, (*shared.searching, *options, "--save", name.removeprefix("search_")), shared.pretrained)


def train_job(name: str, shared: Shared, source: Words, search: str = "") -> Job:
    """Return the command that trains a method.

    Args:
        name: the method's name in names of jobs and runs.
        shared: arguments of all commands.
        source: the options that say what to train.
        search: name of the search's job; the folder of its run is put behind `source`.
    """
    after = (search,) if search else shared.pretrained
    after += ("pretrain_early",) if source == ("--baseline", "early") else ()
    words = (*shared.training, "--save", name)
    return job(f"train_{name}", words, after, lambda done: [*source, *([searched_in(done, search)] if search else [])])


def evaluate_job(name: str, shared: Shared, options: Words = (), job_name: str = "") -> Job:
    """Return the command that tests a trained method, with further options."""
    job_name, after = job_name or f"test_{name}", (f"train_{name}",)
    words = (*shared.testing, "--save", name, *options)
    return job(job_name, words, after, lambda done: ["--eval_exp_dir", trained_in(done, name)])


def fuse_boxes_job(name: str, method: str, shared: Shared, options: Words = (), after: tuple[str, ...] = ()) -> Job:
    """Return the command that fuses the boxes of the single sensors' detectors, as a job of this name."""

    def runs(done: Finished) -> list:
        thermal, rgb = (trained_in(done, m) for m in SINGLE)
        return ["--box_fusion", BOX_FUSIONS[method], "--eval_exp_dir", thermal, "--partner_exp_dir", rgb]

    after = (*(f"train_{m}" for m in SINGLE), *after)
    return job(name, (*shared.testing, *options, "--save", method), after, runs)


def searched_in(done: Finished, search: str = "search") -> str:
    """Return the run folder of a search."""
    return named(done[search].text, "search_exp_dir")


def trained_in(done: Finished, method: str) -> str:
    """Return the run folder of a method's training."""
    return named(done[f"train_{method}"].text, "eval_exp_dir")


def tested_in(done: Finished, method: str) -> Path:
    """Return the run folder of a method's test."""
    return Path(named(done[f"test_{method}"].text, "results")).parent

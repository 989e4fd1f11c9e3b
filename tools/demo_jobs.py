"""The demo's commands: what each method needs, in which order, with which options."""

from collections.abc import Callable
from pathlib import Path

from tools.demo_options import BOX_FUSIONS, METHODS, SINGLE, WIDENED, Options
from tools.jobs import Finished, Job
from utils.args import SECTIONS, read_config
from utils.commands import command_line, named
from utils.options import make_parser


def methods_needed(methods: tuple[str, ...]) -> tuple[str, ...]:
    """Return the methods to run: those asked for, and the single sensors where their boxes are fused."""
    needed = set(methods) | set(SINGLE if set(methods) & set(BOX_FUSIONS) else ())
    return tuple(m for m in METHODS if m in needed)


def environment_for(slots: int, cores: int) -> dict[str, str]:
    """Return the variables that share the cores between the commands that run side by side."""
    return {"OMP_NUM_THREADS": str(max(cores // slots, 1))}


def demo_jobs(options: Options) -> list[Job]:
    """Return all commands; the search and what hangs on it come first, since that chain is the longest."""
    data = options.data or Path(options.out) / "scenes"
    common = (data, "--config", options.config)
    learning = (*common, "--seed", options.seed, "--checkpointdir", Path(options.out) / "checkpoints")
    searching, training = ((*learning, *_cache(options, section)) for section in ("search", "found"))
    testing = (*common, *_cache(options, "found"))
    methods = methods_needed(options.methods)
    jobs = [] if options.data else [_render(options, data)]
    rendered = tuple(job.name for job in jobs)
    jobs += [_pretrain(m, learning, rendered) for m in (*SINGLE, *(("early",) if "early" in methods else ()))]
    pretrained = tuple(f"pretrain_{m}" for m in SINGLE)
    if {"searched", *WIDENED} & set(methods):
        jobs.append(_job("search", "main_darts_searchable_flira.py", (*searching, "--save", "search"), pretrained))
    for method in sorted(methods, key=lambda m: (m != "searched", m in WIDENED or m in BOX_FUSIONS)):
        if method in BOX_FUSIONS:
            jobs.append(_fuse_boxes(method, testing))
        else:
            jobs += [_train(method, training, options.seed, pretrained), _test(method, testing)]
    return jobs


def cache_folder(options: Options) -> Path:
    """Return where the commands share cached features; the demo deletes it at its end."""
    return Path(options.out) / "cache"


def _cache(options: Options, section: str) -> tuple:
    """Return the option that shares a cache, where the config has one."""
    config = read_config(options.config, {name: make_parser(name) for name in SECTIONS}, section)
    return ("--cache_dir", cache_folder(options)) if config.get("cache_features", "off") != "off" else ()


def _job(name: str, script: str, fixed: tuple, after: tuple[str, ...], more: Callable[[Finished], list] = lambda _: []):
    return Job(name, lambda done: command_line(script, *fixed, *more(done)), after)


def _render(options: Options, folder: str | Path) -> Job:
    sizes = [f"--{name}={getattr(options, name)}" for name in ("train", "val", "test", "width")]
    return _job("render", "datasets.road_scenes", (folder, "--seed", options.seed, *sizes), ())


def _pretrain(modality: str, learning: tuple, rendered: tuple[str, ...]) -> Job:
    own = ("--modality", modality, "--save", modality)
    return _job(f"pretrain_{modality}", "main_pretrain_flira.py", (*learning, *own), rendered)


def _train(method: str, training: tuple, seed: int, pretrained: tuple[str, ...]) -> Job:
    def source(done: Finished) -> list:
        if method == "searched":
            return ["--search_exp_dir", searched_in(done)]
        if method == "random":
            return ["--random_genotype", seed]
        if method in WIDENED:
            return ["--baseline", WIDENED[method], "--match_parameters", searched_in(done)]
        return ["--baseline", method]

    after = ("search",) if method == "searched" or method in WIDENED else pretrained
    after += ("pretrain_early",) if method == "early" else ()
    fixed = (*training, "--save", method)
    return _job(f"train_{method}", "main_darts_found_flira.py", fixed, after, source)


def _test(method: str, testing: tuple) -> Job:
    def run(done: Finished) -> list:
        return ["--eval_exp_dir", trained_in(done, method)]

    return _job(f"test_{method}", "main_darts_found_flira.py", (*testing, "--save", method), (f"train_{method}",), run)


def _fuse_boxes(method: str, testing: tuple) -> Job:
    def runs(done: Finished) -> list:
        thermal, rgb = (trained_in(done, m) for m in SINGLE)
        return ["--box_fusion", BOX_FUSIONS[method], "--eval_exp_dir", thermal, "--partner_exp_dir", rgb]

    after = tuple(f"train_{m}" for m in SINGLE)
    return _job(f"test_{method}", "main_darts_found_flira.py", (*testing, "--save", method), after, runs)


def searched_in(done: Finished) -> str:
    return named(done["search"].text, "search_exp_dir")


def trained_in(done: Finished, method: str) -> str:
    return named(done[f"train_{method}"].text, "eval_exp_dir")


def tested_in(done: Finished, method: str) -> Path:
    return Path(named(done[f"test_{method}"].text, "results")).parent

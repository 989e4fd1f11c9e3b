"""The commands of one seed of a fusion study: what its methods and its ranking need, each once."""

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.fusion_study.config import Kendall, Method, Study
from tools.demo.jobs import (
    Shared,
    evaluate_job,
    fuse_boxes_job,
    job,
    preparation,
    search_job,
    searched_in,
    shared_options,
    train_job,
)
from tools.demo.options import Options
from tools.demo.tasks import BOX_FUSIONS, SINGLE
from tools.jobs import Job

AGAIN = "_again"  # end of the names of a ranked genotype's second training
BLACK = "black"  # start of the names of tests with one sensor black
RATE = "rate"


@dataclass(frozen=True)
class Wanted:
    """What is to be measured at one seed.

    Args:
        methods: methods that need a row.
        ranked: genotypes to train twice.
        scored: whether the supernet rates the genotypes.
        failing: methods to test with one sensor black, with the probability of modality dropout in training; 0 is
            the training of the method's own row.
    """

    methods: tuple[Method, ...]
    ranked: tuple[Method, ...] = ()
    scored: bool = False
    failing: tuple[tuple[Method, float], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.methods or self.ranked or self.scored or self.failing)


def study_jobs(study: Study, wanted: Wanted, options: Options) -> list[Job]:
    """Return all commands. Searches and the commands that wait for them come first: they are the longest chains."""
    shared, methods = shared_options(options), _with_parts(study, wanted)
    early = any(m.train == ("--baseline", "early") for m in methods)
    jobs = preparation(options, shared, ("early",) if early else ())
    if wanted.scored:
        jobs += _rating(study, shared, options)
    for method in sorted(methods, key=lambda m: (m.search is None, m.name in BOX_FUSIONS)):
        if method.name in BOX_FUSIONS:
            on_val = f"val_{method.slug}"
            jobs.append(fuse_boxes_job(on_val, method.name, shared, options=("--eval_part", "val")))
            jobs.append(fuse_boxes_job(f"test_{method.slug}", method.name, shared, after=(on_val,)))
            continue
        name = study.search_name(method.search) if method.search is not None else ""
        if name and name not in {done.name for done in jobs}:
            jobs.append(search_job(name, shared, method.search))
        jobs += [train_job(method.slug, shared, method.train, search=name), evaluate_job(method.slug, shared)]
        if method in wanted.ranked:
            again = shared_options(replace(options, seed=study.kendall.second_training_seed))
            jobs += [train_job(method.slug + AGAIN, again, method.train), evaluate_job(method.slug + AGAIN, shared)]
    for method, dropout in wanted.failing:
        slug = failing_slug(method, dropout)
        if dropout:
            search = study.search_name(method.search) if method.search is not None else ""
            source = ("--modality_dropout", str(dropout), *method.train)
            jobs.append(train_job(slug, shared, source, search=search))
        jobs.append(evaluate_job(slug, shared, options=("--robustness", BLACK), job_name=f"{BLACK}_{slug}"))
    return jobs


def failing_slug(method: Method, dropout: float) -> str:
    """Return the name of a method, trained with modality dropout or without, in names of commands."""
    return f"{method.slug}_dropout_{dropout}" if dropout else method.slug


def ratings_file(options: Options) -> Path:
    return Path(options.out) / "ratings.json"


def _with_parts(study: Study, wanted: Wanted) -> list[Method]:
    """Return the methods to train and test: those wanted, and those that other measurements need."""
    boxes = any(m.name in BOX_FUSIONS for m in wanted.methods)
    parts = [m for m in study.methods if boxes and m.name in SINGLE]
    return list(dict.fromkeys((*wanted.methods, *parts, *wanted.ranked, *(m for m, _ in wanted.failing))))


def _rating(study: Study, shared: Shared, options: Options) -> list[Job]:
    """Return the search that trains the supernet, and the command that rates the genotypes on its weights."""
    kendall: Kendall = study.kendall
    name = study.search_name(kendall.search)
    fixed = ("--genotypes", len(kendall.genotypes), "--epochs", kendall.brief_epochs, "--out", ratings_file(options))
    script = "benchmarks.fusion_study.rate_genotypes"
    rate = job(RATE, (script,), (name,), lambda done: [searched_in(done, name), *fixed])
    return [search_job(name, shared, kendall.search), rate]

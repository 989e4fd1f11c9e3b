"""The commands of one seed of a fusion study: what its methods and its ranking need, each once."""

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.fusion_study.config import Kendall, Method, Study
from tools.demo.jobs import (
    FOUND,
    PRETRAINED,
    SEARCH,
    fuse_boxes,
    job,
    preparation,
    searched_in,
    shared_options,
    test,
    train,
    trained_in,
)
from tools.demo.options import BOX_FUSIONS, SINGLE, Options
from tools.jobs import Job

AGAIN = "_again"  # ends the names of a ranked genotype's second training
BLACK = "black"  # begins the names of tests with either sensor black
RATE = "rate"


@dataclass(frozen=True)
class Wanted:
    """What is to be measured at one seed: rows of methods, ranked genotypes, methods whose sensors fail.

    Args:
        rated: the supernet's ratings of the genotypes.
        failing: with the probability of modality dropout, 0 for the training of the method's own row.
    """

    methods: tuple[Method, ...]
    ranked: tuple[Method, ...] = ()
    scored: bool = False
    failing: tuple[tuple[Method, float], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.methods or self.ranked or self.scored or self.failing)


def study_jobs(study: Study, wanted: Wanted, options: Options) -> list[Job]:
    """Return all commands; searches and what hangs on them come first, since these chains are the longest."""
    shared, methods = shared_options(options), _with_parts(study, wanted)
    early = any(m.train == ("--baseline", "early") for m in methods)
    jobs = preparation(options, shared, (*SINGLE, *(("early",) if early else ())))
    if wanted.scored:
        jobs += _rating(study, shared.searching, options)
    for method in sorted(methods, key=lambda m: (m.search is None, m.name in BOX_FUSIONS)):
        if method.name in BOX_FUSIONS:
            on_val = (*shared.testing, "--eval_part", "val")
            jobs.append(fuse_boxes(f"val_{method.slug}", method.name, on_val))
            jobs.append(fuse_boxes(f"test_{method.slug}", method.name, shared.testing, (f"val_{method.slug}",)))
            continue
        name = study.search_name(method.search) if method.search is not None else ""
        if name and name not in {done.name for done in jobs}:
            jobs.append(_search(name, shared.searching, method.search))
        jobs += [train(method.slug, shared.training, *method.train, search=name), test(method.slug, shared.testing)]
        if method in wanted.ranked:
            again = shared_options(replace(options, seed=study.kendall.second_training_seed)).training
            jobs += [train(method.slug + AGAIN, again, *method.train), test(method.slug + AGAIN, shared.testing)]
    for method, dropout in wanted.failing:
        slug = failing_slug(method, dropout)
        if dropout:
            search = study.search_name(method.search) if method.search is not None else ""
            own = ("--modality_dropout", str(dropout), *method.train)
            jobs.append(train(slug, shared.training, *own, search=search))
        jobs.append(_test_black(slug, shared.testing))
    return jobs


def failing_slug(method: Method, dropout: float) -> str:
    """Return the name of a method in names of commands, trained with modality dropout or not."""
    return f"{method.slug}_dropout_{dropout}" if dropout else method.slug


def ratings_file(options: Options) -> Path:
    return Path(options.out) / "ratings.json"


def _with_parts(study: Study, wanted: Wanted) -> list[Method]:
    """Return the methods to train and test: those wanted, and those that they, ranks and failing sensors build on."""
    boxes = any(m.name in BOX_FUSIONS for m in wanted.methods)
    parts = [m for m in study.methods if boxes and m.name in SINGLE]
    return list(dict.fromkeys((*wanted.methods, *parts, *wanted.ranked, *(m for m, _ in wanted.failing))))


def _test_black(slug: str, testing: tuple) -> Job:
    fixed = (*testing, "--save", slug, "--robustness", BLACK)
    own = f"train_{slug}"
    return job(f"{BLACK}_{slug}", FOUND, fixed, (own,), lambda done: ["--eval_exp_dir", trained_in(done, slug)])


def _search(name: str, searching: tuple, words: tuple[str, ...]) -> Job:
    return job(name, SEARCH, (*searching, *words, "--save", name.removeprefix("search_")), PRETRAINED)


def _rating(study: Study, searching: tuple, options: Options) -> list[Job]:
    """Return the search whose supernet ranks, and the command that rates the genotypes on its weights."""
    kendall: Kendall = study.kendall
    name = study.search_name(kendall.search)
    fixed = ("--genotypes", len(kendall.genotypes), "--epochs", kendall.brief_epochs, "--out", ratings_file(options))
    rate = job(
        RATE, "benchmarks.fusion_study.rate_genotypes", (), (name,), lambda done: [searched_in(done, name), *fixed]
    )
    return [_search(name, searching, kendall.search), rate]

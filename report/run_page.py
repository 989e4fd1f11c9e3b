"""The page of one run: its headline and its sections."""

from collections.abc import Callable
from pathlib import Path

from datasets.data_module import DataModule
from report import evaluation_sections, search_sections
from report import sections as s
from report.formatting import NONE, counted, duration, points
from report.methods import columns_of, other_methods
from report.page import Page, Section, write_page
from report.run import Run

REPORT = "report.html"


def write_report(path: Path, parts: DataModule | None = None) -> Path:
    """Write report.html into a run folder, finished or not, from its files; returns the path of the page.

    Args:
        path: the run folder.
        parts: the run's data, for precision against recall and the gallery; without it the page has neither.

    Raises:
        UserError: the folder is not a run folder, a file in it is damaged, or the disk is full.
    """
    run = Run(Path(path))
    sections = [*SECTIONS[run.kind](run, parts), s.cost(run), s.what_was_run(run)]
    page = Page(f"{s.TITLES[run.kind]}: {run.label}", _subtitle(run), headline(run), sections)
    return write_page(page, run.path / REPORT)


def _subtitle(run: Run) -> str:
    state = "" if run.finished else "; under way, or stopped"
    return f"{run.path.resolve().name}{state}"


def headline(run: Run) -> dict[str, str]:
    """Return the most important numbers of a run."""
    if run.kind == "test":
        miss_rate = next((name for name in run.results if name.startswith("LAMR_")), "")
        names = {n: n for n in columns_of(run)[:-1]} | {miss_rate: f"miss rate, {miss_rate.removeprefix('LAMR_')}"}
        scores = {words: points(run.value(name)) for name, words in names.items() if name in run.results}
        counts = {"parameters": "parameters", run.unit: "pairs"}
        return scores | {words: counted(run.results.get(name)) for words, name in counts.items()}
    if run.kind == "pretrain":
        scores = {f"{run.metric} on val, {phase}": points(value) for phase, value in s.best_by_phase(run).items()}
        return scores | {"time": duration(run.seconds)}
    if run.kind == "search":
        genotype = run.architecture.id if run.architecture else NONE
        return {"genotype": genotype, **search_sections.chosen(run), "time": duration(run.seconds)}
    best = run.best or {}
    names = {f"{n.removesuffix('_val')} on val": points(best.get(n)) for n in columns_of(run)}
    epoch = f"{best['epoch']} of 0 to {run.args.get('epochs', 1) - 1}" if best else NONE
    return names | {"best epoch": epoch, "time": duration(run.seconds)}


def _search(run: Run, parts: DataModule | None) -> list[Section]:
    # The scores of an evolution are those of sampled paths, not of the genotype that is chosen.
    scores = [] if search_sections.searcher_of(run) == "evolution" else [s.scores(run)]
    return [
        search_sections.architecture(run),
        search_sections.logits(run),
        s.curves(run),
        search_sections.supernet_to_genotype(run),
        *scores,
    ]


def _found(run: Run, parts: DataModule | None) -> list[Section]:
    return [
        s.scores(run),
        other_methods(run),
        search_sections.architecture(run),
        s.curves(run),
        *evaluation_sections.detections(run, parts, "val"),
    ]


def _test(run: Run, parts: DataModule | None) -> list[Section]:
    return [
        s.scores(run),
        other_methods(run),
        evaluation_sections.by_scene(run),
        evaluation_sections.robustness(run),
        *evaluation_sections.detections(run, parts, run.results.get("part", "")),
        search_sections.architecture(run),
    ]


def _pretrain(run: Run, parts: DataModule | None) -> list[Section]:
    return [s.curves(run)]


SECTIONS: dict[str, Callable[[Run, DataModule | None], list[Section]]] = {
    "pretrain": _pretrain,
    "search": _search,
    "found": _found,
    "test": _test,
}

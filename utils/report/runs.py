"""The report of one run: which sections its page has."""

from collections.abc import Callable
from pathlib import Path

from datasets.parts import Parts
from utils.report import sections as s
from utils.report.others import beside_others
from utils.report.page import Page, Section, write_page
from utils.report.run import Run, counted, duration, number, points

REPORT = "report.html"


def write_report(path: Path, parts: Parts | None = None) -> Path:
    """Write RUN/report.html from the files of a run, finished or under way; returns where it is.

    Args:
        path: of the run folder.
        parts: the run's data, for precision against recall and the gallery, which are left out without.

    Raises:
        UserError: the folder is no run, a file in it is damaged, or there is no room.
    """
    run = Run(Path(path))
    sections = [s.what_was_run(run), *SECTIONS[run.kind](run, parts), s.cost(run)]
    first, *others = sections
    page = Page(f"{TITLES[run.kind]}: {run.label}", _subtitle(run), headline(run), [*others, first])
    return write_page(page, run.path / REPORT)


def _subtitle(run: Run) -> str:
    when = "" if run.finished else "; under way, or stopped"
    return f"{run.path.name}{when}"


def headline(run: Run) -> dict[str, str]:
    """Return the numbers that are looked for first."""
    wall = duration(run.read("timing.json").get("wall_seconds"))
    if run.kind == "test":
        scores = {name: points(run.value(name)) for name in ("AP", "AP50") if name in run.results}
        people = {"miss rate, people": points(run.value("LAMR_person"))} if run.value("LAMR_person") is not None else {}
        return (
            scores
            | people
            | {"parameters": counted(run.results.get("parameters")), "pairs": counted(run.results.get("pairs"))}
        )
    if run.kind == "pretrain":
        return {f"AP on val, {phase}": value for phase, value in best_by_phase(run).items()}
    best = run.best or {}
    names = {"AP on val": points(best.get("AP_val")), "AP50 on val": points(best.get("AP50_val"))}
    names |= {"best epoch": f"{best.get('epoch')} of 0 to {run.args.get('epochs', 1) - 1}", "time": wall}
    return {"genotype": run.genotype.id if run.genotype else "none", **names} if run.kind == "search" else names


def best_by_phase(run: Run) -> dict[str, str]:
    best: dict[str, float] = {}
    for row in run.rows:
        best[str(row.get("phase"))] = max(best.get(str(row.get("phase")), 0), number(row.get("AP_val"), 0))
    return {phase: points(value) for phase, value in best.items()}


def _search(run: Run, parts: Parts | None) -> list[Section]:
    return [s.genotype(run), s.logits(run), s.curves(run), s.settled(run), s.scores(run)]


def _found(run: Run, parts: Parts | None) -> list[Section]:
    return [s.scores(run), beside_others(run), s.genotype(run), s.curves(run), *s.found_boxes(run, parts, "val")]


def _test(run: Run, parts: Parts | None) -> list[Section]:
    part = str(run.results.get("part"))
    own = [s.scores(run), beside_others(run), s.by_scene(run), s.robustness(run)]
    return [*own, *s.found_boxes(run, parts, part), s.genotype(run)]


def _pretrain(run: Run, parts: Parts | None) -> list[Section]:
    return [s.curves(run)]


SECTIONS: dict[str, Callable[[Run, Parts | None], list[Section]]] = {
    "pretrain": _pretrain,
    "search": _search,
    "found": _found,
    "test": _test,
}
TITLES = {"pretrain": "Pretraining", "search": "Search", "found": "Training", "test": "Test"}

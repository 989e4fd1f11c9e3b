"""The report of one run: which sections its page has."""

from collections.abc import Callable
from pathlib import Path

from datasets.data_module import DataModule
from report import searched, tested
from report import sections as s
from report.others import beside_others, columns_of
from report.page import Page, Section, write_page
from report.run import NONE, Run, counted, duration, points

REPORT = "report.html"


def write_report(path: Path, parts: DataModule | None = None) -> Path:
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
    page = Page(f"{s.TITLES[run.kind]}: {run.label}", _subtitle(run), headline(run), [*others, first])
    return write_page(page, run.path / REPORT)


def _subtitle(run: Run) -> str:
    when = "" if run.finished else "; under way, or stopped"
    return f"{run.path.resolve().name}{when}"


def headline(run: Run) -> dict[str, str]:
    """Return the numbers that are looked for first."""
    if run.kind == "test":
        people = next((name for name in run.results if name.startswith("LAMR_")), "")
        names = {n: n for n in columns_of(run)[:2]} | {people: f"miss rate, {people.removeprefix('LAMR_')}"}
        scores = {words: points(run.value(name)) for name, words in names.items() if name in run.results}
        counts = {"parameters": "parameters", run.unit: "pairs"}
        return scores | {words: counted(run.results.get(name)) for words, name in counts.items()}
    if run.kind == "pretrain":
        scores = {f"{run.metric} on val, {phase}": points(value) for phase, value in s.best_by_phase(run).items()}
        return scores | {"time": duration(run.seconds)}
    if run.kind == "search":
        return {
            "genotype": run.genotype.id if run.genotype else NONE,
            **searched.chosen(run),
            "time": duration(run.seconds),
        }
    best = run.best or {}
    names = {f"{n.removesuffix('_val')} on val": points(best.get(n)) for n in columns_of(run)}
    epoch = f"{best['epoch']} of 0 to {run.args.get('epochs', 1) - 1}" if best else NONE
    return names | {"best epoch": epoch, "time": duration(run.seconds)}


def _search(run: Run, parts: DataModule | None) -> list[Section]:
    # The scores of an evolution are those of a path, not of the network that is chosen.
    scores = [] if searched.searcher_of(run) == "evolution" else [s.scores(run)]
    return [searched.genotype(run), searched.logits(run), s.curves(run), searched.settled(run), *scores]


def _found(run: Run, parts: DataModule | None) -> list[Section]:
    return [
        s.scores(run),
        beside_others(run),
        searched.genotype(run),
        s.curves(run),
        *tested.found_boxes(run, parts, "val"),
    ]


def _test(run: Run, parts: DataModule | None) -> list[Section]:
    part = run.results.get("part", "")
    own = [s.scores(run), beside_others(run), tested.by_scene(run), tested.robustness(run)]
    return [*own, *tested.found_boxes(run, parts, part), searched.genotype(run)]


def _pretrain(run: Run, parts: DataModule | None) -> list[Section]:
    return [s.curves(run)]


SECTIONS: dict[str, Callable[[Run, DataModule | None], list[Section]]] = {
    "pretrain": _pretrain,
    "search": _search,
    "found": _found,
    "test": _test,
}

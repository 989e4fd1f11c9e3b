"""The page of one run: its headline and its sections."""

from pathlib import Path

from datasets.data_module import DataModule
from report import evaluation_sections, search_sections
from report import sections as s
from report.comparison import columns_of, other_methods
from report.formatting import NONE, counted, duration, points
from report.page import Page, Section, write_page
from report.run import Run


def write_report(path: Path, data: DataModule | None = None) -> Path:
    """Write report.html into a run folder, finished or not, from its files; returns the path of the page.

    Args:
        path: the run folder.
        data: the run's data, for precision against recall and the gallery; without it the page has neither.

    Raises:
        UserError: the folder is not a run folder, a file in it is damaged, or the disk is full.
    """
    run = Run(Path(path), data)
    subtitle = run.path.resolve().name + ("" if run.finished else "; under way, or stopped")
    sections = [*sections_of(run), s.cost(run), s.what_was_run(run)]
    page = Page(f"{s.TITLES[run.kind]}: {run.label}", subtitle, headline(run), sections)
    return write_page(page, run.path / "report.html")


def sections_of(run: Run) -> list[Section]:
    """Return the sections of a run's kind, in order."""
    if run.kind == "pretrain":
        return [s.curves(run)]
    architecture, scores = search_sections.architecture(run), s.scores(run)
    if run.kind == "search":
        choice = search_sections.supernet_to_genotype(run)
        return [architecture, search_sections.logits(run), s.curves(run), choice, scores]
    both, detections = [scores, other_methods(run)], evaluation_sections.detections(run)
    if run.kind == "found":
        return [*both, architecture, s.curves(run), *detections]
    return [*both, evaluation_sections.by_scene(run), evaluation_sections.robustness(run), *detections, architecture]


def headline(run: Run) -> dict[str, str]:
    """Return the most important numbers of a run."""
    if run.kind == "test":
        miss_rate = next((name for name in run.results if name.startswith("LAMR_")), "")
        names = {n: n for n in columns_of(run)[:-1]} | {miss_rate: f"miss rate, {miss_rate.removeprefix('LAMR_')}"}
        scores = {words: points(run.value(name)) for name, words in names.items() if name in run.results}
        counts = {"parameters": "parameters", run.unit: "pairs"}
        return scores | {words: counted(run.results.get(name)) for words, name in counts.items()}
    if run.kind == "pretrain":
        best = run.best_by("phase", run.rows)
        scores = {f"{run.metric} on val, {phase}": points(value) for phase, value in best.items()}
        return scores | {"time": duration(run.seconds)}
    if run.kind == "search":
        genotype = run.architecture.id if run.architecture else NONE
        return {"genotype": genotype, **search_sections.chosen(run), "time": duration(run.seconds)}
    names = {f"{n.removesuffix('_val')} on val": points(run.value(n)) for n in columns_of(run)}
    epoch = f"{run.best['epoch']} of 0 to {run.args.get('epochs', 1) - 1}" if run.best else NONE
    return names | {"best epoch": epoch, "time": duration(run.seconds)}

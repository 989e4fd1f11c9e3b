"""Writes docs/results.md and its pictures from the rows of the fusion study.

    python -m benchmarks.fusion_study.report [--out docs/results.md]

The same rows give the same text. Numbers: summary.py and ranking.py; text: words.py; pictures: plots.py.
"""

from pathlib import Path

from benchmarks.fusion_study.plots import plot_pareto, plot_study
from benchmarks.fusion_study.rows import FAILURE, RANKING, RATING, STUDY
from benchmarks.fusion_study.summary import Key, Row, best, groups, parts, ranks
from benchmarks.fusion_study.words import (
    against_random,
    cautions,
    choice,
    comparisons,
    conditions,
    failures,
    passes,
    ranking_words,
    supernets,
    table,
)
from benchmarks.rows import read_rows
from tools.demo.summary import markdown
from utils.args import Parser, command
from utils.subprocesses import ROOT

HEAD = """\
# Results of the fusion study

Made by `python -m benchmarks.fusion_study.report` from the rows of `results/fusion_study.csv`,
`results/fusion_ranking.csv`, `results/fusion_rating.csv` and `results/fusion_failure.csv` alone; not written by hand.
AP, AP50 and differences are in points of 100, mean ± standard deviation over the seeds. Each seed renders scenes of its
own, where they are rendered, pretrains its own streams and trains every method on the same pairs; so methods are
compared seed by seed. A method is chosen by AP on `val` (AP_val) and reported by AP on the test pairs.
"""
PICTURES = {"fusion_study": "AP per method", "fusion_pareto": "AP against multiply-accumulates and parameters"}


@command
def main(argv: list[str]) -> None:
    parser = Parser("Write docs/results.md from the rows of the fusion study.")
    parser.add_argument(
        "--out",
        default=str(ROOT / "docs/results.md"),
        help="file to write; pictures go to images/ in its folder (docs/results.md)",
    )
    out = Path(parser.parse_args(argv).out)
    rows = read_rows(STUDY)
    (out.parent / "images").mkdir(parents=True, exist_ok=True)
    out.write_text(report(rows, read_rows(RANKING), read_rows(RATING), read_rows(FAILURE)), encoding="utf-8")
    if rows:
        plot_study(rows, out.parent / "images/fusion_study.png")
        plot_pareto(rows, out.parent / "images/fusion_pareto.png")
    print(f"results: {out}")


def report(rows: list[Row], ranking: list[Row], rating: list[Row], failure: list[Row]) -> str:
    """Return the whole page as Markdown."""
    if not rows:
        return f"{HEAD}\nThere are no rows yet.\n"
    pictures = [f"![{words}](images/{name}.png)" for name, words in PICTURES.items()]
    by_study = [parts(table) for table in (rows, ranking, rating, failure)]
    sections = [section(key, *(table.get(key, []) for table in by_study)) for key in by_study[0]]
    return "\n\n".join([HEAD.rstrip(), *pictures, *sections]) + "\n"


def section(key: Key, rows: list[Row], ranking: list[Row], rating: list[Row], failure: list[Row]) -> str:
    """Return the section of one study."""
    dataset, scenes, config = key
    found = groups(rows)
    used = [row for group in found for row in group.rows]
    blocks = [f"## {dataset}: {config}", conditions(used, scenes), markdown(table(found)).rstrip(), passes(found)]
    chosen = best(found, ("searched",), "AP_val")
    if chosen:
        blocks += [choice(found, chosen), *comparisons(found, chosen)]
    blocks += supernets(found)
    blocks += [block for g in found if g.kind == "random" for block in against_random(found, g)]
    blocks += [*(ranking_words(r) for r in ranks(ranking, rating)), *failures(failure, found)]
    return "\n\n".join(filter(None, [*blocks, cautions(dataset, found, len(rows) - len(used))]))


if __name__ == "__main__":
    raise SystemExit(main())

"""Runs every method of the demo on synthetic road scenes, over several seeds; one row per seed and method.

    python -m benchmarks.road_scenes [--seeds 2 3 4] [--methods NAME ...] [--config configs/demo.yaml]

Seed S renders its own scenes and trains with seed S, in runs/road_scenes-S. A row of the same renderer, scenes, config,
seed and method is not measured again, and a seed that was stopped is resumed. Rows: results/road_scenes.csv.
"""

import statistics
from dataclasses import replace

from benchmarks.rows import append_row, read_rows
from datasets.road_scenes import scenes_hash
from tools.demo.__main__ import config_hash, exit_codes, run_demo
from tools.demo.options import Options, add_options, to_options
from tools.demo.summary import aligned, gains
from tools.demo.tasks import FLIRA, SCENE
from utils.args import Parser, command
from utils.option_types import seed as as_seed

NAME = "road_scenes"
EXTRA = ("search_seconds", "search_pair_passes")  # columns of searched rows only


@command
def main(argv: list[str]) -> None:
    options, seeds = parse(argv)
    with exit_codes():
        for seed in seeds:
            measure(replace(options, seed=seed, out=f"runs/{NAME}-{seed}"))
    print(report([r for r in read_rows(NAME) if same(r, conditions(options)) and int(r["seed"]) in seeds]))


def parse(argv: list[str]) -> tuple[Options, list[int]]:
    parser = Parser("Measure every method on road scenes, over several seeds.")
    add_options(parser, "all")
    parser.add_argument("--seeds", type=as_seed, nargs="+", default=[2, 3, 4], help="of scenes and training (2 3 4)")
    parser.set_defaults(methods=FLIRA.methods)
    args = parser.parse_args(argv)
    return to_options(args), args.seeds


def measure(options: Options) -> None:
    """Run the methods of one seed that have no row yet, and append their rows."""
    columns = conditions(options) | {"seed": options.seed}
    done = {r["method"] for r in read_rows(NAME) if same(r, columns)}
    methods = tuple(m for m in options.methods if m not in done)
    if not methods:
        return
    summary = run_demo(replace(options, methods=methods), resume=True)
    for method, row in summary["rows"].items():
        numbers = {k: round(v, 4) if isinstance(v, float) else v for k, v in (dict.fromkeys(EXTRA) | row).items()}
        append_row(NAME, columns | {"method": method} | numbers)


def conditions(options: Options) -> dict[str, object]:
    """Return the columns that rows must share to be compared."""
    config = {"config": options.config, "config_hash": config_hash(options.config)}
    return {"scenes": scenes_hash()} | config | options.sizes


def same(row: dict[str, str], columns: dict[str, object]) -> bool:
    return all(row[name] == str(value) for name, value in columns.items())


def report(rows: list[dict[str, str]]) -> str:
    """Return mean and deviation over seeds per method, and the gains of the search, in points of 100."""
    names = [n for n in rows[0] if n in ("AP", "AP50", "LAMR_person") or n.startswith(SCENE)]
    table = [["method", *(n.removeprefix("AP_scene_") for n in names), "runs"]]
    for method in [m for m in FLIRA.methods if any(r["method"] == m for r in rows)]:
        of_method = [r for r in rows if r["method"] == method]
        scores = (mean_deviation([float(r[n]) for r in of_method if r[n]]) for n in names)
        table.append([method, *scores, str(len(of_method))])
    commits = sorted({r["commit"] for r in rows})
    note = [f"note: rows of {len(commits)} commits: {', '.join(commits)}"] if len(commits) > 1 else []
    return "\n".join([aligned(table), "", *report_gains(rows), *note])


def report_gains(rows: list[dict[str, str]]) -> list[str]:
    """Return the gains of the search per seed, then their mean and deviation."""
    lines, all_gains = [], {}
    for seed in sorted({int(r["seed"]) for r in rows}):
        by_method = {r["method"]: {n: float(r[n]) for n in ("AP", "AP50")} for r in rows if int(r["seed"]) == seed}
        for kind, numbers in gains(by_method).items():
            for number, g in numbers.items():
                words = f"searched minus {kind.replace('_', ' ')}, {number}"
                lines.append(f"seed {seed}: {words}: {round(100 * g['gain'], 1) + 0.0:+.1f} (over {g['over']})")
                all_gains.setdefault(words, []).append(g["gain"])
    return lines + [f"{words}: {mean_deviation(values)} ({len(values)} seeds)" for words, values in all_gains.items()]


def mean_deviation(values: list[float]) -> str:
    """Return mean and standard deviation in points of 100; "-" without values."""
    if not values:
        return "-"
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    raise SystemExit(main())

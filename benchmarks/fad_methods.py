"""Trains and tests towers on a real data set by the published command lines; one row per method and seed.

    python -m benchmarks.fad_methods DIR --weights FILE [--seeds 2 3 4] [--methods plain searched ...]

Methods: plain towers; plain ones widened to the parameters, or the multiplications, of the towers that were searched
with the same seed; plain ones whose class tower reads the box tower; towers of one operation (std_conv_3x3, one or
three); the published pairs; five random genotypes; searched towers. The first seed has a row of every method. The
others have plain, widened, searched, and the random genotype that was best on `val`. The test list chooses nothing.
Rows: results/fad_methods.csv. A row that is there is not measured again, and a stopped command goes on behind it.
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks.rows import append_row, read_rows, same
from models.search.fusion_cells.genotype import Genotype
from models.search.tower_cells.genotype import INPUTS, PLACES, TowerCell, to_text
from models.search.tower_cells.operations import PUBLISHED
from utils.subprocesses import ROOT, named, run

GENOTYPES = ROOT / "checkpoints" / "genotypes"
SOURCES: dict[str, tuple[object, ...]] = {  # options of each method; SEARCH: the search run of the seed
    "plain": ("--baseline", "fcos"),
    "searched": ("--search_exp_dir", "SEARCH"),
    "widened_parameters": ("--baseline", "fcos", "--match_parameters", "SEARCH"),
    **{f"random_{number}": ("--random_genotype", number) for number in range(1, 6)},
    "widened_macs": ("--baseline", "fcos", "--match_macs", "SEARCH"),
    "wired": ("--baseline", "fcos_wired"),
    "std_conv_3x3": ("--genotype", "std_conv_3x3.log"),
    "std_conv_3x3_x3": ("--genotype", "std_conv_3x3_x3.log"),
    "paper": ("--genotype", GENOTYPES / "fad_paper.json"),
    "other": ("--genotype", GENOTYPES / "fad_other.json"),
}
REPEATED = ("plain", "searched", "widened_parameters")  # for every seed
COLUMNS = ("AP", "AP50", "AP75", "AP_val", "epoch", "parameters", "macs")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--weights", required=True, help="of the encoder, as of --encoder_weights")
    parser.add_argument("--dataset", default="voc")
    parser.add_argument("--config", default="configs/fad_laptop.yaml")
    parser.add_argument("--epochs", type=int, default=6, help="of searches and trainings")
    parser.add_argument("--out", type=Path, default=Path("runs/fad_methods"), help="folder of genotypes and searches")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--methods", nargs="+", choices=list(SOURCES), default=list(SOURCES))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(args.seeds):
        repeated = (*REPEATED, best_random(args)) if number else tuple(SOURCES)
        for method in args.methods:
            if method in repeated:
                measure(args, method, seed)


def facts(args: argparse.Namespace) -> dict[str, object]:
    """Return what rows that may be compared have in common."""
    return {"dataset": Path(args.data).name, "config": args.config, "epochs": args.epochs}


def best_random(args: argparse.Namespace) -> str:
    """Return the random genotype with the highest AP on `val`, of the first seed."""
    rows = [row for row in read_rows("fad_methods") if same(row, facts(args) | {"seed": args.seeds[0]})]
    drawn = {row["method"]: float(row["AP_val"]) for row in rows if row["method"].startswith("random")}
    return max(drawn, key=lambda method: drawn[method], default="")


def measure(args: argparse.Namespace, method: str, seed: int) -> None:
    """Train and test a method, and append the row, unless it is there."""
    key = facts(args) | {"method": method, "seed": seed}
    if any(same(row, key) for row in read_rows("fad_methods")):
        return
    one_operation = args.out / f"{method}.log"
    if SOURCES[method][1] == one_operation.name:
        one_operation.write_text(to_text(one_genotype(method)), encoding="utf-8")
    places = {"SEARCH": searched(args, seed) if "SEARCH" in SOURCES[method] else "", one_operation.name: one_operation}
    source = [places.get(str(word), word) for word in SOURCES[method]]
    started = time.perf_counter()
    common = [args.data, "--dataset", args.dataset, "--config", args.config, "--seed", seed]
    training = [*common, *source, "--epochs", args.epochs, "--encoder_weights", args.weights, "--no_report"]
    trained = named(run("main_darts_found_fad.py", *training), "eval_exp_dir")
    tested = [*common, *(source if method == "searched" else []), "--eval_exp_dir", trained]
    results = json.loads(Path(named(run("main_darts_found_fad.py", *tested), "results")).read_text())
    numbers = {name: round(v, 4) if isinstance(v := results[name], float) else v for name in COLUMNS}
    seconds = round(time.perf_counter() - started)
    append_row("fad_methods", numbers | {"split": results["split"], "seconds": seconds}, key=key)


def searched(args: argparse.Namespace, seed: int) -> Path:
    """Return the run of a seed's search, which is run unless it has ended."""
    note = args.out / f"search_{args.epochs}_{seed}.txt"
    if not note.exists():
        words = [args.data, "--dataset", args.dataset, "--config", args.config, "--seed", seed]
        words += ["--epochs", args.epochs, "--encoder_weights", args.weights, "--no_report"]
        note.write_text(named(run("main_darts_searchable_fad.py", *words), "search_exp_dir"), encoding="utf-8")
    return Path(note.read_text(encoding="utf-8"))


def one_genotype(operation: str) -> Genotype:
    """Return towers all of whose edges are one operation, from the first two states."""
    cell = TowerCell.of((operation, source) for _ in range(3) for source in (0, 1))
    return Genotype(INPUTS, PLACES, 96, (cell, cell), None, PUBLISHED)


if __name__ == "__main__":
    main()

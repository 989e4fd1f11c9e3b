"""The second task in minutes, on films made up in MM-IMDB's own format: poster and plot tell half of the genres each.

    python -m tools.demo.mmimdb        (`make demo-mmimdb`)

Makes and prepares the data, pretrains both encoders, searches, trains and tests: each modality, both late fusions, a
random genotype, the searched one. OUT gets summary.json and table.txt; each step is a command that works alone.
"""

import sys
import time
from pathlib import Path

from tools.demo.__main__ import exit_codes, say
from tools.demo.jobs import environment_for, job
from tools.demo.options import CORES
from tools.demo.summary import aligned, device, pair_passes
from tools.jobs import Finished, Job, run_jobs
from tools.out_folder import prepare
from utils.args import Parser, command
from utils.option_types import positive
from utils.option_types import seed as as_seed
from utils.run_folder import commit, read_json, write_json
from utils.subprocesses import named

CONFIG = "configs/demo_mmimdb.yaml"
BASELINES = ("text", "image", "sum", "concat")
METHODS = (*BASELINES, "random", "searched")
SEARCH, FOUND = "main_darts_searchable_mmimdb.py", "main_darts_found_mmimdb.py"
NUMBERS = ("F1_weighted", "F1_micro", "F1_macro", "F1_samples")


@command
def main(argv: list[str]) -> None:
    parser = Parser("Search the fusion of made-up films' posters and plots, and compare it with others.")
    add = parser.add_argument
    add("--out", default="runs/demo-mmimdb", metavar="DIR", help="folder of results (runs/demo-mmimdb)")
    add("--seed", type=as_seed, default=1, help="seed of data, pretraining, search and training (1)")
    for name, size in {"train": 800, "dev": 400, "test": 500}.items():
        add(f"--{name}", type=positive, default=size, help=f"films of the {name} list ({size})")
    args = parser.parse_args(argv)
    with exit_codes():
        run_demo(Path(args.out), args.seed, {name: getattr(args, name) for name in ("train", "dev", "test")})


def run_demo(out: Path, seed: int, counts: dict[str, int]) -> dict:
    """Run everything, write OUT, and return the summary.

    Raises:
        UserError: OUT is no folder of ours.
        JobFailed: a command failed; the others were stopped.
    """
    started = time.perf_counter()
    prepare(out, {"seed": seed, "commit": commit()} | counts, resume=False)
    jobs = demo_jobs(out, seed, counts)
    say(f"{len(jobs)} commands, 2 side by side on {CORES} cores; logs in {out}/logs")
    done = run_jobs(jobs, 2, out / "logs", environment_for(2, CORES), say=say)
    summary = {"rows": {m: row(m, done) for m in METHODS}, "gains": {}, "wall_s": None, "seed": seed}
    scores = {m: r["F1_weighted"] for m, r in summary["rows"].items()}
    for other in METHODS[:-1]:
        summary["gains"][other] = round(scores["searched"] - scores[other], 6)
    summary |= {"commit": commit(), "device": device(), "wall_s": round(time.perf_counter() - started, 1)}
    write_json(out / "summary.json", summary)
    (out / "table.txt").write_text(table(summary), encoding="utf-8")
    say(f"\n{table(summary)}{summary['wall_s']:.0f} s on {summary['device']}; {out}/summary.json")
    return summary


def demo_jobs(out: Path, seed: int, counts: dict[str, int]) -> list[Job]:
    """Return all commands; the search and what hangs on it come first."""
    raw, data = out / "raw", out / "mmimdb"
    sizes = [f"--{name}={count}" for name, count in counts.items()]
    own = (data, "--config", CONFIG)
    learning = (*own, "--checkpointdir", out / "checkpoints", "--seed", seed)
    cached = ("--cache_dir", out / "cache")
    jobs = [job("make", "datasets.generated.mmimdb", (raw, "--seed", seed, *sizes), ())]
    files = (raw / "multimodal_imdb.hdf5", raw / "split.json", data)
    jobs.append(job("prepare", "datasets.prepare_mmimdb", files, ("make",)))
    encoders = ("image", "text")
    for modality in encoders:
        words = (*learning, "--modality", modality, "--save", modality)
        jobs.append(job(f"pretrain_{modality}", "main_pretrain_mmimdb.py", words, ("prepare",)))
    ready = tuple(f"pretrain_{modality}" for modality in encoders)
    jobs.append(job("search", SEARCH, (*learning, *cached, "--save", "search"), ready))
    for method in reversed(METHODS):
        jobs += _train_and_test(method, (*learning, *cached), (*own, *cached), seed, ready)
    return jobs


def _train_and_test(method: str, training: tuple, testing: tuple, seed: int, ready: tuple[str, ...]) -> list[Job]:
    source = ("--random_genotype", seed) if method == "random" else ("--baseline", method)
    training, after = (*training, "--save", method), ready
    if method == "searched":
        source, after = (), ("search",)

    def train(done: Finished) -> list:
        return ["--search_exp_dir", named(done["search"].text, "search_exp_dir")] if method == "searched" else []

    def test(done: Finished) -> list:
        return ["--eval_exp_dir", named(done[f"train_{method}"].text, "eval_exp_dir")]

    first = job(f"train_{method}", FOUND, (*training, *source), after, train)
    return [first, job(f"test_{method}", FOUND, (*testing, "--save", method), (first.name,), test)]


def row(method: str, done: Finished) -> dict:
    """Return one method's row: F1 on the test films, parameters, and what its training met."""
    results = read_json(Path(named(done[f"test_{method}"].text, "results")))
    run = Path(named(done[f"train_{method}"].text, "eval_exp_dir"))
    scores = {name: results[name] for name in NUMBERS} | {"F1_weighted_val": results["F1_weighted_val"]}
    seconds = done[f"train_{method}"].seconds + (done["search"].seconds if method == "searched" else 0)
    facts = {"params": results["parameters"], "pair_passes": pair_passes(run, ("train", "arch")), "run": str(run)}
    return scores | facts | {"seconds": round(seconds, 1)}


def table(summary: dict) -> str:
    """Return the rows as aligned text, F1 in points of 100."""
    lines = [["method", *NUMBERS, "parameters", "seconds"]]
    for method, row in summary["rows"].items():
        scores = [f"{100 * row[name]:.1f}" for name in NUMBERS]
        lines.append([method, *scores, f"{row['params']:,}", f"{row['seconds']:.0f}"])
    return aligned(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

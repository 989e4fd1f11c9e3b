"""Measures whether memory and open files of a long run grow, in the process and in its workers.

    python -m benchmarks.endurance --steps 5000

Trains a hand-made fusion on a tiny generated data set, with two workers and a checkpoint every 100 steps, and samples
/proc every second. The first fifth of the samples is left out, since libraries fill their pools then. Appends a row to
results/endurance.csv: means over the second and the last fifth, and the largest number of open files.
"""

import contextlib
import json
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.rows import append_row
from tests.tiny_data import NETWORK, make_tiny_flir
from utils.args import Parser, command
from utils.errors import UserError
from utils.option_types import positive
from utils.subprocesses import command_line, environment

CONFIG = f"""{NETWORK}batchsize: 2
workers: 2
device: cpu
checkpoint_every: 100
pretrain: {{no-imagenet: true, epochs: 1, head_epochs: 1}}
"""
PAIRS = 250  # 200 of them are training pairs after the split
PARTS = 5  # number of equal parts of the samples


def sample(pid: int) -> dict[str, float]:
    """Return memory in MiB and open files of a process, and the sums over its worker processes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    workers = [c for c in children if "python" in Path(f"/proc/{c}/cmdline").read_text()]
    process = {"process_mb": memory_mb(pid), "process_files": len(list(Path(f"/proc/{pid}/fd").iterdir()))}
    files = sum(len(list(Path(f"/proc/{c}/fd").iterdir())) for c in workers)
    return process | {"workers": len(workers), "workers_mb": sum(map(memory_mb, workers)), "workers_files": files}


def memory_mb(pid: int | str) -> float:
    """Return the anonymous resident memory of a process, without mapped files."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


def watch(argv: list[str], cwd: str, log: Path) -> list[dict[str, float]]:
    """Run a command and return a sample per second; UserError if it fails."""
    samples = []
    with open(log, "w") as out, subprocess.Popen(argv, cwd=cwd, env=environment(), stdout=out, stderr=out) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError, KeyError, ValueError):  # the process may be ending
                samples.append(sample(process.pid))
            time.sleep(1)
    if process.returncode:
        raise UserError(f"{argv}: expected exit code 0, found {process.returncode}: {log.read_text()[-500:]}")
    return [s for s in samples if s["workers"]]


def means(samples: list[dict[str, float]], part: int) -> dict[str, float]:
    """Return the means over one of the parts."""
    size = len(samples) // PARTS
    chosen = samples[part * size : (part + 1) * size]
    return {name: round(sum(s[name] for s in chosen) / len(chosen), 1) for name in chosen[0]}


def make_parser() -> Parser:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=positive, default=5000, help="optimiser steps (5000)")
    return parser


@command
def main(argv: list[str]) -> None:
    args = make_parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        data = make_tiny_flir(Path(folder) / "flir", num_train=PAIRS)
        (Path(folder) / "config.yaml").write_text(CONFIG)
        watch(command_line("main_pretrain_flira.py", data, "--config=config.yaml"), folder, Path(folder) / "out.txt")
        epochs = -(-args.steps // (PAIRS * 4 // 5 // 2))
        options = data, "--config=config.yaml", "--baseline=concat_conv", f"--epochs={epochs}"
        samples = watch(command_line("main_darts_found_flira.py", *options), folder, Path(folder) / "out.txt")
        (run,) = (Path(folder) / "runs").glob("found-*")
        rows = (run / "metrics.jsonl").read_text().splitlines()
    if len(samples) < 2 * PARTS:
        raise UserError(f"--steps {args.steps}: expected a run of {2 * PARTS} seconds or more, found {len(samples)}")
    early, late = means(samples, 1), means(samples, PARTS - 1)
    row = {"steps": args.steps, "epochs": len(rows), "seconds": len(samples), "workers": late.pop("workers")}
    for name, value in late.items():
        row |= {f"{name}_early": early[name], f"{name}_late": value}
    row |= {f"{name}_most": round(max(s[name] for s in samples)) for name in ("process_files", "workers_files")}
    append_row("endurance", row)
    print(json.dumps(row))


if __name__ == "__main__":
    raise SystemExit(main())

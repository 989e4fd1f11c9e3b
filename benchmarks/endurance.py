"""Whether a long run stays as small as it was: memory and open files of the process and of its workers.

    python -m benchmarks.endurance --steps 5000

Trains a hand-made fusion on a tiny drawn data set, with two workers and a checkpoint every 100 steps, and looks at
/proc every second. The first fifth of the looks is left out, since libraries fill their pools there. Appends a row to
results/endurance.csv: means over the second fifth and over the last one, and what was opened most.
"""

import contextlib
import json
import subprocess
import sys
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
PAIRS = 250  # of which the data set's split leaves 200 to learn from
SHARE = 5  # the looks are cut into so many equal parts


def sample(pid: int) -> dict[str, float]:
    """Return memory in MiB and open files of a process, and of its children together."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    workers = [c for c in children if "python" in Path(f"/proc/{c}/cmdline").read_text()]
    own = {"process_mb": memory_mb(pid), "process_files": len(list(Path(f"/proc/{pid}/fd").iterdir()))}
    files = sum(len(list(Path(f"/proc/{c}/fd").iterdir())) for c in workers)
    return own | {"workers": len(workers), "workers_mb": sum(map(memory_mb, workers)), "workers_files": files}


def memory_mb(pid: int | str) -> float:
    """Return the resident memory that is the process's own: without files that are mapped."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


def watch(argv: list[str], cwd: str, log: Path) -> list[dict[str, float]]:
    """Run a command to its end and return a look per second; UserError where it fails."""
    looks = []
    with open(log, "w") as out, subprocess.Popen(argv, cwd=cwd, env=environment(), stdout=out, stderr=out) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError, KeyError, ValueError):  # it may be ending just now
                looks.append(sample(process.pid))
            time.sleep(1)
    if process.returncode:
        raise UserError(f"{argv}: expected exit code 0, found {process.returncode}: {log.read_text()[-500:]}")
    return [one for one in looks if one["workers"]]


def means(looks: list[dict[str, float]], part: int) -> dict[str, float]:
    """Return the means over one of the parts."""
    size = len(looks) // SHARE
    own = looks[part * size : (part + 1) * size]
    return {name: round(sum(one[name] for one in own) / len(own), 1) for name in own[0]}


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
        looks = watch(command_line("main_darts_found_flira.py", *options), folder, Path(folder) / "out.txt")
        (run,) = (Path(folder) / "runs").glob("found-*")
        rows = (run / "metrics.jsonl").read_text().splitlines()
    if len(looks) < 2 * SHARE:
        raise UserError(f"--steps {args.steps}: expected a run of {2 * SHARE} seconds or more, found {len(looks)}")
    early, late = means(looks, 1), means(looks, SHARE - 1)
    row = {"steps": args.steps, "epochs": len(rows), "seconds": len(looks), "workers": late.pop("workers")}
    for name, value in late.items():
        row |= {f"{name}_early": early[name], f"{name}_late": value}
    row |= {f"{name}_most": round(max(one[name] for one in looks)) for name in ("process_files", "workers_files")}
    append_row("endurance", row)
    print(json.dumps(row))


if __name__ == "__main__":
    sys.exit(main())

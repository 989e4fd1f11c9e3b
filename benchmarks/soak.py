"""Interrupts the three commands many times and resumes them; the results must not change.

    make soak            or: python -m benchmarks.soak --cases kill term cut full wandb --seed 0 [--task fad]

Each command (pretraining, search, training of the found genotype) runs once without interruption on a tiny generated
data set. Then each case interrupts it, resumes it until it has finished, and compares all files that depend on
learning, byte by byte or number by number. One row per case and command in results/soak.csv. A difference ends the
script with exit code 1.

- kill: SIGKILL at random moments: after an optimiser step, between steps, during the writing of a checkpoint, between
  its parts, in validation.
- term: SIGTERM, SIGINT or SIGUSR1 at random steps; the command must save and exit with 3.
- cut: last.pt is truncated at a random position before each resume.
- full: files may not grow beyond a limit, as on a full disk; the command must exit with 2 and leave earlier files
intact.
- wandb: its process is killed; the run must end as without it.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.rows import append_row
from tasks.detection.task import DetectionEvaluator
from tests.tiny_data import NETWORK, make_tiny_flir
from utils.args import Parser, command
from utils.option_types import positive, seed
from utils.subprocesses import ROOT, environment

CONFIG = f"""{NETWORK}batchsize: 3
device: cpu
no_report: true
photometric: 0.3
checkpoint_every: 2
pretrain: {{no-imagenet: true, epochs: 3, head_epochs: 3}}
search: {{epochs: 6, drpt: 0.2, Ti: 1}}
found: {{epochs: 8, Ti: 1}}
"""
# Of FAD, on the thermal pictures of the same data; encoder and FPN learn along.
CONFIG_FAD = """\
backbone: test_efficientnet
C: 16
camera: thermal
dataset: flir_aligned
canvas: fixed
image_size: 160x160
workers: 0
batchsize: 3
device: cpu
no_report: true
photometric: 0.3
checkpoint_every: 2
no-imagenet: true
pretrain: {epochs: 3}
search: {epochs: 6, head_channels: 8, towers: cls}
found: {epochs: 8, head_channels: 8, head_cells: 1, towers: cls}
"""
CONFIGS = {"flira": CONFIG, "fad": CONFIG_FAD}
SCRIPTS = {"pretrain": "main_pretrain", "search": "main_darts_searchable", "found": "main_darts_found"}
STOPPING = ("SIGTERM", "SIGINT", "SIGUSR1")
KILLS = {"pretrain": 7, "search": 7, "found": 6}  # 20 in all
CUTS = {"pretrain": 6, "search": 7, "found": 7}
# Where a command can be interrupted: module, class or "", function, before or after its call, and the largest number
# of the call.
POINTS = {
    "step": ("engine.nonfinite", "Guard", "step", "after", 6),
    "step end": ("engine.checkpointer", "Checkpointer", "on_step_end", "before", 6),
    "validation": ("tasks.detection.task", "DetectionEvaluator", "add", "before", 2),
    "metrics": ("utils.run_folder", "RunFolder", "append_row", "after", 1),
    "staged": ("engine.checkpointer", "Checkpointer", "waiting", "after", 4),
    "writing": ("utils.checkpoint", "_Output", "write", "after", 2000),
    "written": ("utils.files", "", "sync_folder", "before", 8),
}


class Place:
    """A folder to run the commands in; all places share the data set."""

    def __init__(self, root: Path, data: Path, config: Path, workers: int, task: str = "flira"):
        self.root, self.data, self.config, self.workers, self.task = root, data, config, workers, task
        root.mkdir(parents=True)

    def argv(self, kind: str, *more: object) -> list[str]:
        """Return the command line of a command."""
        source = ["--genotype", "genotype.json"] if kind == "found" else []
        fixed = [str(self.data), f"--config={self.config}", f"--workers={self.workers}", "--resume=auto"]
        return [str(ROOT / f"{SCRIPTS[kind]}_{self.task}.py"), *fixed, *source, *map(str, more)]

    def run(self, kind: str, *more: object, strike: dict | None = None, env: dict | None = None) -> tuple[int, str]:
        """Run a command and interrupt it (see `struck`); returns its exit code and output."""
        argv = self.argv(kind, *more)
        start = [sys.executable, "-m", "benchmarks.soak", "--struck", json.dumps(strike)]
        variables = environment({"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **(env or {})})
        done = subprocess.run(
            [*start, *argv], cwd=self.root, env=variables, capture_output=True, text=True, check=False, timeout=600
        )
        return done.returncode, done.stdout + done.stderr

    def folder(self, kind: str) -> Path:
        """Return the only run folder of a kind."""
        (path,) = (self.root / "runs").glob(f"{kind}-*")
        return path

    def give(self, other: "Place", kind: str) -> None:
        """Copy the results of earlier commands that a command needs."""
        if kind != "pretrain":
            shutil.copytree(self.root / "checkpoints", other.root / "checkpoints", dirs_exist_ok=True)
        if kind == "found":
            shutil.copy(self.folder("search") / "genotype.json", other.root)


def struck(strike: dict | None, argv: list[str]) -> int:
    """Run a command in this process and interrupt it.

    The score is the mean confidence of all detections: AP of so small a network is 0, so the best epoch would always be
    the first.

    Args:
        strike: None, or a dict with "point" of POINTS, "count" (the number of the call) and either "signal" (its name)
            or "limit" (the largest size of a file from then on, in bytes).
        argv: the script and its arguments.
    """
    DetectionEvaluator.compute = mean_confidence
    if strike:
        set_up(strike)
    return main_of(argv[0])(argv[1:])


def main_of(script: str) -> Callable[[list[str]], int]:
    """Return the main function of a script."""
    return __import__(Path(script).stem).main


def mean_confidence(evaluator: DetectionEvaluator) -> dict[str, float]:
    scores = [item["score"] for item in evaluator.answers]
    return {"AP": sum(scores) / max(len(scores), 1)}


def set_up(strike: dict) -> None:
    """Replace the function at the point by one that interrupts the command."""
    module, owner, name, when, _ = POINTS[strike["point"]]
    target = __import__(module, fromlist=["_"])
    target = getattr(target, owner) if owner else target
    original, calls = getattr(target, name), []

    def wrapper(*args, **options):
        calls.append(None)
        if len(calls) != strike["count"]:
            return original(*args, **options)
        if when == "before":
            blow(strike)
        result = original(*args, **options)
        if when == "after":
            blow(strike)
        return result

    setattr(target, name, wrapper)


def blow(strike: dict) -> None:
    """Send the signal, or set the limit of file sizes."""
    if "limit" in strike:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (strike["limit"], strike["limit"]))
    elif strike["signal"] == "wandb":
        kill_children("wandb-core")
    else:
        os.kill(os.getpid(), getattr(signal, strike["signal"]))


def kill_children(name: str) -> None:
    """Kill the child processes whose command contains the name; an error if there is none."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words, parent = (path / "cmdline").read_text(), (path / "stat").read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue
        if name in words.partition("\0")[0] and int(parent) == os.getpid():
            found.append(int(path.name))
    assert found, f"no {name} to kill"
    for number in found:
        os.kill(number, signal.SIGKILL)


def differences(first: Path, second: Path, ignored: Sequence[str] = ()) -> list[str]:
    """Return the names of files that differ between two run folders, except for `ignored` and files of times."""
    names = {p.name for folder in (first, second) for p in folder.iterdir() if p.suffix in (".pt", ".json", ".jsonl")}
    found = []
    for name in sorted(names - {"timing.json", "finished.json", "wandb.json", *ignored}):
        if not ((first / name).exists() and (second / name).exists()):
            found.append(f"{name} is in one only")
        elif content(first / name) != content(second / name):
            found.append(name)
    return found


def content(path: Path) -> object:
    """Return the content of a file that must be equal: all bytes, or all values except for times."""
    if path.suffix == ".jsonl":
        return [without_times(json.loads(line)) for line in path.read_text().splitlines()]
    if path.name.startswith("last"):
        state = torch.load(path, weights_only=True)
        del state["resume"]["seconds"], state["args"]  # the same as args.json
        return comparable(state)
    return path.read_bytes()


def without_times(row: dict) -> dict:
    return {k: v for k, v in row.items() if not k.endswith(("_seconds", "_per_s", "_mb"))}


def comparable(value: object) -> object:
    """Return nested values with tensors as bytes."""
    if isinstance(value, dict):
        return {k: comparable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [comparable(v) for v in value]
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return value


def draw(draws: random.Random, points: list[str], signals: Sequence[str]) -> dict:
    """Draw where and when a command is interrupted."""
    point = draws.choice(points)
    return {"point": point, "count": draws.randint(1, POINTS[point][-1]), "signal": draws.choice(signals)}


def kill(place: Place, kind: str, draws: random.Random, times: int) -> tuple[int, list[str]]:
    """Send SIGKILL at random moments; returns how often, and the faults."""
    faults, done = [], 0
    while done < times:
        strike = draw(draws, list(POINTS), ["SIGKILL"])
        code, text = place.run(kind, strike=strike)
        done += code == -signal.SIGKILL
        if code == 0:  # it ended before the interruption
            break
        if code != -signal.SIGKILL:
            faults.append(f"{strike}: exit code {code}: {text[-300:]}")
            break
    return done, faults


def term(place: Place, kind: str, draws: random.Random, times: int) -> tuple[int, list[str]]:
    """Send a stop signal at random moments; the exit code must be 3, and no step may be lost."""
    faults, done = [], 0
    while done < times:
        strike = draw(draws, ["step", "step end", "validation", "writing"], STOPPING)
        code, text = place.run(kind, strike=strike)
        if code == 0:
            break
        done += 1
        if code != 3 or "--resume" not in text or "Traceback" in text:
            faults.append(f"{strike}: exit code {code}: {text[-300:]}")
            break
    return done, faults


def cut(place: Place, kind: str, draws: random.Random, times: int) -> tuple[int, list[str]]:
    """Kill, truncate the last checkpoint, resume; the run must use the previous checkpoint and name both."""
    faults, done = [], 0
    while done < times:
        code, _ = place.run(kind, strike={"point": "step end", "count": 5, "signal": "SIGKILL"})
        if code == 0:
            break
        lasts = [path for path in place.folder(kind).glob("last*.pt") if "previous" not in path.name]
        if not lasts:  # killed before the first checkpoint was written
            continue
        last = max(lasts, key=lambda path: path.stat().st_mtime)
        previous = last.with_name(f"{last.stem}.previous.pt")
        if not previous.exists():
            continue
        with open(last, "r+b") as file:
            file.truncate(draws.randrange(last.stat().st_size))
        code, text = place.run(kind, strike={"point": "step end", "count": 1, "signal": "SIGKILL"})
        done += 1
        if code != -signal.SIGKILL or not re.search(rf"/{last.name}: .*; goes on from .*/{previous.name}\n", text):
            faults.append(f"cut: exit code {code}: {text[-300:]}")
    return done, faults


def full(place: Place, kind: str, draws: random.Random, times: int) -> tuple[int, list[str]]:
    """Limit the size of files during a run; the exit code must be 2 with a message, and earlier files intact."""
    faults, done = [], 0
    for _ in range(times):
        strike = {"point": "step end", "count": draws.randint(2, 9), "limit": draws.randint(1, 60) * 1000}
        code, text = place.run(kind, strike=strike)
        if code == 0:
            break
        done += 1
        if code != 2 or "File too large" not in text or "Traceback" in text:
            faults.append(f"{strike}: exit code {code}: {text[-300:]}")
        faults += [f"{path.name} was left" for path in place.folder(kind).glob("*.tmp")]
        for path in place.folder(kind).glob("*.pt"):
            torch.load(path, weights_only=True)
    return done, faults


def wandb(place: Place, kind: str, draws: random.Random, times: int) -> tuple[int, list[str]]:
    """Kill wandb's process; the run must continue and say so once."""
    code, text = place.run(kind, "--wandb", strike={"point": "step end", "count": 3, "signal": "wandb"})
    messages = text.count("the run goes on without it")
    return 1, [] if code == 0 and messages == 1 and "Traceback" not in text else [f"exit code {code}: {text[-300:]}"]


# Files that hold the options of the run, and so differ by --wandb.
WITH_OPTIONS = (
    "args.json",
    "command.json",
    "genotype.json",
    "best.pt",
    *(f"best_{n}.pt" for n in ("thermal", "rgb", "head")),
)
CASES: dict[str, tuple[Callable, dict[str, int]]] = {
    "kill": (kill, KILLS),
    "term": (term, dict.fromkeys(SCRIPTS, 4)),
    "cut": (cut, CUTS),
    "full": (full, dict.fromkeys(SCRIPTS, 2)),
    "wandb": (wandb, dict.fromkeys(SCRIPTS, 1)),
}


def disturbed(
    name: str, kind: str, whole: Place, root: Path, draws: random.Random, times: int | None = None
) -> tuple[int, list[str]]:
    """Run a case on a command until it has finished; returns the number of interruptions, and the faults."""
    place = Place(root / f"{name}-{kind}", whole.data, whole.config, whole.workers, whole.task)
    whole.give(place, kind)
    case, default = CASES[name]
    done, faults = case(place, kind, draws, times or default[kind])
    code, text = place.run(kind)
    if code != 0:
        return done, [*faults, f"resumed: exit code {code}: {text[-300:]}"]
    ignored = WITH_OPTIONS if name == "wandb" else ()
    faults += differences(whole.folder(kind), place.folder(kind), ignored)
    if kind == "pretrain":
        faults += [n for n in (f"checkpoints/{whole.task}",) if published(whole.root / n) != published(place.root / n)]
    return done, faults


def published(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def undisturbed(root: Path, workers: int, task: str) -> Place:
    """Generate the data and run every command once."""
    data = make_tiny_flir(root / "flir", num_train=24)
    (root / "config.yaml").write_text(CONFIGS[task])
    whole = Place(root / "whole", data, root / "config.yaml", workers, task)
    for kind in SCRIPTS:
        if kind == "found":
            shutil.copy(whole.folder("search") / "genotype.json", whole.root)
        code, text = whole.run(kind)
        assert code == 0, text
    return whole


def make_parser() -> Parser:
    parser = Parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("--cases", nargs="+", choices=CASES, default=list(CASES), help="kinds of interruption (all)")
    add("--seed", type=seed, default=0, help="seed of the moments (0)")
    add("--workers", type=int, choices=range(5), default=0, help="loader processes (0)")
    add("--task", choices=CONFIGS, default="flira", help="whose commands (flira)")
    add("--times", type=positive, help="interruptions of each command (20 kills in all, 20 cuts, ...)")
    return parser


@command
def main(argv: list[str]) -> None:
    args = make_parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root, failed = Path(folder), False
        whole = undisturbed(root, args.workers, args.task)
        for name in args.cases:
            for kind in SCRIPTS:
                started, draws = time.perf_counter(), random.Random(f"{args.seed} {name} {kind}")
                done, faults = disturbed(name, kind, whole, root, draws, args.times)
                seconds = round(time.perf_counter() - started)
                print(f"{name} {kind}: {done} times, {'; '.join(faults) or 'no difference'}, {seconds} s", flush=True)
                row = {
                    "case": name,
                    "script": f"{kind} {args.task}".removesuffix(" flira"),
                    "workers": args.workers,
                    "seed": args.seed,
                    "times": done,
                }
                append_row("soak", row | {"differences": len(faults), "seconds": seconds})
                failed = failed or bool(faults)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--struck"]:
        sys.exit(struck(json.loads(sys.argv[2]), sys.argv[3:]))
    raise SystemExit(main())

"""Do streams that learned on road scenes help on real pairs? Pretraining on a real set from scratch and from them.

    python -m benchmarks.transfer DIR [--config configs/laptop.yaml] [--seeds 2]

Renders road scenes, pretrains both streams on them, then on DIR, from random weights and from these streams, for as
many epochs. Scored is each modality's own detector at its best epoch on `val`. Logs are in runs/transfer-SEED/logs; a
stopped run goes on from its finished commands. Rows: results/transfer.csv.
"""

import re
import sys
from pathlib import Path

from benchmarks.rows import append_row, read_rows
from commands.options import parser_of
from commands.run import compute_of
from datasets.road_scenes import scenes_hash
from engine.nonfinite import Guard
from engine.step import Session, validator
from tasks import TASKS
from tasks.detection.build import open_data
from tasks.detection.flira import FLIRA
from tasks.detection.pretrain import build_detector
from tools.demo.__main__ import config_hash, exit_codes, say
from tools.demo.jobs import environment_for
from tools.demo.options import CORES, SINGLE
from tools.jobs import Finished, Job, run_jobs
from tools.out_folder import prepare
from utils import checkpoint
from utils.args import Parser, command, parse
from utils.option_types import positive
from utils.option_types import seed as as_seed
from utils.run_folder import commit
from utils.subprocesses import command_line

STARTS = ("scratch", "road_scenes")
SLOTS = min(2, CORES)
NUMBERS = ("AP", "AP50", "AP_person", "AP_car", "LAMR_person")


@command
def main(argv: list[str]) -> None:
    args = parse_options(argv)
    for seed in args.seeds:
        known = facts(args, seed)
        rows = [row for row in read_rows("transfer") if all(row[k] == str(v) for k, v in known.items())]
        measured = {(row["start"], row["modality"]) for row in rows}
        missing = [(s, m) for s in STARTS for m in SINGLE if (s, m) not in measured]
        if not missing:
            continue
        out = Path(f"runs/transfer-{seed}")
        with exit_codes():
            resume = prepare(out, known | {"commit": commit()}, True, ("logs/render.json",))
            done = run_jobs(jobs(args, seed, out), SLOTS, out / "logs", environment_for(SLOTS, CORES), resume, say)
        for start, modality in missing:
            found = scores(trained_in(done, start, modality), modality)
            append_row("transfer", known | {"start": start, "modality": modality} | found)


def parse_options(argv: list[str]):
    parser = Parser("Measure what streams from road scenes bring on a real data set.")
    add = parser.add_argument
    add("data", metavar="DIR", help="real data set")
    add("--config", default="configs/laptop.yaml", help="settings of all commands (configs/laptop.yaml)")
    add("--seeds", type=as_seed, nargs="+", default=[2], help="of scenes and training (2)")
    add("--pairs", type=positive, default=1400, help="road scenes to learn on (1400)")
    add("--width", type=positive, default=320, help="of a scene in pixels (320)")
    add("--road_epochs", type=positive, default=6, help="epochs on road scenes (6)")
    add("--epochs", type=positive, default=60, help="epochs on DIR, from either start (60)")
    return parser.parse_args(argv)


def facts(args, seed: int) -> dict[str, object]:
    own = {name: getattr(args, name) for name in ("config", "pairs", "width", "road_epochs", "epochs")}
    named = {"config_hash": config_hash(args.config), "dataset": Path(args.data).name, "scenes": scenes_hash()}
    return named | {"seed": seed} | own


def jobs(args, seed: int, out: Path) -> list[Job]:
    """Return all commands, those on road scenes first."""
    scenes, road = out / "scenes", out / "road"
    sizes = ("--seed", seed, "--train", args.pairs, "--val", args.pairs // 10, "--test", 1, "--width", args.width)
    found = [Job("render", lambda _: command_line("datasets.road_scenes", scenes, *sizes))]
    common = ("--config", args.config, "--seed", seed)
    learn = (*common, "--head_epochs", 1, "--epochs")
    for m in SINGLE:
        line = command_line("main_pretrain_flira.py", scenes, "--modality", m, *learn, args.road_epochs, *into(road, m))
        found.append(Job(f"road_{m}", lambda _, line=line: line, ("render",)))
    for start in STARTS:
        init = ("--init", road) if start == "road_scenes" else ()
        after = tuple(f"road_{m}" for m in SINGLE) if init else ()
        for m in SINGLE:
            own = ("--modality", m, *learn, args.epochs, *into(out / start, f"{start}-{m}"), *init)
            line = command_line("main_pretrain_flira.py", args.data, *own)
            found.append(Job(f"pretrain_{start}_{m}", lambda _, line=line: line, after))
    return found


def into(folder: Path, name: str) -> tuple:
    return "--checkpointdir", folder, "--save", name


def scores(run: Path, modality: str) -> dict[str, object]:
    """Return the metrics of a pretraining run's detector on `test`, and its AP on `val`."""
    state = checkpoint.load(run / f"best_{modality}.pt")
    options = parse(parser_of(TASKS["flira"]), [], "pretrain").with_values("run", **state["args"])
    options = options.with_values("default", no_imagenet=True, init=None, accum=1, compile=False)
    compute, parts = compute_of(options), open_data(options)
    detector = build_detector(options, modality, parts.data.normalization)
    detector.load_state_dict(state["model"])
    compute.place(detector)
    session = Session(detector, FLIRA, compute, Guard(compute.device))
    test, val = (validator(session, parts, part)[0]() for part in ("test", "val"))
    facts = {"AP_val": val["AP"], "epoch": state["progress"]["best_epoch"], "split": parts.split.hash}
    numbers = {n: test[n] for n in NUMBERS} | facts
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in numbers.items()} | {"run": str(run)}


def trained_in(done: Finished, start: str, modality: str) -> Path:
    """Return the run folder of a pretraining, which its log names first: `pretrain in RUN`."""
    return Path(re.search(r"^pretrain in (.+)$", done[f"pretrain_{start}_{modality}"].text, re.MULTILINE).group(1))


if __name__ == "__main__":
    sys.exit(main())

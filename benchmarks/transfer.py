"""Do streams that learned on road scenes help on real pairs? Pretraining on a real set from scratch and from them.

    python -m benchmarks.transfer DIR [--config configs/laptop.yaml] [--seeds 2]

Renders road scenes, pretrains both streams on them, then on DIR, from random weights and from these streams, for as
many epochs; each stream's own detector is then trained and tested as the baselines thermal and rgb are. Logs are in
runs/transfer-SEED/logs; a stopped run goes on from its finished commands. Rows: results/transfer.csv.
"""

import sys
from pathlib import Path

from benchmarks.rows import append_row, read_rows
from datasets.road_scenes import scenes_hash
from tools.demo import config_hash, exit_codes, say
from tools.demo_jobs import environment_for
from tools.demo_options import CORES, SINGLE
from tools.jobs import Finished, Job, run_jobs
from tools.out_folder import prepare
from utils.args import Parser, command
from utils.commands import command_line, named
from utils.options import positive
from utils.options import seed as as_seed
from utils.run_folder import commit, read_json

STARTS = ("scratch", "road_scenes")
SLOTS = min(2, CORES)
NUMBERS = ("AP", "AP50", "AP_person", "AP_car", "LAMR_person", "AP_val", "epoch", "pairs")


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
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
            append_row("transfer", known | {"start": start, "modality": modality} | scores(done, start, modality))


def parse(argv: list[str]):
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
    both = tuple(f"pretrain_{start}_{m}" for start in STARTS for m in SINGLE)
    for start in STARTS:
        for m in SINGLE:
            name, own = f"{start}_{m}", ("--baseline", m, *into(out / start, f"{start}-{m}"))
            line = command_line("main_darts_found_flira.py", args.data, *common, *own)
            found += [Job(f"train_{name}", lambda _, line=line: line, both), test(args, name)]
    return found


def into(folder: Path, name: str) -> tuple:
    return "--checkpointdir", folder, "--save", name


def test(args, name: str) -> Job:
    def line(done: Finished) -> list[str]:
        trained = named(done[f"train_{name}"].text, "eval_exp_dir")
        options = ("--config", args.config, "--save", name, "--eval_exp_dir", trained)
        return command_line("main_darts_found_flira.py", args.data, *options)

    return Job(f"test_{name}", line, (f"train_{name}",))


def scores(done: Finished, start: str, modality: str) -> dict[str, object]:
    results = read_json(Path(named(done[f"test_{start}_{modality}"].text, "results")))
    numbers = {n: round(v, 4) if isinstance(v := results[n], float) else v for n in NUMBERS}
    return numbers | {"split": results["split"], "run": results["eval_exp_dir"]}


if __name__ == "__main__":
    sys.exit(main())

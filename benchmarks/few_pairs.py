"""What each step of the recipe for few real pairs is worth: start weights, what learns, and steps on other pictures.

    python -m benchmarks.few_pairs DIR --coco COCO --weights FILE [--out OUT] [--seeds 2 3 4] [--modality thermal]

Pretrains one modality's detector on DIR by configs/real_small.yaml, in every row for the same number of epochs, from
four starts: ImageNet weights that stay as they are (frozen), that learn slowly, or that learn as the rest does (all),
and random weights. Each is also preceded by a first step: BiFPN and head learn on road scenes, then on COCO's road
users and their grey copies, behind a frozen encoder; from random weights all learn. Scored is the detector of the best
epoch on `val`. The test list chooses nothing.
Pictures are smaller and epochs fewer than in the config (SMALL), so that an encoder that learns takes minutes.
Rows: results/few_pairs.csv. A row that is there is not measured again, and a stopped command goes on behind it.
"""

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.rows import append_row, read_rows, same
from commands.options import ABSENT
from datasets.prepare_grey import DESCRIPTION
from datasets.scenes import scenes_hash
from engine.compute import pick_compute
from engine.nonfinite import Guard
from engine.step import Session, validator
from tasks import TASKS
from tasks.detection import build
from tasks.detection.options import ABSENT as ABSENT_HERE
from tasks.detection.options import FRAME
from tasks.detection.pretrain import build_detector
from tools.demo.__main__ import config_hash
from utils import checkpoint
from utils.args import Options, Parser, command
from utils.option_types import positive
from utils.option_types import seed as as_seed
from utils.run_folder import newest_run, read_json
from utils.subprocesses import ROOT, run

SLOW = 3e-4  # learning rate of an encoder that learns slowly, a tenth of the rest's
CACHED = {"freeze_encoder": True, "cache_features": "disk"}
STARTS: dict[str, dict[str, Any]] = {  # options of each start
    "frozen": CACHED,
    "slow": {"encoder_lr": SLOW},
    "all": {},
    "random": {"no-imagenet": True},
}
SMALL = {"image_size": "256x320", "anchor_scale": 1.5}
NUMBERS = ("AP", "AP50", "AP_person", "AP_bike", "AP_car")
SCENES = {"seed": 1, "train": 600, "val": 60, "test": 30, "width": 320}


@command
def main(argv: list[str]) -> None:
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    os.chdir(args.out)
    prepare(args)
    for seed in args.seeds:
        for start in args.starts:
            for steps in args.first:
                measure(args, start, steps, seed)


def path(text: str) -> Path:
    """Return an absolute path, as the command changes its folder."""
    return Path(text).resolve()


def parse(argv: list[str]) -> Namespace:
    parser = Parser("Measure what each step of the recipe for few real pairs is worth.")
    add = parser.add_argument
    add("data", metavar="DIR", type=path, help="real pairs")
    add("--coco", metavar="DIR", type=path, required=True, help="folder of COCO 2017 pictures")
    add("--weights", metavar="FILE", type=path, required=True, help="ImageNet weights, as of --encoder_weights")
    add("--out", metavar="OUT", type=path, default=path("runs/few_pairs"), help="working folder (runs/few_pairs)")
    config = path("configs/real_small.yaml")
    add("--config", metavar="FILE", type=path, default=config, help="settings (configs/real_small.yaml)")
    add("--seeds", type=as_seed, nargs="+", default=[2, 3, 4], help="of training (2 3 4)")
    add("--modality", choices=["thermal", "rgb"], default="thermal", help="whose detector is trained (thermal)")
    add("--starts", nargs="+", choices=list(STARTS), default=list(STARTS), help="which rows (frozen slow all random)")
    text = "with or without the first step (no yes)"
    add("--first", nargs="+", choices=["no", "yes"], default=["no", "yes"], help=text)
    add("--epochs", type=positive, default=8, help="epochs on DIR (8)")
    add("--scene_epochs", type=positive, default=4, help="epochs of the first step on road scenes (4)")
    add("--coco_epochs", type=positive, default=8, help="epochs of the first step on COCO (8)")
    return parser.parse_args(argv)


def prepare(args: Namespace) -> None:
    """Render the scenes, write the grey copies, and write the config of each start, unless they are there."""
    if not Path("scenes").exists():
        sizes = [word for name, value in SCENES.items() for word in (f"--{name}", value)]
        run("datasets.road_scenes", "scenes", *sizes)
    if not Path("grey").exists():
        run("datasets.prepare_grey", args.coco, "grey", "--dataset", ROOT / "examples/coco_road_users.yaml")
    content = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    for start, values in STARTS.items():
        pretraining = {name: value for name, value in content["pretrain"].items() if name not in CACHED} | values
        text = yaml.safe_dump(content | SMALL | {"pretrain": pretraining | {"epochs": args.epochs}})
        Path(f"{start}.yaml").write_text(text, encoding="utf-8")


def measure(args: Namespace, start: str, first: str, seed: int) -> None:
    """Train and score one row, unless it is there."""
    key = {"config_hash": config_hash(str(args.config)), "dataset": args.data.name, "scenes": scenes_hash()}
    key |= {"start": start, "first_step": first, "modality": args.modality, "seed": seed}
    key |= {name: getattr(args, name) for name in ("epochs", "scene_epochs", "coco_epochs")} | SMALL
    if any(same(row, key) for row in read_rows("few_pairs")):
        return
    weights = () if start == "random" else ("--encoder_weights", args.weights)
    folder = first_step(args, "random" if start == "random" else "frozen") if first == "yes" else None
    begin = ("--init", folder) if folder else weights
    name = f"{start}-{first}-{args.modality}-{seed}"
    pretrain(args, args.data, start, name, *begin, "--seed", seed)
    append_row("few_pairs", scores(newest_run("pretrain", name), args.modality), key=key)


def first_step(args: Namespace, start: str) -> Path:
    """Return the checkpointdir after the first step of a start, which is trained unless it is there."""
    scenes, coco = f"{start}-scenes-{args.modality}", f"{start}-coco-{args.modality}"
    weights = () if start == "random" else ("--encoder_weights", args.weights)
    pretrain(args, "scenes", start, scenes, *weights, "--scales", 1, "--epochs", args.scene_epochs)
    last = ("--dataset", Path("grey") / DESCRIPTION, "--epochs", args.coco_epochs)
    pretrain(args, "grey", start, coco, "--init", Path("ck") / scenes, *last)
    return Path("ck") / coco


def pretrain(args: Namespace, data: object, start: str, name: str, *options: object) -> None:
    """Run a pretraining by the config of a start; one that is finished is not run again."""
    places = ("--checkpointdir", Path("ck") / name, "--save", name, "--resume", "auto", "--no_report")
    run("main_pretrain_flira.py", data, "--config", f"{start}.yaml", "--modality", args.modality, *places, *options)


def scores(folder: Path, modality: str) -> dict[str, object]:
    """Return the metrics of a pretraining run's detector on the test list, and its AP on `val`."""
    state = checkpoint.load(folder / f"best_{modality}.pt")
    options, task = Options(ABSENT | ABSENT_HERE | FRAME | state["args"], {}, {}), TASKS["flira"].load()
    data, compute = build.open_data(options), pick_compute()
    detector = build_detector(options.with_values("run", init=None), modality, data.data.normalization, has_file=True)
    checkpoint.load_state(detector, state["model"], str(folder))
    session = Session(compute.place(detector), task, compute, Guard(compute.device))
    metrics = validator(session, data, "test", full=True)[0]()
    facts = {"AP_val": state["progress"]["best"], "epoch": state["progress"]["best_epoch"], "split": data.split.hash}
    facts["seconds"] = round(read_json(folder / "timing.json")[f"{modality}_wall_seconds"])  # without the cache
    numbers = {name: metrics[name] for name in NUMBERS} | facts
    return {name: round(v, 4) if isinstance(v, float) else v for name, v in numbers.items()}


if __name__ == "__main__":
    sys.exit(main())

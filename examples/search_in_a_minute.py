"""Render scenes, pretrain two streams, search, train and test what was found: everything, tiny, in about a minute.

    python examples/search_in_a_minute.py FOLDER

FOLDER is made; its runs/ has a report.html per step. Nothing is learned in a minute that is worth a number: this shows
how the commands follow each other, and that they work here. The real ones: make demo, and the README.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from commands import run_command
from datasets.road_scenes import main as render
from tasks import TASKS
from utils.args import command
from utils.errors import UserError

SCENES = ["--train", "48", "--val", "12", "--test", "12", "--width", "128", "--seed", "1"]
CONFIG = """\
backbone: lcnet_050
C: 16
num_input_nodes: 4
fusion_levels: 3
image_size: 96x128
anchor_scale: 1.5
batchsize: 4
workers: 0
norm_momentum: 0.1
pretrain: {no-imagenet: true, epochs: 2, head_epochs: 1, drop_path: 0, lr: 0.01}
search: {epochs: 2, Ti: 2, arch_learning_rate: 0.03}
found: {epochs: 2, Ti: 2, drpt: 0}
"""


@command
def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a new folder")
    folder = parser.parse_args(argv).folder
    if folder.exists():
        raise UserError(f"{folder}: expected a new folder, found one")
    folder.mkdir(parents=True)
    os.chdir(folder)
    Path("tiny.yaml").write_text(CONFIG)
    if code := render(["scenes", *SCENES]):
        sys.exit(code)
    do("pretrain")
    do("search")
    do("found", "--search_exp_dir", newest("search"))
    do("found", "--eval_exp_dir", newest("found"))


def do(section: str, *options: str) -> None:
    """Run a command as its main does."""
    run_command(section, TASKS["flira"], ["scenes", "--config", "tiny.yaml", *options])


def newest(kind: str) -> str:
    return str(max(Path("runs").glob(f"{kind}-*")))


if __name__ == "__main__":
    raise SystemExit(main())

"""Road scenes and checkpoints of random weights: what benchmarks of speed and memory run the real commands on."""

from pathlib import Path

from commands.options import make_parser
from datasets.road_scenes import write_road_scenes
from utils.args import parse
from utils.experiment import build_head, build_streams, open_data
from utils.saving import save
from utils.seed import seed_everything


def make_scenes(folder: Path, train: int, val: int, width: int) -> Path:
    """Render pairs for training and for `val`; returns the folder of the data set."""
    write_road_scenes(folder / "scenes", 2, {"train": train, "val": val, "test": 1}, width)
    return folder / "scenes"


def search_options(folder: Path, scenes: Path, config: str) -> list[str]:
    """Return the options of a search in `folder`, after writing the checkpoints that it starts from."""
    options = [str(scenes), "--config", config, "--checkpointdir", str(folder / "checkpoints")]
    args = parse(make_parser, options, "search")
    args.num_input_nodes, args.fusion_levels = args.num_input_nodes or 10, args.fusion_levels or 5  # as published
    seed_everything(args.seed)
    open_data(args)  # which settles the number of classes
    (folder / "checkpoints").mkdir(exist_ok=True)
    save(folder / "checkpoints" / args.fullbb_path, build_streams(args).state_dict())
    save(folder / "checkpoints" / args.head_path, build_head(args).state_dict())
    return options

"""Road scenes and checkpoints of random weights, on which benchmarks of speed and memory run the real commands."""

from pathlib import Path

from commands.options import parser_of
from datasets.road_scenes import write_road_scenes
from tasks import TASKS
from tasks.detection.build import make_head, make_streams, num_classes, open_data
from tasks.detection.pretrain import check_stream_sizes
from utils.args import parse
from utils.checkpoint import save
from utils.seed import seed_everything


def make_scenes(folder: Path, train: int, val: int, width: int) -> Path:
    """Render pairs for training and for `val`; returns the folder of the data set."""
    write_road_scenes(folder / "scenes", 2, {"train": train, "val": val, "test": 1}, width)
    return folder / "scenes"


def search_options(folder: Path, scenes: Path, config: str) -> list[str]:
    """Write the checkpoints that a search starts from into `folder`; returns the options of the search."""
    options = [str(scenes), "--config", config, "--checkpointdir", str(folder / "checkpoints")]
    parsed = parse(parser_of(TASKS["flira"]), options, "search")
    parsed = check_stream_sizes(parsed)
    seed_everything(parsed.seed)
    parsed = parsed.with_values("data", num_classes=num_classes(parsed, open_data(parsed)))
    (folder / "checkpoints").mkdir(exist_ok=True)
    save(folder / "checkpoints" / parsed.fullbb_path, make_streams(parsed).state_dict())
    save(folder / "checkpoints" / parsed.head_path, make_head(parsed).state_dict())
    return options

"""What wandb gets beside numbers: the genotype as a picture, the pairs with the most misses, and the run's files."""

import base64
import io

from PIL import Image

from datasets.data_module import DataModule
from utils.errors import UserError
from utils.run_folder import RunFolder
from utils.tracking import Tracker

FILES = ("genotype.json", "best.pt", "results.json", "alphas.jsonl")  # of a run, that others may build on


def track_files(tracker: Tracker, folder: RunFolder, parts: DataModule, part: str) -> None:
    """Log pictures and an artifact of a run that is at its end; nothing where nothing is tracked.

    Args:
        part: whose detections the run has written, if it has.
    """
    if tracker.run is None:
        return
    from models.search.fusion_cells.draw import draw_genotype  # with matplotlib, which takes its time to import
    from report.gallery import gallery, readable
    from report.run import Run

    run = Run(folder.path)

    def collect() -> tuple[dict, list]:
        pictures = {}
        if run.genotype:
            drawn = draw_genotype(run.genotype, folder.path / "genotype.png")
            pictures["genotype"] = [(Image.open(drawn), run.genotype.id)]
        if (run.path / "detections.json").exists():
            rows = gallery(parts, part, readable(parts, part), run.read_list("detections.json"), run.sensor).rows
            pictures[f"detections on {part}"] = [(_opened(photos[-1].address), words) for words, photos in rows]
        return pictures, [path for name in FILES if (path := run.path / name).exists()]

    def collect_or_fail() -> tuple[dict, list]:
        try:
            return collect()
        except UserError as error:  # which would end the run, as a wandb that is not installed does
            raise RuntimeError(str(error)) from error

    tracker.log_files(run.path.name, run.kind, collect_or_fail)


def _opened(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))

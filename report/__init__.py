"""What commands call when a run has ended: its report, and its files for wandb.

report.html is one self-contained page per run; another one compares runs.
"""

import base64
import io

from PIL import Image

from datasets.data_module import DataModule
from utils.args import Options
from utils.errors import UserError
from utils.run_folder import RunFolder
from utils.tracking import Tracker

FILES = ("genotype.json", "best.pt", "results.json", "alphas.jsonl")  # other runs may start from these


def report(run: RunFolder, args: Options, data: DataModule) -> None:
    """Write the report of a run that has just ended and log its path; --no_report turns this off."""
    if run.is_writer and not args.no_report:
        from report.run_page import write_report  # imports matplotlib, which is slow

        run.log(f"report: {write_report(run.path, data)}")


def track_files(tracker: Tracker, folder: RunFolder, data: DataModule, part: str) -> None:
    """Log pictures and an artifact of a run that has ended. Does nothing without --wandb.

    Args:
        tracker: the wandb run.
        folder: the run folder.
        data: of the run.
        part: the part of the data that detections.json is of, if the run has that file.
    """
    if tracker.run is None:
        return
    from models.search.parts import draw_architecture
    from report.gallery import gallery  # imports matplotlib, which is slow
    from report.run import Run

    run = Run(folder.path, data)

    def collect() -> tuple[dict, list]:
        pictures = {}
        try:
            if run.architecture:
                paths = draw_architecture(run.architecture, folder.path / "genotype.png")
                pictures["genotype"] = [(Image.open(path), run.architecture.id) for path in paths]
            if (run.path / "detections.json").exists():
                rows = gallery(run, part).rows
                pictures[f"detections on {part}"] = [(_decoded(photos[-1].address), words) for words, photos in rows]
        except UserError as error:  # a UserError would end the run; a RuntimeError is only logged
            raise RuntimeError(str(error)) from error
        return pictures, [path for name in FILES if (path := run.path / name).exists()]

    tracker.log_files(run.path.name, run.kind, collect)


def _decoded(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))

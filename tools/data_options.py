"""What the tools that read a data set have in common on the command line."""

import os
import tempfile
from pathlib import Path

from commands.options import positive
from datasets.detection.registry import dataset_name, is_description
from utils.args import Parser
from utils.errors import UserError


def add_data_options(parser: Parser) -> None:
    parser.add_argument("data", metavar="DIR", help="folder of the data set; nothing is written to it")
    text = "how DIR is laid out, or the YAML file of an own set (flir_aligned)"
    parser.add_argument("--dataset", metavar="NAME|YAML", type=dataset_name, default="flir_aligned", help=text)
    text = "threads that read images (one per core)"
    parser.add_argument("--workers", type=positive, default=os.cpu_count(), help=text)


def check_output(option: str, file: str, data: str, dataset: str) -> Path:
    """Refuse a file that would lie in the data folder, replace what is no file of ours, or cannot be written.

    Args:
        option: that names the file.
        data, dataset: folder and --dataset, whose YAML is not to be replaced either.
    """
    path = Path(file)
    if path.resolve().is_relative_to(Path(data).resolve()):
        raise UserError(f"{option} {file}: expected a file outside the data folder {data}")
    if is_description(dataset) and path.resolve() == Path(dataset).resolve():
        raise UserError(f"{option} {file}: expected another file than that of --dataset")
    if not file or not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise UserError(f"{option} {file!r}: expected a file in a folder that exists")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise UserError(f"{option} {file}: expected a file that can be written, found: {error}") from None

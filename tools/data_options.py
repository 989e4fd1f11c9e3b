"""What the tools that read a data set have in common on the command line."""

import os
from pathlib import Path

from datasets.registry import dataset_name
from utils.args import Parser
from utils.errors import UserError
from utils.options import positive


def add_data_options(parser: Parser) -> None:
    parser.add_argument("data", metavar="DIR", help="folder of the data set; nothing is written to it")
    text = "how DIR is laid out, or the YAML file of an own set (flir_aligned)"
    parser.add_argument("--dataset", metavar="NAME|YAML", type=dataset_name, default="flir_aligned", help=text)
    text = "threads that read images (one per core)"
    parser.add_argument("--workers", type=positive, default=os.cpu_count(), help=text)


def check_output(option: str, file: str, data: str) -> Path:
    """Refuse a file that would lie in the data folder, or in no folder."""
    path = Path(file)
    if path.resolve().is_relative_to(Path(data).resolve()):
        raise UserError(f"{option} {file}: expected a file outside the data folder {data}")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{option} {file}: expected a file in a folder that exists")
    return path

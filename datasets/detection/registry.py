"""The detection data sets by name: `--dataset NAME`, or a YAML file that describes an own one."""

import contextlib
import os
from importlib import import_module
from pathlib import Path

from datasets.detection.names import DATA_SETS, is_description
from datasets.detection.own_set import locate_own_set
from datasets.detection.sources import Source
from utils.errors import UserError
from utils.untrusted import checked

OWN_SET = "--dataset my_set.yaml, docs/own_data.md"


def locate(folder: str | Path, dataset: str = "flir_aligned") -> Source:
    """Find where the files of a data set lie.

    Args:
        folder: the data set's.
        dataset: a name of `DATA_SETS`, or the path of a YAML file.
    Raises:
        UserError: no such folder, or not laid out so; names the data sets that it looks like.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        found = "a file" if folder.is_file() else "nothing"
        raise UserError(f"{folder}: no such data folder: expected the folder of the data set, found {found}")
    if is_description(dataset):
        return locate_own_set(folder, dataset)
    # The name may come from the file of a run.
    checked(dataset, lambda name: name in DATA_SETS, f"{', '.join(DATA_SETS)} or a file .yaml", "--dataset")
    try:
        return _locate(folder, dataset)
    except UserError as error:
        readable_with = [f"--dataset {name}" for name in DATA_SETS if name != dataset and _is_one(folder, name)]
        hint = f"it can be read with {' or '.join(readable_with)}" if readable_with else f"for an own set: {OWN_SET}"
        raise UserError(f"{error} ({hint})") from error


def _locate(folder: Path, name: str) -> Source:
    module, function, options = DATA_SETS[name]
    return getattr(import_module(f"datasets.detection.{module}"), function)(folder, **options)


def _is_one(folder: Path, name: str) -> bool:
    with contextlib.suppress(UserError):
        return bool(_locate(folder, name))
    return False

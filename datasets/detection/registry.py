"""The detection data sets by name: `--dataset NAME`, or a YAML file that describes an own one."""

from functools import partial
from pathlib import Path

from datasets.detection.flir_aligned import locate_flir_aligned
from datasets.detection.llvip import locate_llvip
from datasets.detection.m3fd import locate_m3fd
from datasets.detection.names import is_description
from datasets.detection.own_set import locate_own_set
from datasets.detection.pairing import is_folder
from datasets.detection.sources import Source
from datasets.detection.voc_coco import locate_coco, locate_voc
from utils.errors import UserError, short

LOCATE = {  # one entry per data set
    "flir_aligned": locate_flir_aligned,
    "flir_aligned_day": partial(locate_flir_aligned, subset="day"),
    "flir_aligned_night": partial(locate_flir_aligned, subset="night"),
    "llvip": locate_llvip,
    "m3fd": locate_m3fd,
    "voc": locate_voc,
    "coco": locate_coco,
}
OWN_SET = "--dataset my_set.yaml, docs/own_data.md"


def locate(folder: str | Path, dataset: str = "flir_aligned") -> Source:
    """Find where the files of a data set lie.

    Args:
        folder: the data set's.
        dataset: a name of `LOCATE`, or the path of a YAML file.
    Raises:
        UserError: no such folder, or not laid out so; names the data sets that it looks like.
    """
    folder = Path(folder)
    if not is_folder(folder):
        found = "a file" if folder.is_file() else "nothing"
        raise UserError(f"{folder}: no such data folder: expected the folder of the data set, found {found}")
    if is_description(dataset):
        return locate_own_set(folder, dataset)
    if dataset not in LOCATE:  # a name that comes from the file of a run
        raise UserError(f"--dataset: expected {', '.join(LOCATE)} or a file .yaml, found {short(dataset)}")
    try:
        return LOCATE[dataset](folder)
    except UserError as error:
        others = [f"--dataset {name}" for name in LOCATE if name != dataset and _is_one(folder, name)]
        hint = f"it can be read with {' or '.join(others)}" if others else f"for an own set: {OWN_SET}"
        raise UserError(f"{error} ({hint})") from error


def _is_one(folder: Path, name: str) -> bool:
    try:
        LOCATE[name](folder)
    except UserError:
        return False
    return True

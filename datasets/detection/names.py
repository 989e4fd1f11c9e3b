"""Names that options may be: data sets and kinds of corruption. Imports no torch."""

import argparse
from pathlib import Path

from utils.errors import near

# One entry per data set: the module of datasets/detection and its function that finds the files, and its options.
DATA_SETS = {
    "flir_aligned": ("flir_aligned", "locate_flir_aligned", {}),
    "flir_aligned_day": ("flir_aligned", "locate_flir_aligned", {"subset": "day"}),
    "flir_aligned_night": ("flir_aligned", "locate_flir_aligned", {"subset": "night"}),
    "llvip": ("llvip", "locate_llvip", {}),
    "m3fd": ("m3fd", "locate_m3fd", {}),
    "voc": ("voc_coco", "locate_voc", {}),
    "coco": ("voc_coco", "locate_coco", {}),
    "voc2012": ("voc_coco", "locate_voc2012", {}),
    "coco2017": ("voc_coco", "locate_coco2017", {}),
}
CANVASES = ("fixed", "oriented")  # of samples: one size, or one for landscape and one for portrait pictures
DESCRIPTIONS = (".yaml", ".yml")
# Of corruptions (datasets/detection/corruptions.py).
KINDS = ("black", "frozen", "noise_only", "blur", "noise", "darkness", "glare", "fog", "low_contrast", "jpeg", "shift")


def dataset_name(text: str) -> str:
    """Return what --dataset may be: the name of a data set, or the path of a YAML file."""
    if text in DATA_SETS or is_description(text):
        return text
    names = f"{', '.join(DATA_SETS)} or a file .yaml"
    raise argparse.ArgumentTypeError(f"expected {names}, found {text!r}{near(text, DATA_SETS)}")


def is_description(dataset: str) -> bool:
    """Return whether --dataset is the YAML file of an own set."""
    return Path(dataset).suffix.lower() in DESCRIPTIONS

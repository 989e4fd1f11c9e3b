"""Names that options may be: data sets and kinds of corruption. Imports no torch."""

import argparse
from pathlib import Path

from utils.errors import near

DATA_SETS = ("flir_aligned", "flir_aligned_day", "flir_aligned_night", "llvip", "m3fd", "voc", "coco")
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

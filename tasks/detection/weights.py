"""A trained detector in one safetensors file: the tensors, and all else of a best.pt as JSON in its metadata.

No pickle in it; `Predictor` reads it like a run folder.
"""

import json
from pathlib import Path

from safetensors.torch import save

from utils.checkpoint import load_safetensors
from utils.errors import UserError
from utils.files import replace_file

SUFFIX = ".safetensors"
KEY = "nas_dsf"  # of the metadata


def save_weights(state: dict, path: Path) -> None:
    """Write what best.pt holds, but for the state of its training."""
    tensors = {name: tensor.contiguous() for name, tensor in state["model"].items()}
    content = save(tensors, {KEY: json.dumps({name: value for name, value in state.items() if name != "model"})})
    replace_file(path, lambda file: file.write(content))


def load_weights(path: Path) -> dict:
    """Return a state like that of best.pt; what is in it is for the caller to check.

    Raises:
        UserError: the file is missing or damaged, or is none of ours.
    """
    tensors, metadata = load_safetensors(path)
    try:
        state = json.loads(metadata[KEY])
        if not isinstance(state, dict):
            raise ValueError(f"{KEY} is no object")
    except KeyError:
        raise UserError(f"{path}: expected weights by tools/export.py, found a file without {KEY} in it") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a whole safetensors file, found: {error}") from None
    return state | {"model": tensors}

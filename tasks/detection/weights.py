"""A trained detector in one safetensors file: the tensors, and all else of a best.pt as JSON in its metadata.

No pickle in it; `Predictor` reads it like a run folder.
"""

import json
from pathlib import Path

import safetensors
from safetensors.torch import save

from utils.errors import UserError
from utils.files import replace_file
from utils.untrusted import plain_file

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
    try:
        with safetensors.safe_open(plain_file(path), "pt") as file:
            metadata = file.metadata() or {}
            state = json.loads(metadata[KEY])
            if not isinstance(state, dict):
                raise ValueError(f"{KEY} is no object")
            return state | {"model": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of weights") from None
    except KeyError:
        raise UserError(f"{path}: expected weights by tools/export.py, found a file without {KEY} in it") from None
    except (OSError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: expected a whole safetensors file, found: {error}") from None

"""--encoder_weights: the files that encoders start from in pretraining, by modality, and what is recorded of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.pretrained import pretrained_with
from utils import checkpoint
from utils.distributed import ranks
from utils.errors import UserError
from utils.files import sha256_of

RECORDED = "encoder_weights"  # the key in pretrain.json, in checkpoints and in results.json
SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class WeightsFile:
    """A file that an encoder starts from.

    Args:
        path: of the file.
        state: what is in it, of plain tensors and values.
        sha256: of its bytes.
    """

    path: Path
    state: dict[str, Any]
    sha256: str

    @property
    def record(self) -> dict[str, str]:
        return {"file": self.path.name, "sha256": self.sha256}


def read_weights_files(
    values: Sequence[str] | None, modalities: Collection[str], pictures: Collection[str]
) -> dict[str, WeightsFile]:
    """Read the files of --encoder_weights; of several ranks, the first one does.

    Args:
        values: of the option, each FILE or MODALITY=FILE.
        modalities: whose encoders are trained.
        pictures: those of them for which a FILE without a modality is.

    Returns:
        The file of each modality that has one.

    Raises:
        UserError: an unknown modality, one that is there twice, or a file that cannot be read.
    """
    paths = paths_by_modality(values or (), modalities, pictures)
    return {modality: ranks().broadcast_from_first(lambda path=path: read(path)) for modality, path in paths.items()}


def paths_by_modality(values: Sequence[str], modalities: Collection[str], pictures: Collection[str]) -> dict[str, Path]:
    """Return the path for each modality."""
    paths: dict[str, Path] = {}
    for value in values:
        name, separator, path = value.partition("=")
        is_named = bool(separator) and name.isidentifier()
        if is_named and name not in modalities:
            expected = f"expected FILE, or MODALITY=FILE with one of {', '.join(modalities)}"
            raise UserError(f"--encoder_weights {value}: {expected}, found {name}")
        for modality in [name] if is_named else pictures:
            if modality in paths:
                raise UserError(f"--encoder_weights {value}: expected one file for {modality}, found another before it")
            paths[modality] = Path(path if is_named else value)
    return paths


def read(path: Path) -> WeightsFile:
    """Read a .pth or .safetensors file.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    is_safe = path.suffix.lower() == SAFETENSORS
    state = checkpoint.load_safetensors(path)[0] if is_safe else checkpoint.load(path)
    return WeightsFile(path, state, sha256_of(path))


def record_of(
    folder: str, trained: Collection[str], files: dict[str, WeightsFile], start: str | None = None
) -> dict[str, Any]:
    """Return what pretrain.json records of the files, {} where no encoder started from one.

    Args:
        folder: checkpointdir, whose record of modalities that are not trained now is kept.
        trained: modalities of this pretraining.
        files: of them, by modality.
        start: a checkpointdir that the networks start from, whose record is theirs.
    """
    earlier = {m: found for m, found in pretrained_with(folder).get(RECORDED, {}).items() if m not in trained}
    inherited = pretrained_with(start).get(RECORDED, {}) if start else {}
    record = earlier | {m: found for m, found in inherited.items() if m in trained}
    record |= {modality: file.record for modality, file in files.items()}
    return {RECORDED: record} if record else {}


def loaded_in_words(modality: str, file: WeightsFile, rest: Sequence[str]) -> str:
    """Return the line of the log on an encoder that starts from a file."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in rest))
    unread = f"; not read, as of the rest of its network: {', '.join(layers)}" if layers else ""
    return f"{modality} encoder from {file.path} (SHA-256 {file.sha256}){unread}"

"""What checkpointdir was made with: pretrain.json, which a pretraining writes beside the weights, and split.json.

A pretraining writes all of its files at the end, under a lock, so that several may share a folder.
"""

import json
from pathlib import Path
from typing import Any

from datasets.splits import OVERFIT, Split
from utils import checkpoint
from utils.checkpoint import State
from utils.errors import UserError
from utils.lock import LOCK
from utils.run_folder import read_json, write_json
from utils.untrusted import NAMES, OBJECT, TEXT, check_field, check_plain

PRETRAINED = "pretrain.json"
UNKNOWN = "none recorded"


def pretrained_with(folder: str | Path) -> dict[str, Any]:
    """Return what pretrain.json holds; {} where there is none, as beside released files.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(folder) / PRETRAINED
    if not path.exists():
        return {}
    record = read_json(path)
    check_plain(record, str(path))
    objects = dict.fromkeys(("data", "splits", "encoder_weights"), OBJECT)
    for name, check in {**objects, "backbone": (TEXT[0], "a name"), "classes": NAMES}.items():
        if name in record:
            check_field(record, name, check, str(path))
    return record


def differing(recorded: dict, values: dict) -> dict:
    """Return what is recorded under the names of other values; tuples are lists in JSON."""
    values = json.loads(json.dumps(values))
    return {name: recorded[name] for name in values if name in recorded and recorded[name] != values[name]}


def recorded_splits(folder: str | Path, modalities: tuple[str, ...]) -> dict[str, str]:
    """Return the hash of the split that each modality was pretrained on, "none recorded" without one.

    pretrain.json records it by modality, as one can be pretrained again alone; split.json is of the last pretraining.
    """
    split, record = Path(folder) / "split.json", pretrained_with(folder)
    if "splits" in record:
        return {m: str(record["splits"].get(m, UNKNOWN)) for m in modalities}
    last = Split.from_json(read_json(split), str(split)).hash if split.exists() else UNKNOWN
    return dict.fromkeys(modalities, last)


def check_split(folder: str | Path, split: Split, modalities: tuple[str, ...], unit: str, allow_mismatch: bool) -> str:
    """Compare the split of the pretrained files with that of the run; return what every result records of it.

    Raises:
        UserError: one was pretrained on another split, and that is not allowed.
    """
    found = {m: "same" if h == split.hash else h for m, h in recorded_splits(folder, modalities).items()}
    text = found[modalities[0]] if len(set(found.values())) == 1 else ", ".join(f"{m} {h}" for m, h in found.items())
    if set(found.values()) <= {"same", UNKNOWN}:
        return text
    if split.protocol == OVERFIT:
        return f"overfit, checkpoints of {text}"
    if not allow_mismatch:
        expected = f"expected {split.hash} (--split_seed {split.seed}, {split.protocol}), found {text}"
        why = f"these checkpoints may have learned {unit} that this run chooses on"
        advice = "pretrain again, or pass --allow_split_mismatch"
        raise UserError(f"{Path(folder) / PRETRAINED}: field splits: {expected}: {why}; {advice}")
    return f"mismatch allowed: {text}"


def make_folder(path: str) -> None:
    """Make checkpointdir with its lock file; UserError where it cannot be written."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / LOCK).touch()
    except OSError as error:
        raise UserError(f"--checkpointdir {path}: expected a folder that can be written, found: {error}") from None


def publish(
    folder: str, files: dict[str, State], facts: dict, split: Split, *, trained: list[str], modalities: tuple[str, ...]
) -> None:
    """Write the finished weights, the split and the facts; replaced files are kept as NAME.bak.

    The split of what is replaced is removed from pretrain.json first, so that a stop in between cannot leave new
    weights under an old split.

    Args:
        trained: the modalities of this pretraining, of all `modalities` that pretrain.json may record.
    """
    path = Path(folder)
    splits = {m: h for m, h in recorded_splits(folder, modalities).items() if h != UNKNOWN}
    write_json(path / PRETRAINED, facts | {"splits": {m: h for m, h in splits.items() if m not in trained}})
    for name, state in files.items():
        if not checkpoint.holds(path / name, state):  # as where a run goes on that was stopped in here
            checkpoint.keep_backup(path / name)
            checkpoint.save(path / name, state)
    write_json(path / "split.json", split.to_json())
    splits |= dict.fromkeys(trained, split.hash)
    write_json(path / PRETRAINED, facts | {"splits": {m: splits[m] for m in modalities if m in splits}})

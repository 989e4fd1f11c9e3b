"""What pretraining writes into checkpointdir, and how: all at the end, one process at a time.

Two pretrainings may share a folder (`--modality thermal` and `rgb` side by side): each trains by itself, then reads
what is there, adds its part and writes, all under a lock. So the later one finds both streams, whichever it is.
"""

import argparse
import json
from pathlib import Path

from datasets.data_module import DataModule
from datasets.detection.detection_data import DetectionData
from models.detection.detector import SingleDetector
from models.detection.streams import INPUTS, MODALITIES
from utils import checkpoint
from utils.checkpoint import State
from utils.errors import UserError
from utils.experiment import (
    FROM_PRETRAINING,
    PRETRAINED,
    check_facts,
    check_split,
    differing_from_pretraining,
    pretrained_with,
    recorded_splits,
)
from utils.lock import LOCK
from utils.run_folder import write_json
from utils.saving import save


def make_folder(path: str) -> None:
    """Make checkpointdir with its lock file; UserError where it cannot be written."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / LOCK).touch()
    except OSError as error:
        raise UserError(f"--checkpointdir {path}: expected a folder that can be written, found: {error}") from None


def merged_streams(args: argparse.Namespace, detectors: dict[str, SingleDetector]) -> State:
    """Return the published streams file with these detectors' streams in it, the others as they are there."""
    path = Path(args.checkpointdir) / args.fullbb_path
    others = [m for m in MODALITIES if m not in detectors]
    state = checkpoint.streams_of(checkpoint.load(path), others) if others and path.exists() else {}
    for detector in detectors.values():
        state |= detector.stream_state()
    return checkpoint.streams_of(state, MODALITIES)


def check_others(args: argparse.Namespace, parts: DataModule, detectors: dict[str, SingleDetector]) -> None:
    """Refuse what checkpointdir holds beside these detectors and does not go with them.

    Raises:
        UserError: other options in pretrain.json; the other half of the streams file, or the head that the shared one
            starts from, is of another shape or (unless allowed) saw another split.
    """
    folder = Path(args.checkpointdir)
    check_options(args, parts.data, folder, [m for m in recorded_splits(folder) if m not in detectors])
    (modality, detector), *more = detectors.items()
    if more or modality not in MODALITIES or not (folder / args.fullbb_path).exists():
        return
    (other,) = (m for m in MODALITIES if m != modality)
    check_split(args, parts.split, (other,))
    half = checkpoint.streams_of(checkpoint.load(folder / args.fullbb_path), [other])
    expected = {other + name[len(modality) :]: value for name, value in detector.stream_state().items()}
    if half:
        check_shapes(folder / args.fullbb_path, half, expected, modality)
    if half and other == MODALITIES[0] and (head := folder / f"{other}_head.pth").exists():
        check_shapes(head, checkpoint.load(head), detector.head.state_dict(), modality)


def check_options(args: argparse.Namespace, data: DetectionData, folder: Path, others: list[str]) -> None:
    """Refuse options and data unlike those of the folder's other streams: it has one of each."""
    others = [m for m in others if m in pretrained_with(args).get("splits", {})]
    if not others:
        return
    for name, theirs in differing_from_pretraining(args).items():
        raise UserError(
            f"--{name}: expected {theirs} as for {', '.join(others)} in {folder / PRETRAINED}, "
            f"found {json.loads(json.dumps(getattr(args, name)))}: "
            "one checkpointdir has one; pass that, or another --checkpointdir"
        )
    check_facts(args, data)


def check_shapes(path: Path, found: State, expected: State, modality: str) -> None:
    """Refuse a file that differs in names or shapes from its counterpart in the new detector."""
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (found, expected)]
    for name in [*expected, *found]:
        theirs, ours = (own.get(name, "nothing") for own in shapes)
        if theirs != ours:
            raise UserError(f"{path}: {name}: expected {ours} as in the new {modality} detector, found {theirs}")


def publish(args: argparse.Namespace, parts: DataModule, files: dict[str, State], modalities: list[str]) -> None:
    """Write the finished weights, the split and the options, all at the end; replaced files are kept as NAME.bak.

    The split of what is replaced is struck from pretrain.json first, so that a stop in between cannot leave new weights
    under an old split.
    """
    folder = Path(args.checkpointdir)
    splits = {m: h for m, h in recorded_splits(folder).items() if h != "none recorded"}
    options = {name: getattr(args, name) for name in FROM_PRETRAINING} | {"data": parts.data.facts}
    write_json(folder / PRETRAINED, options | {"splits": {m: h for m, h in splits.items() if m not in modalities}})
    for name, state in files.items():
        if not checkpoint.holds(folder / name, state):  # as where a run goes on that was stopped in here
            checkpoint.keep_backup(folder / name)
            save(folder / name, state)
    write_json(folder / "split.json", parts.split.to_json())
    splits |= dict.fromkeys(modalities, parts.split.hash)
    write_json(folder / PRETRAINED, options | {"splits": {m: splits[m] for m in INPUTS if m in splits}})

"""The found detector from options (which streams, which fusions, how wide), and from the best.pt of a finished run.

Training and test build it here, so that a best.pt is rebuilt from the options in it alone.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

from torch import Tensor, nn

from datasets.data_module import DataModule
from datasets.detection.registry import LOCATE, is_description
from datasets.detection.transforms import Normalization
from engine.feature_caching import cached
from engine.nonfinite import Guard
from engine.step import Compute, Session
from models.detection.baselines import BASELINES, FUSIONS
from models.detection.detector import FusionDetector
from models.detection.fusions import baseline_fusions, found_fusions
from models.detection.heads.efficientdet import DetectionHead
from models.detection.streams import MODALITIES, Streams
from models.search.fusion_cells.choices import num_neighbours
from models.search.fusion_cells.derive import in_words
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.genotype_file import genotype_from_json, read_genotype
from tasks.detection import task as detection
from utils import checkpoint
from utils.distributed import ranks
from utils.errors import UserError, short
from utils.experiment import build_head, build_streams, cache_options, differing, open_data
from utils.inherit import check_inherited, inherit
from utils.plain import check_plain
from utils.reporting import count_parameters, validator

STREAMS = ("backbone", "C", "num_input_nodes", "fusion_levels", "anchor_scale", "num_classes", "image_size")
DATA = ("dataset", "split_seed", "paper_protocol")
OPTIONS = (*STREAMS, *DATA, "baseline", "widen")  # that a trained detector is rebuilt from
FIELDS = {"args": dict, "split": str, "protocol": str, "checkpoint_split": str, "data": dict, "bad_files": list}
FIELDS |= {"genotype": (dict, NoneType), "model": dict, "progress": dict}
MATCH = 0.10  # how far a widened fusion's parameters may be from what they match


@dataclass(frozen=True)
class Trained:
    """A finished run of main_darts_found_flira.py, rebuilt: its folder, checkpoint, options, data and detector."""

    path: Path
    state: dict
    args: argparse.Namespace
    parts: DataModule
    model: FusionDetector
    genotype: Genotype | None

    @property
    def method(self) -> str:
        """What results say was tested."""
        if self.genotype:
            return f"genotype {self.genotype.id}"
        return self.args.baseline if self.args.widen is None else f"{self.args.baseline} widened"

    def detect(
        self, part: str, compute: Compute, log: Callable[[str], None]
    ) -> tuple[dict[str, float | None], list[dict]]:
        """Return metrics and detections (COCO form) on a part."""
        model = compute.place(self.model)
        parts = cached(self.parts, model=model, compute=compute, log=log, plain=(part,), **cache_options(self.args))
        session = Session(model, detection, compute, Guard(compute.device))
        validate, detections = validator(session, parts, part, full=True)
        return validate(), detections


def needed_modalities(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the streams that the network reads: those of the baseline, else both."""
    return BASELINES[args.baseline][0] if args.baseline else MODALITIES


def assemble(
    args: argparse.Namespace,
    streams: Streams,
    head: DetectionHead,
    genotype: Genotype | None,
    normalization: Normalization,
) -> FusionDetector:
    """Build the detector around the fusion networks of a genotype or baseline."""
    if genotype is None:
        fusions = baseline_fusions(args.baseline, args.C, args.fusion_levels, args.widen)
    else:
        fusions = found_fusions(genotype, args.drpt)
    neighbours = num_neighbours(genotype.space, args.fusion_levels) if genotype else 0
    return FusionDetector(streams, fusions, head, normalization, neighbours)


def describe(model: FusionDetector, genotype: Genotype | None) -> dict[str, object]:
    """Return what a dry run prints of a detector."""
    parts = {"streams": model.streams, "fusion": model.fusions, "head": model.head}
    sizes = {f"parameters_{name}": count_parameters(part) for name, part in parts.items()}
    return sizes | ({"genotype": genotype.id, "in_words": in_words(genotype)} if genotype else {})


def rebuild(args: argparse.Namespace, folder: str) -> Trained:
    """Build the detector of a run's best.pt, with the run's options and its data; typed ones must agree.

    Raises:
        UserError: no such run, an option that contradicts it, or `val` of another split than it was trained on.
    """
    path, state = ranks().broadcast_from_first(lambda: read_run(folder))
    check_fields(state, path)
    args = options_of_run(args, state["args"], folder)
    check_model_sizes(args, state["model"], str(path))
    parts = open_data(args)
    for name, theirs in differing(state["data"], parts.data.facts).items():
        raise UserError(
            f"{path}: data.{name}: expected {parts.data.facts[name]} as --dataset says, found {short(theirs)}"
        )
    if args.eval_part == "val" and parts.split.hash != state["split"]:
        told = f"expected split {state['split'][:60]} as in training, found {parts.split.hash}"
        raise UserError(f"--eval_part val: {told}")
    model, genotype = detector_of(args, state, str(path), parts.data.normalization)
    return Trained(Path(folder), state, args, parts, model, genotype)


def read_run(folder: str | Path) -> tuple[Path, dict]:
    """Return the best.pt of a run and what it holds, not yet checked."""
    path = Path(folder) / "best.pt"
    return path, checkpoint.load(path)


def detector_of(
    args: argparse.Namespace, state: dict, source: str, normalization: Normalization
) -> tuple[FusionDetector, Genotype | None]:
    """Return the detector that a checkpoint holds, and its genotype, if any; sizes must be those of `args`."""
    streams = build_streams(args, needed_modalities(args))
    names = streams.tap_names, streams.level_names
    genotype = genotype_from_json(state["genotype"], source, *names, args.C) if state["genotype"] else None
    model = assemble(args, streams, build_head(args), genotype, normalization)
    checkpoint.load_state(model, state["model"], source)
    return model, genotype


def check_fields(state: dict, path: Path) -> None:
    """Refuse a checkpoint that is not of a training run, or of another format."""
    if state.get("kind") != "found":
        raise UserError(f"{path}: expected a run of main_darts_found_flira.py, found {short(state.get('kind'))}")
    if state.get("format") != checkpoint.FORMAT:
        raise UserError(f"{path}: format: expected {checkpoint.FORMAT}, found {short(state.get('format'))}")
    wrong = [name for name, kind in FIELDS.items() if name not in state or not isinstance(state[name], kind)]
    inner = {"args": (*OPTIONS, "seed"), "progress": ("best", "best_epoch")}
    wrong = wrong or [f"{field}.{name}" for field, names in inner.items() for name in names if name not in state[field]]
    if wrong:
        raise UserError(f"{path}: {wrong[0]}: expected this field of a checkpoint of format 1, found nothing like it")
    for name in FIELDS.keys() - {"model"}:
        check_plain(state[name], f"{path}: {name}")
    for name in OPTIONS:
        check_inherited(name, state["args"][name], f"{path}: args")
    dataset, baseline = state["args"]["dataset"], state["args"]["baseline"]
    if dataset not in LOCATE and not is_description(dataset):
        raise UserError(f"{path}: args.dataset: expected a known one, found {short(dataset)}")
    if baseline not in (None, *BASELINES):
        raise UserError(f"{path}: args.baseline: expected a known one, found {short(baseline)}")
    if baseline is None and not state["genotype"]:
        raise UserError(f"{path}: genotype: expected one, as args.baseline names none, found nothing")


def check_model_sizes(args: argparse.Namespace, model: checkpoint.State, source: str) -> None:
    """Refuse options that would build another network, or a larger one, than the tensors of the file are of."""
    streams = {name.removeprefix("streams."): value for name, value in model.items() if isinstance(name, str)}
    sizes = checkpoint.stream_sizes(streams, source, needed_modalities(args))
    for name, size in zip(("C", "num_input_nodes", "fusion_levels"), (sizes[0], 2 * sizes[1], sizes[2])):
        if getattr(args, name) != size:
            raise UserError(f"{source}: args.{name}: expected shapes of {getattr(args, name)} in model, found {size}")
    head = {name.removeprefix("head."): value for name, value in model.items() if isinstance(name, str)}
    if (classes := checkpoint.head_classes(head, source)) != args.num_classes:
        raise UserError(f"{source}: args.num_classes: expected shapes of {args.num_classes} in model, found {classes}")
    widest = max(value.numel() for value in model.values() if isinstance(value, Tensor)) // args.C
    if (args.widen or 0) > widest:
        raise UserError(f"{source}: args.widen: expected at most {widest}, as the tensors of model, found {args.widen}")


def options_of_run(args: argparse.Namespace, run_args: dict, folder: str) -> argparse.Namespace:
    """Return the options with those in place that a run's detector was built with; typed ones must agree."""
    for name in (*STREAMS, *DATA):
        ours, theirs = (json.loads(json.dumps(value)) for value in (getattr(args, name), run_args[name]))
        # The copy of an own set's YAML in a run folder may stand for one that has moved: the facts in it count.
        copy = name == "dataset" and is_description(ours) and is_description(theirs)
        if name in args.typed and ours != theirs and not copy:
            raise UserError(f"--{name}: expected {short(theirs)} as in {folder}, found {short(ours)}")
    # A test leaves out no pair: a score is one over all of them.
    args = argparse.Namespace(**vars(args) | {"widen": None, "max_bad_files": None})
    inherit(args, run_args, (*OPTIONS, "overfit"), over_config=True, source=f"{folder}: args")
    return args


def check_widening(args: argparse.Namespace) -> None:
    """Refuse --match_parameters where there is no hand-made fusion of both modalities."""
    if args.match_parameters and args.baseline not in FUSIONS:
        found = f"--baseline {args.baseline}" if args.baseline else "none"
        raise UserError(f"--match_parameters: expected --baseline {', '.join(FUSIONS)}, found {found}")


def check_dropout(args: argparse.Namespace) -> None:
    """Refuse --modality_dropout where there is no second stream to see what the black picture hides."""
    if args.modality_dropout and len(needed_modalities(args)) == 1:
        raise UserError(
            f"--modality_dropout {args.modality_dropout:g}: expected 0 with --baseline {args.baseline}, a network of "
            "one stream"
        )


def matching_width(args: argparse.Namespace, streams: Streams) -> int | None:
    """Return the hidden channels that widen the baseline to the fusion parameters of --match_parameters, if given.

    Raises:
        UserError: no whole number of channels comes within 10 %, as where the baseline alone is larger.
    """
    if not args.match_parameters:
        return None
    path = Path(args.match_parameters)
    path = path / "genotype.json" if path.is_dir() else path
    genotype = read_genotype(path, streams.tap_names, streams.level_names, args.C)
    wanted = count_parameters(nn.ModuleList(found_fusions(genotype, 0.0)))
    plain, one, two = (_fusion_parameters(args, widen) for widen in (None, 1, 2))
    width = max(round((wanted - one) / (two - one)) + 1, 1)
    reached = _fusion_parameters(args, width)
    if abs(reached - wanted) > MATCH * wanted:
        raise UserError(
            f"--match_parameters {path}: expected a fusion of more parameters than --baseline {args.baseline} "
            f"({plain}), found {wanted}; with {width} hidden channels it has {reached}, not within {MATCH:.0%}"
        )
    return width


def _fusion_parameters(args: argparse.Namespace, widen: int | None) -> int:
    return count_parameters(nn.ModuleList(baseline_fusions(args.baseline, args.C, args.fusion_levels, widen)))

"""The found detector from options (which streams, which fusions, how wide), and from the best.pt of a finished run.

Training and test build it here, so that a best.pt is rebuilt from the options in it alone.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

from torch import nn

from datasets.parts import Parts
from datasets.registry import is_description
from engine.step import Compute
from models.detection.heads import DetectionHead
from models.fusion_baselines import BASELINES, FUSIONS
from models.fusion_detector import MODALITIES, FusionDetector, Streams, baseline_fusions, found_fusions
from models.search.derive import in_words
from models.search.genotype_io import genotype_from_json, read_genotype
from models.search.genotypes import Genotype
from utils import checkpoint
from utils.args import inherit
from utils.caching import cached
from utils.errors import UserError
from utils.experiment import build_head, build_streams, open_data, unlike
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
    parts: Parts
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
        parts = cached(self.args, self.parts, model, compute, log, (), (part,))
        validate, detections = validator(model, parts, part, compute, by_area=True)
        return validate(), detections


def needed_modalities(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the streams that the network reads: those of the baseline, else both."""
    return BASELINES[args.baseline][0] if args.baseline else MODALITIES


def assemble(
    args: argparse.Namespace, streams: Streams, head: DetectionHead, genotype: Genotype | None, parts: Parts
) -> FusionDetector:
    """Build the detector around the fusion networks of a genotype or baseline."""
    if genotype is None:
        fusions = baseline_fusions(args.baseline, args.C, args.fusion_levels, args.widen)
    else:
        fusions = found_fusions(genotype, args.drpt)
    return FusionDetector(streams, fusions, head, parts.data.normalization, args.anchor_scale)


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
    path = Path(folder) / "best.pt"
    state = checkpoint.load(path)
    check_fields(state, path)
    args = options_of_run(args, state["args"], folder)
    parts = open_data(args)
    for name, theirs in unlike(state["data"], parts.data.facts).items():
        raise UserError(f"{path}: data.{name}: expected {parts.data.facts[name]} as --dataset says, found {theirs}")
    if args.eval_part == "val" and parts.split.hash != state["split"]:
        raise UserError(f"--eval_part val: expected split {state['split']} as in training, found {parts.split.hash}")
    streams = build_streams(args, needed_modalities(args))
    names = streams.tap_names, streams.level_names
    genotype = genotype_from_json(state["genotype"], str(path), *names, args.C) if state["genotype"] else None
    model = assemble(args, streams, build_head(args), genotype, parts)
    checkpoint.load_state(model, state["model"], str(path))
    return Trained(Path(folder), state, args, parts, model, genotype)


def check_fields(state: dict, path: Path) -> None:
    """Refuse a checkpoint that is not of a training run, or of another format."""
    if state.get("kind") != "found":
        raise UserError(f"{path}: expected a run of main_darts_found_flira.py, found {state.get('kind')!r}")
    if state.get("format") != checkpoint.FORMAT:
        raise UserError(f"{path}: format: expected {checkpoint.FORMAT}, found {state.get('format')!r}")
    wrong = [name for name, kind in FIELDS.items() if name not in state or not isinstance(state[name], kind)]
    inner = {"args": (*OPTIONS, "seed"), "progress": ("best", "best_epoch")}
    wrong = wrong or [f"{field}.{name}" for field, names in inner.items() for name in names if name not in state[field]]
    if wrong:
        raise UserError(f"{path}: {wrong[0]}: expected this field of a checkpoint of format 1, found nothing like it")


def options_of_run(args: argparse.Namespace, run_args: dict, folder: str) -> argparse.Namespace:
    """Return the options with those in place that a run's detector was built with; typed ones must agree."""
    for name in (*STREAMS, *DATA):
        ours, theirs = (json.loads(json.dumps(value)) for value in (getattr(args, name), run_args[name]))
        # The copy of an own set's YAML in a run folder may stand for one that has moved: the facts in it count.
        copy = name == "dataset" and is_description(ours) and is_description(theirs)
        if name in args.typed and ours != theirs and not copy:
            raise UserError(f"--{name}: expected {theirs} as in {folder}, found {ours}")
    # A test leaves out no pair: a score is one over all of them.
    args = argparse.Namespace(**vars(args) | {"widen": None, "max_bad_files": None})
    inherit(args, run_args, OPTIONS, over_config=True)
    return args


def check_widening(args: argparse.Namespace) -> None:
    """Refuse --match_parameters where there is no hand-made fusion of both modalities."""
    if args.match_parameters and args.baseline not in FUSIONS:
        found = f"--baseline {args.baseline}" if args.baseline else "none"
        raise UserError(f"--match_parameters: expected --baseline {', '.join(FUSIONS)}, found {found}")


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

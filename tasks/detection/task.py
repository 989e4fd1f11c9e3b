"""The detection task on RGB-thermal pairs: losses, predictions, the COCO evaluator, and the hooks of a task.

Shapes: batch as collated by datasets/detection/dataset.py.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets.data_module import DataModule
from datasets.detection.names import CANVASES, DATA_SETS, is_description
from datasets.splits import Split
from engine.pretrained import check_split, differing, pretrained_with
from engine.task import ExtraTest, Task
from models.detection.baselines import FUSIONS, ONNX
from models.detection.detector import FusionDetector
from models.detection.streams import Normalization, Streams, images_of
from models.detection.tables import TABLES
from models.search.architecture import Architecture, Reader
from models.search.space import Space
from models.search.tower_cells.genotype import PLACES
from tasks.detection import build, tower_parts
from tasks.detection.box_fusion import BoxFusion
from tasks.detection.evaluator import DetectionEvaluator
from tasks.detection.facts import as_trained, read_facts
from tasks.detection.options import BASELINES, FRAME
from tasks.detection.pretrain import (
    FROM_PRETRAINING,
    check_encoder_start,
    check_start,
    check_stream_sizes,
    detector_pretraining,
)
from tasks.detection.robustness import Robustness
from utils.args import Options
from utils.distributed import SINGLE_PROCESS, Ranks, ranks
from utils.errors import UserError
from utils.run_folder import read_json
from utils.untrusted import OBJECT, TOWERS

STREAMS = ("backbone", "C", "num_input_nodes", "fusion_levels", "anchor_scale", "num_classes", "image_size")
NETWORK = (*STREAMS, "canvas", "normalization", *FRAME)
DATA = ("dataset", "split_seed", "paper_protocol", "folds", "fold")
OF_ONNX = ("onnx_modality", "onnx_description")
# Of a checkpoint of a network that has tensors.
OF_OURS = {"args.baseline": (lambda name: name in (None, *BASELINES), "a network that was trained here")}


def is_baseline(name: Any) -> bool:
    return name in (None, *BASELINES) or (isinstance(name, str) and name.startswith(ONNX))


class Detection(Task):
    """The hooks of detection; see `Task`."""

    metric, logged, predictions_file = "AP", ("AP", "AP50"), "detections.json"
    from_pretraining = FROM_PRETRAINING
    from_search = (
        *NETWORK,
        "tower_space",
        "head_channels",
        *DATA,
        "overfit",
        "checkpointdir",
        "fullbb_path",
        "head_path",
    )
    rebuilt_from = (*NETWORK, *TOWERS, *DATA, "baseline", "widen", *OF_ONNX)
    agreeing = (*NETWORK, *DATA)
    fields = {  # noqa: RUF012
        "data": OBJECT,
        "args.dataset": (lambda name: name in DATA_SETS or is_description(name), "a known one"),
        "args.baseline": (is_baseline, "a known one"),
        "args.canvas": (CANVASES.__contains__, " or ".join(CANVASES)),
        "args.normalization": (("data", build.ENCODER).__contains__, "data or encoder"),
        **{f"args.{option}": (table.__contains__, "a known one") for option, table in TABLES.items()},
        "args.towers": (("none", "both", *PLACES).__contains__, "a known one"),
    }

    of_ours = OF_OURS
    profiled_baselines = ("thermal", "rgb", *FUSIONS)  # which a profile sets beside a network

    pretraining = staticmethod(detector_pretraining)

    def __init__(self, name: str, title: str):
        self.name, self.title = name, title

    def with_options(self, options: Options) -> "Detection":
        if not build.is_onnx(options):
            return TowerHeadDetection(self.name, self.title) if build.has_towers(options) else self
        from tasks.detection.onnx_task import onnx_detection  # which builds on this class

        return onnx_detection(self, options)

    def open_data(self, options: Options) -> DataModule:
        return build.open_data(options)

    def check_options(self, options: Options) -> Options:
        if options.overfit and options.paper_protocol:
            raise UserError("--overfit: expected no --paper-protocol beside it: both say what is chosen on")
        if options.eval_dataset:
            whole = {"folds": None, "fold": None, "paper_protocol": False, "overfit": None}
            options = options.with_values("command line", dataset=options.eval_dataset, **whole)
        check_folds(options)
        if unread := [name for name in OF_ONNX if options.is_typed(name) and not build.is_onnx(options)]:
            raise UserError(f"--{unread[0]}: expected --baseline {ONNX}FILE beside it, found none")
        options = build.check_towers(options)
        if not options.eval_exp_dir:
            build.check_baseline(options)
            build.check_scales(options)
            build.check_canvas(options)
        if "freeze_encoder" in options:
            check_encoder_start(options)
        if options.overfit and not options.is_given("hflip"):
            options = options.with_values("default", hflip=0.0)  # the very pairs that are chosen on
        return check_start(options) if "modality" in options else options

    def complete(self, options: Options, data: DataModule) -> Options:
        """Add the number of classes, and the sizes of the streams and of a widened fusion."""
        options = options.with_values("data", num_classes=build.num_classes(options, data))
        if options.eval_exp_dir:
            return options
        if "modality" in options:
            options = check_stream_sizes(options)
        else:
            options = options.with_values("checkpoint", **build.sizes_of_streams(options))
            if options.head_channels is None:
                options = options.with_values("default", head_channels=tower_parts.inner_channels(options.C))
        build.check_batch(options, data)
        if "modality" in options or "strategy" in options:
            return options
        width = ranks().broadcast_from_first(lambda: build.matching_width(options))
        return options.with_values("checkpoint", widen=width)

    def warnings(self, options: Options, section: str) -> list[str]:
        lines = ["--no-prefetcher has no effect here"] if options.no_prefetcher else []
        if "L" in options and options.defaults["L"] != options.L:
            lines.append(f"--L {options.L} has no effect here")
        source = "data set" if options.normalization == "data" else "encoder's pretraining"
        lines.append(f"pictures are normalised with mean and standard deviation of the {source}")
        if section == "found":
            lines.append("head: new" if build.has_towers(options) else f"head from {build.head_path(options)}")
        if section in ("search", "found"):
            pretrained_values = differing(pretrained_with(options.checkpointdir), options.keywords(*FROM_PRETRAINING))
            text = "though the streams were pretrained with"
            lines += [f"--{name}: {options[name]}, {text} {found}" for name, found in pretrained_values.items()]
        return lines

    def next_options(self, options: Options, section: str) -> dict[str, Any]:
        if options.config:
            return {}
        return {"epochs": 50, "batchsize": 8} if section == "search" else {"batchsize": options.batchsize}

    def write_description(self, options: Options, folder: Path) -> None:
        if is_description(options.dataset):
            shutil.copyfile(options.dataset, folder / "dataset.yaml")

    def facts(self, data: DataModule, section: str) -> dict[str, Any]:
        return {"data": data.data.facts} if section == "found" else {}

    def results_facts(self, options: Options, data: DataModule) -> dict[str, Any]:
        scenes = data.data.info["test"].get("hash")  # of a renderer; a plain name
        facts = {"scenes": scenes} if isinstance(scenes, str) else {}
        facts |= {"eval_dataset": options.eval_dataset} if options.eval_dataset else {}
        return facts | (dict(zip(("fold", "folds"), data.data.fold)) if data.data.fold else {})

    def is_same_data(self, name: str, value: Any, trained_with: Any) -> bool:
        """Return whether both are own sets: the copy of the YAML in a run folder may stand for one that has moved."""
        return name == "dataset" and is_description(value) and is_description(trained_with)

    def check_pretrained(self, options: Options, data: DataModule) -> str:
        modalities = build.needed_modalities(options.baseline)
        folder, allowed = options.checkpointdir, options.allow_split_mismatch
        text = check_split(folder, data.split, modalities, unit=data.unit, allow_mismatch=allowed)
        build.check_pretrained_data(options, data)
        return text

    def check_trained(self, options: Options, state: dict, source: str) -> None:
        build.check_sizes(options, state["model"], source)

    def tested_data(self, options: Options, data: DataModule, state: dict, source: str) -> DataModule:
        if not options.eval_dataset:
            return data
        if not options.allow_split_mismatch:
            check_unseen(Path(source).parent / "split.json", data)
        sensors = images_of(build.needed_modalities(options.baseline))
        facts = read_facts(state["data"], options.num_classes, sensors, f"{source}: data")
        return replace(data, data=as_trained(data.data, facts["classes"], facts["normalization"]))

    def check_data(self, options: Options, data: DataModule, state: dict, source: str) -> None:
        if not options.eval_dataset:  # else they are those of the network already
            build.check_facts(state["data"], data, source)

    def streams_read(self, options: Options) -> tuple[str, ...]:
        """Return the streams of a network."""
        return build.needed_modalities(options.baseline)

    def new_streams(self, options: Options) -> Streams:
        """Return the streams of a network, with random weights."""
        return build.make_streams(options, self.streams_read(options))

    def build_streams(self, options: Options, data: DataModule, pretrained: bool = True) -> Streams:
        return build.load_streams(options, self.streams_read(options)) if pretrained else self.new_streams(options)

    def spaces(self, options: Options, streams: Streams) -> dict[str, Space]:
        return {"fusion": build.make_space(options, streams)} | build.tower_spaces(options)

    def readers(self, options: Options, streams: Streams) -> dict[str, Reader]:
        return build.readers(options, streams)

    def build_supernet(self, options: Options, data: DataModule) -> FusionDetector:
        return build.build_supernet(options, data, self.searched_parts(options))

    def build_network(
        self,
        options: Options,
        data: DataModule,
        streams: Streams,
        architecture: Architecture | None,
        pretrained: bool = True,
    ) -> FusionDetector:
        if not pretrained:
            return self.assemble(options, streams, architecture, data.data.normalization)
        if architecture and "fusion" not in architecture.parts:
            path = options.genotype or options.search_exp_dir
            raise UserError(f"{path}: field parts: expected a genotype of fusion, found head alone")
        head = build.start_head(options, build.head_path(options))
        return build.assemble(options, streams, head, architecture, data.data.normalization)

    def assemble(
        self, options: Options, streams: Streams, architecture: Architecture | None, normalization: Normalization
    ) -> FusionDetector:
        """Return the network of an architecture, or of the options' baseline, on these streams; the rest is new."""
        return build.assemble(options, streams, build.make_head(options), architecture, normalization)

    def brackets(self, model: Any) -> dict[str, nn.Module]:
        towers = getattr(model, "towers", None)  # an ONNX detector has none
        return super().brackets(model) | ({} if towers is None else {"towers": towers})

    def method(self, options: Options) -> str:
        widened = "widen" in options and options.widen is not None
        return f"{options.baseline} widened" if widened else options.baseline

    def losses(self, model: Any, batch: dict, ranks: Ranks = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Return the losses of a batch, or of this rank's share of one: see `Head.losses`."""
        return model.head.losses(model(_inputs(batch)), batch, ranks)

    def predict(self, model: Any, batch: dict) -> list[dict[str, Tensor]]:
        """Return the boxes, scores and labels of each image: see `Head.detect`."""
        return model.head.detect(model(_inputs(batch)), batch)

    def make_evaluator(self, data: DataModule, part: str, full: bool = False) -> DetectionEvaluator:
        truth = data.data.ground_truth[data.list_of(part)]
        return DetectionEvaluator(truth, data.data.category_ids, data.data.classes, full)

    def least_batch(self, options: Options) -> int:
        return build.least_batch(options)

    def example_batch(self, options: Options, where: torch.device) -> dict:
        streams = build.streams_read(options)
        streams = streams[:1] if "modality" in options else streams  # which are pretrained one after the other
        return build.black_batch(streams, options.image_size, where)

    def costs(self, model: FusionDetector, options: Options) -> dict[str, Any]:
        return {"macs": build.macs_per_pair(model, options.image_size)}

    def extra_tests(self, options: Options) -> Sequence[ExtraTest]:
        if bool(options.box_fusion) != bool(options.partner_exp_dir):
            names = ("box_fusion", "partner_exp_dir")
            given, missing = names if options.box_fusion else names[::-1]
            raise UserError(f"--{given}: expected --{missing} beside it, found none")
        if options.box_fusion and options.search_exp_dir:
            raise UserError("--search_exp_dir: no effect with --box_fusion: both networks come from their runs")
        if options.box_fusion and options.is_typed("robustness"):
            raise UserError("--robustness: no effect with --box_fusion: give it to a test of each of the two runs")
        fusion = [BoxFusion(options.box_fusion, options.partner_exp_dir)] if options.box_fusion else []
        return fusion + ([] if options.robustness is None else [Robustness(self, options.robustness)])


class TowerHeadDetection(Detection):
    """Detection with a head behind towers, which can be searched as the fusion can."""

    searchable_parts, other_parts, needs_all_parts = ("fusion", "head"), (), False

    def given_parts(self, options: Options, streams: Streams) -> dict[str, Any]:
        """Return the parts of the file that are not searched."""
        given, searched = build.given_parts(options, streams), self.searched_parts(options)
        return {part: genotype for part, genotype in given.parts.items() if part not in searched}


def check_unseen(path: Path, data: DataModule) -> None:
    """Refuse a test list that has names of a training's parts; nothing is known where its split.json is not there."""
    if not path.exists():
        return
    learned = {name for names in Split.from_json(read_json(path), str(path)).parts.values() for name in names}
    if seen := sorted(record.file_name for record in data.data.records["test"] if record.file_name in learned):
        expected = f"expected a test list without {data.unit} of the training, found {len(seen)} named as in {path}"
        advice = "--allow_split_mismatch takes them for others of these names"
        raise UserError(f"--eval_dataset {data.data.name}: {expected}, the first {seen[0]}: {advice}")


def check_folds(options: Options) -> None:
    """Refuse folds that cannot be cut, and the protocol that chooses on what is tested on."""
    if options.fold and not options.folds:
        raise UserError("--fold: expected --folds beside it, found none")
    if options.folds and not 1 <= (options.fold or 0) <= options.folds:
        raise UserError(f"--fold: expected one of the folds 1 to {options.folds}, found {options.fold or 'none'}")
    if options.folds == 1:
        raise UserError("--folds: expected at least 2, found 1")
    if options.folds and options.paper_protocol:
        raise UserError("--folds: expected no --paper-protocol beside it, which chooses on what is tested on")


def _inputs(batch: dict) -> dict:
    """Return what the detector reads: cached features where the batch has them, else images."""
    return batch["features"] if "features" in batch else batch["images"]

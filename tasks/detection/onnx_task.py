"""`--baseline onnx:FILE`: a detector that others trained, scored on `val`, tested and fused like one trained here.

Nothing is trained, so the run's best.pt holds no tensors: it holds what identifies the file and how it was read, and a
test refuses a file or a description that has changed.
"""

import json
from dataclasses import asdict
from typing import Any

from torch import nn

from datasets.data_module import DataModule
from models.detection.baselines import ONNX, words_of_onnx
from models.detection.onnx_detector import OnnxDetector
from models.detection.onnx_input import Fit
from tasks.detection import build
from tasks.detection.onnx_description import read_description, sensor_of_export
from tasks.detection.onnx_file import OnnxFile, open_onnx
from tasks.detection.onnx_inputs import extra_inputs, picture_input
from tasks.detection.onnx_outputs import outputs_of
from tasks.detection.task import Detection
from utils.args import Options
from utils.errors import UserError, flags, short
from utils.untrusted import OBJECT, check_field

SENSOR = "rgb"  # that is read where neither the option nor an export of ours says so
# Options that a run in which nothing is trained reads; others are refused.
READ = ("data", "dataset", "split_seed", "paper_protocol", "overfit", "num_classes", "baseline", "onnx_modality")
READ += ("onnx_description", "workers", "pin_mem", "config", "seed", "save", "device", "parallel", "wandb", "no_report")
READ += ("folds", "fold", "dry_run", "checkpoint_every", "max_bad_files", "resume", "deterministic")
CORNER = 2  # px of the input; relative coordinates are about 1 at most
UNUSED = {
    "epochs": 1,
    "normalization": "data",
    "stream_lr": 0.0,
    "modality_dropout": 0.0,
    "match_parameters": None,
    "canvas": "fixed",
    "short_sides": None,
}  # also those of a config


class OnnxDetection(Detection):
    """Detection by an ONNX file.

    Args:
        file: the opened file.
        modality: the sensor that it reads.
        fields, source: of its description, and what the description is called in messages.
    """

    trainable = False

    def __init__(self, name: str, title: str, file: OnnxFile, modality: str, fields: dict[str, Any], source: str):
        super().__init__(name, title)
        self.file, self.modality, self.description, self.source = file, modality, fields, source

    def check_options(self, options: Options) -> Options:
        if unread := [name for name in options.typed_names if name not in READ]:
            why = "nothing is trained, and pictures go through the file one by one"
            raise UserError(f"{flags(unread)}: no effect with --baseline {ONNX}FILE: {why}")
        options = super().check_options(options.with_values("default", **UNUSED))
        return options.with_values("default", onnx_modality=self.modality)

    def complete(self, options: Options, data: DataModule) -> Options:
        options = options.with_values("data", num_classes=build.num_classes(options, data))
        # Sizes that every best.pt names; no network is built from them.
        sizes = {"num_input_nodes": options.num_input_nodes or 10, "fusion_levels": options.fusion_levels or 5}
        return options.with_values("default", widen=None, **sizes)

    def warnings(self, options: Options, section: str) -> list[str]:
        return []

    def next_options(self, options: Options, section: str) -> dict[str, Any]:
        return {}

    def check_pretrained(self, options: Options, data: DataModule) -> str:
        return "none: an ONNX file"

    def check_trained(self, options: Options, state: dict, source: str) -> None:
        """Check nothing: there are no tensors."""

    def facts(self, data: DataModule, section: str) -> dict[str, Any]:
        return super().facts(data, section) | {"onnx": self.facts_of_file(self.build(data))}

    def facts_of_file(self, model: OnnxDetector) -> dict[str, Any]:
        """Return what identifies the file, and how it is read, as JSON has it."""
        outputs = asdict(model.head.outputs)
        del outputs["source"]
        facts = {"file": self.file.name, "sha256": self.file.digests, "modality": self.modality}
        facts |= {"picture": asdict(model.picture), "extra_inputs": model.extra, "outputs": outputs}
        return json.loads(json.dumps(facts))

    def check_data(self, options: Options, data: DataModule, state: dict, source: str) -> None:
        super().check_data(options, data, state, source)
        check_field(state, "onnx", OBJECT, source)
        recorded, facts = state["onnx"], self.facts_of_file(self.build(data))
        for name in ("sha256", "modality", "picture", "extra_inputs", "outputs"):
            if recorded.get(name) != facts[name]:
                changed = f"{self.file.path} has changed" if name == "sha256" else f"{self.source} says otherwise now"
                expected = f"expected {short(recorded.get(name))}"
                raise UserError(f"{source}: onnx.{name}: {expected}, found {short(facts[name])}: {changed}")

    def build(self, data: DataModule) -> OnnxDetector:
        """Return the detector for the classes of the data."""
        picture = picture_input(self.file, self.description, self.source)
        extra = extra_inputs(self.file, self.description, self.source)
        outputs = outputs_of(self.file, self.description, data.data.classes, self.source)
        return OnnxDetector(self.file.run, self.modality, picture, extra, outputs)

    def build_streams(self, options: Options, data: DataModule, pretrained: bool = True) -> nn.Module:
        return nn.Module()  # the file is read as a whole

    def build_network(
        self, options: Options, data: DataModule, streams: Any, architecture: Any, pretrained: bool = True
    ) -> OnnxDetector:
        return self.build(data)

    def brackets(self, model: Any) -> dict[str, nn.Module]:
        return {}

    def num_parameters(self, model: Any) -> int:
        return self.file.num_parameters

    def costs(self, model: Any, options: Options) -> dict[str, Any]:
        return {"macs": None}

    def results_facts(self, options: Options, data: DataModule) -> dict[str, Any]:
        return super().results_facts(options, data) | {"onnx": {"file": self.file.name, "sha256": self.file.digests}}

    def method(self, options: Options) -> str:
        return words_of_onnx(options.baseline, self.modality)

    def introduction(self, data: DataModule, model: Any) -> list[str]:
        """Return lines for the log: how the file is read, and which classes of the data it lacks."""
        outputs, classes = model.head.outputs, data.data.classes
        parts = ", ".join(f"{part} from {name}" for part, name in outputs.parts.items())
        lines = [f"onnx: {self.file.name} reads {self.modality} pictures as {model.picture.words}; {parts}"]
        absent = [name for channel, name in enumerate(classes) if channel not in outputs.channels]
        return lines + [f"remark: {self.file.name} has no class for {', '.join(absent)}"] * bool(absent)

    def answer_warnings(self, data: DataModule, model: Any, part: str, answers: list[dict]) -> list[str]:
        """Return a line where all boxes lie in the corner of the input, as relative ones do that are read as pixels."""
        fits = {record.image_id: model.picture.fit(record.height, record.width) for record in data.records(part)}
        in_pixels = model.head.outputs.unit == "pixels"
        if not answers or not in_pixels or not all(in_corner(item, fits[item["image_id"]]) for item in answers):
            return []
        found = f"expected boxes in pixels, found all of them within {CORNER} px of the input's corner"
        return [f"remark: {self.source}: box_unit: {found}: relative may be meant"]

    def example_batch(self, options: Options, where: Any) -> None:
        return None


def in_corner(answer: dict, fit: Fit) -> bool:
    """Return whether a box in COCO form, in pixels of the picture, lies within CORNER of the input's corner."""
    left, top, width, height = answer["bbox"]
    return (left + width) * fit.scale_x <= CORNER and (top + height) * fit.scale_y <= CORNER


def onnx_detection(task: Detection, options: Options) -> OnnxDetection:
    """Return the task of the file that --baseline names."""
    file = open_onnx(options.baseline.removeprefix(ONNX))
    fields, source = read_description(file, options.onnx_description)
    modality = options.onnx_modality or sensor_of_export(file) or SENSOR
    return OnnxDetection(task.name, task.title, file, modality, fields, source)

"""A trained detector for pictures of no data set: loaded from its run folder alone, fed with files or tensors.

    from tasks.detection.predictor import Predictor
    predictor = Predictor("runs/found-EXP-TIME")
    objects = predictor("a_rgb.jpg", "a_thermal.jpg")

Shapes: h, w size of a picture; boxes are xyxy pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from datasets.detection.dataset import collate
from datasets.detection.names import CANVASES
from datasets.detection.sources import CHANNELS
from datasets.detection.transforms import DetectionTransform, fill_from_mean
from datasets.images import read_rgb, read_thermal
from engine.compute import pick_compute
from engine.step import move
from models.detection.streams import images_of
from models.search.architecture import architecture_from_json
from tasks.detection.facts import SENSORS, read_facts
from tasks.detection.fad import FAD
from tasks.detection.flira import FLIRA
from tasks.detection.options import FRAME
from tasks.detection.task import Detection
from tasks.detection.weights import SUFFIX, load_weights
from utils import checkpoint
from utils.args import Options
from utils.errors import UserError
from utils.untrusted import check_fields, options_from_run

Picture = str | Path | Tensor
FILE = (str, Path)
MAX_SKEW = 0.02  # by which the shapes of the two pictures of a pair may differ: beyond, they show different fields
UNREAD = {"drpt": 0.0, "norm_momentum": 0.1, "box_loss": "giou"}  # values of options that only a training reads


@dataclass(frozen=True)
class Pair:
    """The pictures of one moment, uint8: rgb (3, h, w), thermal (1, h, w); None: the sensor gives none."""

    rgb: Tensor | None
    thermal: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture that boxes lie on: thermal where it is there."""
        return tuple((self.rgb if self.thermal is None else self.thermal).shape[-2:])


class Predictor:
    """A detector of RGB-thermal pairs, or of pictures of one camera.

    Boxes are in pixels of the thermal picture, or of the RGB picture where there is no thermal one. An RGB picture of
    another size is resized onto the thermal one, which it must be aligned with. A missing picture is black, as of
    `--modality_dropout`. A picture that the network does not read is passed over.

    Args:
        run: a run folder of main_darts_found_flira.py or main_darts_found_fad.py, or a .safetensors file of
            tools/export.py.
        device: auto, cpu, cuda or mps.

    Raises:
        UserError: no such run or device, or a checkpoint that is not whole.
    """

    def __init__(self, run: str | Path, device: str = "auto"):
        self.compute = pick_compute(device=device)
        path = Path(run) if Path(run).suffix == SUFFIX else Path(run) / "best.pt"
        state = load_weights(path) if path.suffix == SUFFIX else checkpoint.load(path)
        self.task = task = task_of(state)
        check_fields(state, str(path), options=task.rebuilt_from, fields=task.fields | task.of_ours)
        options = Options(UNREAD | dict.fromkeys(task.rebuilt_from) | FRAME, {}, {})
        options = options_from_run(options, state["args"], task.rebuilt_from, source=f"{path}: args")
        task.check_trained(options, state, str(path))
        self.sensors = images_of(task.streams_read(options))
        self.unit = "pairs" if len(self.sensors) > 1 else "pictures"
        facts = read_facts(state["data"], options.num_classes, self.sensors, f"{path}: data")
        streams, genotype = task.new_streams(options), state["genotype"]
        if genotype:
            genotype = architecture_from_json(genotype, str(path), task.readers(options, streams))
        model = task.assemble(options, streams, genotype, facts["normalization"])
        checkpoint.load_state(model, state["model"], str(path))
        self.options, self.normalization = options, facts["normalization"]
        self.model = self.compute.place(model).eval()
        self.classes, self.thermal_counts = facts["classes"], facts["thermal_counts"]
        self.method = f"genotype {genotype.id}" if genotype else task.method(options)
        channels = {sensor: CHANNELS[sensor] for sensor in facts["normalization"]}
        self.fill = fill_from_mean(facts["normalization"], channels)
        oriented = options.canvas == CANVASES[1]
        self.transform = DetectionTransform(options.image_size, self.fill, train=False, oriented=oriented)

    def __call__(
        self, rgb: Picture | None = None, thermal: Picture | None = None, score: float = 0.3
    ) -> list[dict[str, Any]]:
        """Return the objects of one pair, the most certain first.

        Args:
            rgb, thermal: a file, or uint8 (3, h, w) and (1, h, w); None: there is none.
            score: the least of an object, 0..1.

        Returns:
            A list of {"class": name, "score": 0..1, "box_xyxy": [x1, y1, x2, y2]}.

        Raises:
            UserError: a picture cannot be read, or is none that the network can use.
        """
        return self.detect([self.pair(rgb, thermal)], score)[0]

    def pair(self, rgb: Picture | None, thermal: Picture | None) -> Pair:
        """Return a pair of equal sizes; arguments and errors as of a call."""
        names = {"rgb": rgb, "thermal": thermal}
        rgb, thermal = (names[sensor] if sensor in self.sensors else None for sensor in SENSORS)
        if rgb is None and thermal is None:
            raise UserError(f"expected a picture of {' or '.join(self.sensors)}, which the network reads, found none")
        rgb = read_rgb(str(rgb)) if isinstance(rgb, FILE) else rgb
        thermal = read_thermal(str(thermal), self.thermal_counts) if isinstance(thermal, FILE) else thermal
        for sensor, image, channels in (("rgb", rgb, 3), ("thermal", thermal, 1)):
            if image is not None and (image.dtype != torch.uint8 or image.dim() != 3 or len(image) != channels):
                found = f"{image.dtype} {tuple(image.shape)}"
                raise UserError(f"{sensor}: expected a uint8 picture ({channels}, height, width), found {found}")
        if rgb is not None and thermal is not None:
            rgb = _fit(rgb, thermal, names)
        return Pair(rgb, thermal)

    def detect(self, pairs: list[Pair], score: float) -> list[list[dict[str, Any]]]:
        """Return the objects of each pair of a batch, as of a call."""
        samples = [self.sample(pair) for pair in pairs]
        by_size: dict[tuple[int, int], list[int]] = {}
        for number, sample in enumerate(samples):
            by_size.setdefault(sample["image_size"], []).append(number)
        found: dict[int, list[dict[str, Any]]] = {}
        for numbers in by_size.values():
            batch = move(collate([samples[number] for number in numbers]), self.compute.device)
            with torch.no_grad():
                predictions = self.task.predict(self.model, batch)
            found |= {number: self._in_words(one, score) for number, one in zip(numbers, predictions, strict=True)}
        return [found[number] for number in range(len(pairs))]

    def sample(self, pair: Pair) -> dict[str, Any]:
        """Return a pair as the network sees it, as of `DetectionDataset`, without boxes."""
        images = {sensor: torch.zeros(CHANNELS[sensor], *pair.size, dtype=torch.uint8) for sensor in self.fill}
        images |= {sensor: getattr(pair, sensor) for sensor in self.fill if getattr(pair, sensor) is not None}
        sample = self.transform(images, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
        return {**sample, "image_id": 0, "file_name": "", "original_size": pair.size}

    def _in_words(self, found: dict[str, Tensor], score: float) -> list[dict[str, Any]]:
        rows = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes_xyxy"].tolist(), strict=True)
        named = [(self.classes[label], number, box) for label, number, box in rows if label < len(self.classes)]
        return [{"class": name, "score": number, "box_xyxy": box} for name, number, box in named if number >= score]


def task_of(state: dict) -> Detection:
    """Return the task that a checkpoint is of; one of FAD says which camera it reads."""
    args = state.get("args")
    return FAD if isinstance(args, dict) and "camera" in args else FLIRA


def _fit(rgb: Tensor, thermal: Tensor, names: dict[str, Any]) -> Tensor:
    """Return the RGB picture in the size of the thermal one."""
    size, wanted = tuple(rgb.shape[-2:]), tuple(thermal.shape[-2:])
    if size == wanted:
        return rgb
    skew = size[1] / size[0] * wanted[0] / wanted[1]
    if not 1 - MAX_SKEW <= skew <= 1 + MAX_SKEW:
        sizes = {"rgb": size, "thermal": wanted}
        ours, theirs = (f"{names[m] if isinstance(names[m], FILE) else m} of {w}x{h} px" for m, (h, w) in sizes.items())
        raise UserError(f"{ours}: expected an aligned pair, whose pictures are of one shape, found {theirs}")
    return F.resize_image(rgb, list(wanted))

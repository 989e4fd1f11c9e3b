"""The preset of FAD: detection with one camera; searched towers of an FCOS head on an FPN (2007.12075)."""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from datasets.data_module import DataModule
from engine.encoder_weights import WeightsFile, loaded_in_words, read_weights_files, record_of
from engine.pretrained import check_split
from engine.task import Pretraining, Stage
from models.detection.anchors import NUM_ANCHORS, level_sizes
from models.detection.backbones import create_encoder
from models.detection.detector import FusionDetector
from models.detection.fusions import baseline_fusions
from models.detection.streams import MODALITIES, NUM_FPN_LEVELS, Normalization, PyramidStreams, Streams
from models.detection.tables import HEADS
from models.encoder_weights import load_encoder, names_in_timm
from models.search.architecture import Architecture, Reader
from models.search.space import Space
from models.search.tower_cells.genotype import PLACES
from models.search.tower_cells.operations import SPACES
from tasks.detection import build, tower_parts
from tasks.detection.fad_options import BASELINES
from tasks.detection.fad_options import HEADS as HEAD_NAMES
from tasks.detection.task import DATA, Detection
from utils import checkpoint
from utils.args import Options
from utils.distributed import ranks
from utils.errors import UserError
from utils.seed import seed_everything

NETWORK = ("backbone", "camera", "C", "num_classes", "image_size", "canvas", "normalization", "head", "towers")
NETWORK += ("tower_space", "head_channels", "head_cells")
DETECTOR = "detector.pth"  # of checkpointdir: what a pretraining leaves


class TowerDetection(Detection):
    """The hooks of FAD; see `Task`. What differs from the fusion of streams in `Detection`:

    one camera with an FPN that may learn along, and towers as the searched part. The start is detector.pth of
    checkpointdir if it is there, else the encoder's weights, as published.
    """

    searchable_parts, other_parts, encoders_learn = ("head",), (), True
    of_ours: ClassVar[dict] = {}
    profiled_baselines = BASELINES
    from_pretraining = ("backbone", "camera", "C", "normalization")
    from_search = (*(n for n in NETWORK if n not in ("head_cells", "image_size")), *DATA, "overfit", "checkpointdir")
    rebuilt_from = (*NETWORK, *DATA, "baseline", "widen")
    agreeing = (*NETWORK, *DATA)

    fields = Detection.fields | {
        "args.baseline": ((None, *BASELINES).__contains__, "a known one"),
        "args.head": (HEAD_NAMES.__contains__, "a known one"),
        "args.camera": (MODALITIES.__contains__, "a known one"),
        "args.towers": (("both", *PLACES).__contains__, "a known one"),
        "args.tower_space": (SPACES.__contains__, "a known one"),
    }

    def with_options(self, options: Options) -> "TowerDetection":
        return self

    def check_options(self, options: Options) -> Options:
        build.check_scales(options)
        build.check_canvas(options)
        if "box_loss" in options and options.is_given("box_loss") and options.head != "fcos":
            raise UserError(f"--box_loss: no effect with --head {options.head}, whose loss of boxes is smooth L1")
        if level_sizes(options.image_size, NUM_FPN_LEVELS)[-1] == (1, 1):
            height, width = options.image_size
            why = "norms need more than one value at the coarsest level, of stride 128"
            raise UserError(f"--image_size: expected a side above 128 px, found {height}x{width}: {why}")
        if "freeze_encoder" in options:
            check_encoder(options)
        if options.overfit and not options.is_given("hflip"):
            options = options.with_values("default", hflip=0.0)  # the very pictures that are chosen on
        return options

    def open_data(self, options: Options) -> DataModule:
        return build.open_data(options, (options.camera,))

    def complete(self, options: Options, data: DataModule) -> Options:
        options = options.with_values("data", num_classes=build.num_classes(options, data))
        if options.eval_exp_dir:
            return options
        width = ranks().broadcast_from_first(lambda: tower_parts.matching_width(options))
        return options.with_values("checkpoint", widen=width)

    def warnings(self, options: Options, section: str) -> list[str]:
        return []

    def check_pretrained(self, options: Options, data: DataModule) -> str:
        if not start_file(options).exists():
            return "none: encoder weights alone"
        folder, allowed = options.checkpointdir, options.allow_split_mismatch
        text = check_split(folder, data.split, (options.camera,), unit=data.unit, allow_mismatch=allowed)
        build.check_pretrained_data(options, data)
        return text

    def check_trained(self, options: Options, state: dict, source: str) -> None:
        """Refuse sizes that would build another network, or a larger one, than the tensors of a file are of."""
        model = state["model"]
        anchors = NUM_ANCHORS if options.head == "retinanet" else 1
        shape = tuple(getattr(model.get("head.cls_logits.weight"), "shape", ()))
        if shape != (expected := (anchors * options.num_classes, options.C, 3, 3)):
            raise UserError(f"{source}: model: head.cls_logits.weight: expected shape {expected}, found {shape}")
        tower_parts.check_sizes(options, model, source)

    def streams_read(self, options: Options) -> tuple[str, ...]:
        return (options.camera,)

    def new_streams(self, options: Options) -> PyramidStreams:
        return PyramidStreams(options.backbone, options.C, modalities=self.streams_read(options))

    def build_streams(self, options: Options, data: DataModule, pretrained: bool = True) -> PyramidStreams:
        streams = self.new_streams(options)
        if pretrained:
            streams.start = start_streams(options, streams)
        return streams

    def introduction(self, data: DataModule, model: FusionDetector) -> list[str]:
        return [model.streams.start]

    def spaces(self, options: Options, streams: PyramidStreams) -> dict[str, Space]:
        return {"head": tower_parts.make_space(options)}

    def readers(self, options: Options, streams: PyramidStreams) -> dict[str, Reader]:
        return {"head": tower_parts.make_reader(options)}

    def build_supernet(self, options: Options, data: DataModule) -> FusionDetector:
        streams = self.build_streams(options, data)
        return make_detector(options, streams, tower_parts.of_search(options), data.data.normalization)

    def build_network(
        self,
        options: Options,
        data: DataModule,
        streams: PyramidStreams,
        architecture: Architecture | None,
        pretrained: bool = True,
    ) -> FusionDetector:
        return self.assemble(options, streams, architecture, data.data.normalization)

    def assemble(
        self, options: Options, streams: Streams, architecture: Architecture | None, normalization: Normalization
    ) -> FusionDetector:
        if architecture is None:
            towers = tower_parts.plain(options, options.widen)
        else:
            towers = tower_parts.of_genotype(options, architecture.parts["head"])
        return make_detector(options, streams, towers, normalization)

    def brackets(self, model: FusionDetector) -> dict[str, nn.Module]:
        return {"streams": model.streams, "towers": model.towers, "head": model.head}

    def least_batch(self, options: Options) -> int:
        return 1

    def example_batch(self, options: Options, where: torch.device) -> dict:
        return build.black_batch((options.camera,), options.image_size, where)

    def pretraining(self, options: Options, data: DataModule) -> Pretraining:
        files = weights_files(options)
        stage = Stage(
            options.camera,
            partial(plain_detector, options, data, files),
            data,
            epochs=options.epochs,
            parts=data.learning,
            features="encoder" if options.freeze_encoder else "",
        )
        facts = options.keywords(*self.from_pretraining) | {"data": data.data.facts}
        return Pretraining(
            [stage],
            files=lambda models: {DETECTOR: models[options.camera].state_dict()},
            modalities=(options.camera,),
            facts=lambda: facts | record_of(options.checkpointdir, (options.camera,), files),
            next_command=lambda files: ("main_darts_searchable_fad.py", {}),
        )


def make_detector(
    options: Options, streams: Streams, towers: nn.Module, normalization: Normalization
) -> FusionDetector:
    head = HEADS[options.head](options.C, options.num_classes, NUM_FPN_LEVELS)
    if options.head == "fcos":
        head.box_loss = options.box_loss
    fusions = baseline_fusions(options.camera, options.C, NUM_FPN_LEVELS)
    return FusionDetector(streams, fusions, head, normalization, towers=towers)


def start_file(options: Options) -> Path:
    return Path(options.checkpointdir) / DETECTOR


def start_streams(options: Options, streams: PyramidStreams) -> str:
    """Load detector.pth's encoder and FPN, or the encoder's weights where it is not there; returns what was loaded.

    Raises:
        UserError: the FPN would be frozen though it has random weights.
    """
    path = start_file(options)
    if path.exists():
        state = checkpoint.load(path)
        wanted = {name.removeprefix("streams."): v for name, v in state.items() if name.startswith("streams.")}
        checkpoint.load_state(streams, wanted, f"{path} (--backbone {options.backbone}, --C {options.C})")
        return f"encoder and FPN from {path}"
    if not options.stream_lr:
        raise UserError(f"--stream_lr 0: expected {path}, whose FPN is kept, found none: run main_pretrain_fad.py")
    return start_encoder(options, streams, weights_files(options))


def weights_files(options: Options) -> dict[str, WeightsFile]:
    return read_weights_files(options.encoder_weights, (options.camera,), (options.camera,))


def start_encoder(options: Options, streams: PyramidStreams, files: dict[str, WeightsFile]) -> str:
    """Load the encoder's weights of a file or of ImageNet, unless they are to be random; returns what was loaded."""
    encoder = getattr(streams, f"{options.camera}_backbone")
    if file := files.get(options.camera):
        source = f"--encoder_weights {file.path} (--backbone {options.backbone})"
        rest = load_encoder(encoder, file.state, source, modality=options.camera, whole=names_in_timm(options.backbone))
        return loaded_in_words(options.camera, file, rest)
    if options.no_imagenet:
        return "encoder of random weights"
    encoder.load_state_dict(create_encoder(options.backbone, imagenet=True).state_dict())
    return "encoder of ImageNet weights"


def check_encoder(options: Options) -> None:
    """Refuse to freeze an encoder of random weights, and a rate of its own, which FPN and encoder would share."""
    if options.encoder_lr is not None:
        raise UserError(
            f"--encoder_lr: expected --lr for encoder and FPN, or --freeze_encoder, found {options.encoder_lr:g}"
        )
    if options.freeze_encoder and options.no_imagenet and not options.encoder_weights:
        raise UserError(
            "--freeze_encoder: expected start weights (--encoder_weights or ImageNet's), found --no-imagenet"
        )


def plain_detector(
    options: Options, data: DataModule, files: dict[str, WeightsFile], models: dict[str, nn.Module], log: Any
) -> FusionDetector:
    """Return the detector with plain towers that a pretraining trains; logs what its encoder starts from."""
    seed_everything(options.seed)
    streams = FAD.new_streams(options)
    log(start_encoder(options, streams, files))
    detector = make_detector(options, streams, tower_parts.plain(options), data.data.normalization)
    streams.unfreeze()
    if options.freeze_encoder:
        getattr(streams, f"{options.camera}_backbone").requires_grad_(False)
    return detector


FAD = TowerDetection("fad", "FAD: objects in pictures of one camera, searched towers")

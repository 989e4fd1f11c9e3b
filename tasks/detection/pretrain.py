"""Pretraining of detection: a detector per modality, then the shared head on the mean of both streams' last taps.

It leaves, in checkpointdir, the two files that search and training start from (names and tensors as in the released
ones), thermal_head.pth, rgb_head.pth, split.json and pretrain.json; of `--modality early`, early_stream.pth and
early_head.pth. Recipe and reasons: docs/pretraining.md.

Two pretrainings may share a folder (`--modality thermal` and `rgb` side by side): each trains by itself, then reads
what is there, adds its part and writes, all under a lock. So the later one finds both streams, whichever it is.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from datasets.data_module import DataModule
from datasets.detection.names import CANVASES
from engine.encoder_weights import WeightsFile, loaded_in_words, paths_by_modality, read_weights_files, record_of
from engine.pretrained import PRETRAINED, check_split, differing, pretrained_with, recorded_splits
from engine.task import Pretraining, Stage
from models.detection.backbones import create_encoder, encoder_channels
from models.detection.detector import FusionDetector, SingleDetector
from models.detection.fusions import baseline_fusions
from models.detection.layers import set_norm_momentum
from models.detection.necks.bifpn import BiFPN
from models.detection.streams import INPUTS, MODALITIES, input_channels
from models.encoder_weights import load_encoder, names_in_timm
from tasks.detection import build
from tasks.detection.build import ENCODER
from tasks.detection.stream_files import streams_of
from utils import checkpoint
from utils.args import Options
from utils.checkpoint import State
from utils.distributed import ranks
from utils.errors import UserError
from utils.run_folder import read_json
from utils.seed import seed_everything

HEAD = "head"  # the stage of the shared head
OTHER = dict(zip(MODALITIES, reversed(MODALITIES)))
FROM_PRETRAINING = ("backbone", "image_size", "canvas", "anchor_scale", "normalization")


def check_stream_sizes(options: Options) -> Options:
    """Return the options with repeats and levels, published where not given; refuse what no stream can be."""
    nodes, levels = options.num_input_nodes or 10, options.fusion_levels or 5
    if levels < 3:
        raise UserError(f"--fusion_levels: expected at least 3 (the encoder's own levels), found {levels}")
    if nodes % 2:
        raise UserError(f"--num_input_nodes: expected an even number (2 x BiFPN repeats), found {nodes}")
    return options.with_values("default", num_input_nodes=nodes, fusion_levels=levels)


def check_start(options: Options) -> Options:
    """Return the options with the normalization that follows from the start weights; refuse two starts."""
    if options.init and options.encoder_weights:
        raise UserError("--encoder_weights: expected no --init beside it: both say where encoders start")
    if options.is_given("normalization"):
        return options
    start = pretrained_with(options.init).get("normalization") if is_folder(options.init) else None
    if options.encoder_weights:
        start = normalization_of_files(options)
    return options.with_values("default", normalization=start or "data")


def normalization_of_files(options: Options) -> str:
    """Return how pictures are normalised for the files of --encoder_weights: as those of ours were trained on.

    Raises:
        UserError: two files differ.
    """
    paths = paths_by_modality(options.encoder_weights, stages_of(options), stages_of(options)).values()
    found = {path: recorded_normalization(path, options.fullbb_path) for path in paths}
    if len(set(found.values())) > 1:
        names = ", ".join(f"{value} of {path}" for path, value in found.items())
        raise UserError(f"--encoder_weights: expected files of one normalization, found {names}: add --normalization")
    return next(iter(found.values()), ENCODER)


def recorded_normalization(path: Path, streams_file: str) -> str:
    """Return the normalization of a file of ours, in checkpointdir or in a run folder; else that of timm's encoder."""
    if path.name == streams_file or path.name.endswith("_stream.pth"):
        return pretrained_with(path.parent).get("normalization", "data")
    if path.name == "best.pt" and (path.parent / "args.json").exists():
        return read_json(path.parent / "args.json").get("normalization", "data")
    return ENCODER


def stages_of(options: Options) -> tuple[str, ...]:
    """Return the modalities whose detectors are trained."""
    return MODALITIES if options.modality == "both" else (options.modality,)


def detector_pretraining(options: Options, data: DataModule) -> Pretraining:
    """Return the stages that --modality asks for; the detectors are built here, as checks compare their shapes."""
    modalities = stages_of(options)
    files = read_weights_files(options.encoder_weights, modalities, modalities)
    detectors = {m: build_detector(options, m, data.data.normalization, m in files) for m in modalities}
    lines = {m: f"{m} detector from --init {options.init}" for m in modalities} if options.init else {}
    lines |= {m: start_from_file(options, detectors[m], file) for m, file in files.items()}
    sizes = {"data": data, "parts": data.learning}
    maps = "encoder" if options.freeze_encoder else ""
    stages = [
        Stage(m, partial(started, d, lines.get(m)), epochs=options.epochs, features=maps, **sizes)
        for m, d in detectors.items()
    ]
    if set(modalities) <= set(MODALITIES) <= set(data.data.modalities):
        model = partial(shared_head_model, options, data)
        stages.append(Stage(HEAD, model, epochs=options.head_epochs, shared=True, features=maps or "taps", **sizes))
    return Pretraining(
        stages,
        files=partial(finished_files, options),
        modalities=tuple(INPUTS),
        facts=lambda: recorded_facts(options, data, files),
        check=partial(check_others, options, data, detectors),
        next_command=partial(next_main, options, data),
    )


def next_main(options: Options, data: DataModule, files: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """Return the main to run next with its options: the search, unless a stream is missing or a baseline trained."""
    sizes = {} if options.config else {"batchsize": 8, "epochs": 10}
    if len(data.data.modalities) == 1 or options.modality not in (*MODALITIES, "both"):
        return "main_darts_found_flira.py", {"baseline": options.modality} | sizes
    if options.modality != "both" and options.head_path not in files:
        return "", {"modality": OTHER[options.modality]}
    return "main_darts_searchable_flira.py", sizes


def recorded_facts(options: Options, data: DataModule, files: dict[str, WeightsFile]) -> dict[str, Any]:
    """Return what pretrain.json records beside the splits."""
    facts = options.keywords(*FROM_PRETRAINING) | {"data": data.data.facts}
    for name, default in (("normalization", "data"), ("canvas", CANVASES[0])):
        if options[name] == default:
            del facts[name]
    return facts | record_of(
        options.checkpointdir, stages_of(options), files, options.init if is_folder(options.init) else None
    )


def build_detector(options: Options, modality: str, normalization: dict, has_file: bool = False) -> SingleDetector:
    """Build one modality's detector with the start weights that the options ask for.

    Args:
        has_file: its encoder will start from a file.
    """
    seed_everything(options.seed)
    imagenet = not (options.no_imagenet or options.init or has_file)
    drop_path = 0.0 if keeps_encoder(options) else options.drop_path
    encoder = create_encoder(options.backbone, drop_path, imagenet, input_channels(modality))
    fpn = BiFPN(encoder_channels(encoder), options.C, options.num_input_nodes // 2, options.fusion_levels)
    set_norm_momentum(fpn, options.norm_momentum)
    head = build.make_head(options)
    detector = SingleDetector(modality, encoder, fpn, head, normalization)
    if options.init:
        state = ranks().broadcast_from_first(lambda: read_start(options, modality))
        load_start(detector, state, f"--init {options.init}")
    if keeps_encoder(options):
        detector.keep_encoder(trainable=not options.freeze_encoder)
    return detector


def keeps_encoder(options: Options) -> bool:
    """Return whether the statistics of the encoder's norms are kept, and maybe its parameters."""
    return options.freeze_encoder or options.encoder_lr is not None


def check_encoder_start(options: Options) -> None:
    """Refuse to keep an encoder of random weights, and a drop path, which a kept encoder does not have."""
    name = "freeze_encoder" if options.freeze_encoder else "encoder_lr"
    if not keeps_encoder(options):
        return
    modalities = stages_of(options)
    started = paths_by_modality(options.encoder_weights or (), modalities, modalities)
    if options.no_imagenet and not options.init and (random := [m for m in modalities if m not in started]):
        expected = f"expected start weights of {', '.join(random)} (--encoder_weights, --init or ImageNet's)"
        raise UserError(f"--{name}: {expected}, found --no-imagenet")
    if options.is_typed("drop_path") and options.drop_path:
        raise UserError(f"--drop_path: no effect with --{name}: expected 0, found {options.drop_path:g}")


def start_from_file(options: Options, detector: SingleDetector, file: WeightsFile) -> str:
    """Load a file of --encoder_weights into the encoder; returns a line for the log."""
    source, whole = f"--encoder_weights {file.path} (--backbone {options.backbone})", names_in_timm(options.backbone)
    rest = load_encoder(detector.backbone, file.state, source, modality=detector.modality, whole=whole)
    return loaded_in_words(detector.modality, file, rest)


def started(
    detector: SingleDetector, line: str | None, models: dict[str, nn.Module], log: Callable[[str], None]
) -> SingleDetector:
    """Return the detector for its stage; logs what it starts from, if that is a file."""
    if line:
        log(line)
    return detector


def is_folder(start: str | None) -> bool:
    """Return whether --init names a checkpointdir."""
    return bool(start) and Path(start).is_dir()


def read_start(options: Options, modality: str) -> State:
    """Return the tensors of --init under EfficientDet's names: of its own file, or of a checkpointdir's modality."""
    path = Path(options.init)
    if not is_folder(options.init):
        return checkpoint.load(path)
    streams = streams_of(checkpoint.load(path / build.streams_path(options, (modality,)).name), [modality])
    head = checkpoint.load(path / f"{modality}_head.pth")
    named = {k.removeprefix(f"{modality}_"): v for k, v in streams.items()}
    return named | {k.removeprefix("fusion_"): v for k, v in head.items()}


def load_start(detector: SingleDetector, state: State, source: str) -> None:
    """Load the tensors of an EfficientDet (backbone, fpn, class_net, box_net); a class layer of other size stays new.

    Raises:
        UserError: a tensor is missing or of another shape.
    """
    nets = {"class_net": detector.head.fusion_class_net, "box_net": detector.head.fusion_box_net}
    for name, part in ({"backbone": detector.backbone, "fpn": detector.fpn} | nets).items():
        given = {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(name + ".")}
        fresh = {k: v for k, v in part.state_dict().items() if k.startswith("predict.conv_pw.")}
        bias = "predict.conv_pw.bias"
        if name == "class_net" and given.keys() >= fresh.keys() and given[bias].shape != fresh[bias].shape:
            given |= fresh
        checkpoint.load_state(part, given, f"{source}: {name}")


def shared_head_model(
    options: Options, data: DataModule, models: dict[str, nn.Module], log: Callable[[str], None]
) -> FusionDetector | None:
    """Return the detector whose head is trained on the mean of both last taps, from a modality's head, streams frozen.

    None where checkpointdir has only one of the streams.
    """
    state = ranks().broadcast_from_first(lambda: merged_streams(options, models))
    if not all(streams_of(state, [m]) for m in MODALITIES):
        log("the other modality is not there yet: the shared head is trained once it is")
        return None
    start = ranks().broadcast_from_first(lambda: head_start(options, models, log))
    streams, head = build.make_streams(options), build.make_head(options)
    checkpoint.load_state(streams, state, options.fullbb_path)
    checkpoint.load_state(head, start, "start of the shared head")
    fusions = baseline_fusions("mean", options.C, options.fusion_levels)
    return FusionDetector(streams, fusions, head, data.data.normalization)


def head_start(options: Options, models: dict[str, nn.Module], log: Callable[[str], None]) -> State:
    """Return the thermal head, whichever modality is trained last; the own one where there is none."""
    first, second = MODALITIES
    earlier = Path(options.checkpointdir) / f"{first}_head.pth"
    if first in models:
        return models[first].head.state_dict()
    if earlier.exists():
        return checkpoint.load(earlier)
    log(f"{earlier}: not there, so the shared head starts from {second}_head.pth")
    return models[second].head.state_dict()


def merged_streams(options: Options, models: dict[str, nn.Module]) -> State:
    """Return the published streams file with the streams of these detectors in it, the others as they are there."""
    path = Path(options.checkpointdir) / options.fullbb_path
    missing = [m for m in MODALITIES if m not in models]
    state = streams_of(checkpoint.load(path), missing) if missing and path.exists() else {}
    for modality in set(MODALITIES) - set(missing):
        state |= models[modality].stream_state()
    return streams_of(state, MODALITIES)


def finished_files(options: Options, models: dict[str, nn.Module]) -> dict[str, State]:
    """Return the streams and heads that a pretraining publishes, by file name."""
    detectors = {m: model for m, model in models.items() if m != HEAD}
    files = {f"{m}_head.pth": d.head.state_dict() for m, d in detectors.items()}
    if not set(detectors) <= set(MODALITIES):
        return files | {build.streams_path(options, (m,)).name: d.stream_state() for m, d in detectors.items()}
    files[options.fullbb_path] = merged_streams(options, detectors)
    return files | ({options.head_path: models[HEAD].head.state_dict()} if HEAD in models else {})


def check_others(options: Options, data: DataModule, detectors: dict[str, SingleDetector]) -> None:
    """Refuse what checkpointdir holds beside these detectors and does not go with them.

    Raises:
        UserError: other options in pretrain.json; the other half of the streams file, or the head that the shared one
            starts from, is of another shape or (unless allowed) saw another split.
    """
    folder = Path(options.checkpointdir)
    check_recorded(options, data, [m for m in recorded_splits(folder, tuple(INPUTS)) if m not in detectors])
    (modality, detector), *more = detectors.items()
    if more or modality not in MODALITIES or not (folder / options.fullbb_path).exists():
        return
    partner = OTHER[modality]
    check_split(folder, data.split, (partner,), unit=data.unit, allow_mismatch=options.allow_split_mismatch)
    half = streams_of(checkpoint.load(folder / options.fullbb_path), [partner])
    expected = {partner + name[len(modality) :]: value for name, value in detector.stream_state().items()}
    if half:
        check_shapes(folder / options.fullbb_path, half, expected, modality)
    if half and partner == MODALITIES[0] and (head := folder / f"{partner}_head.pth").exists():
        check_shapes(head, checkpoint.load(head), detector.head.state_dict(), modality)


def check_recorded(options: Options, data: DataModule, modalities: list[str]) -> None:
    """Refuse options and data unlike those that the folder's streams of these modalities were pretrained with."""
    record = pretrained_with(options.checkpointdir)
    recorded = [m for m in modalities if m in record.get("splits", {})]
    if not recorded:
        return
    for name, found in differing(record, options.keywords(*FROM_PRETRAINING)).items():
        value = list(options[name]) if isinstance(options[name], tuple) else options[name]
        expected = f"expected {found} as for {', '.join(recorded)} in {Path(options.checkpointdir) / PRETRAINED}"
        advice = "one checkpointdir has one; pass that, or another --checkpointdir"
        raise UserError(f"--{name}: {expected}, found {value}: {advice}")
    build.check_pretrained_data(options, data)


def check_shapes(path: Path, found: State, expected: State, modality: str) -> None:
    """Refuse a file that differs in names or shapes from its counterpart in the new detector."""
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (found, expected)]
    for name in [*expected, *found]:
        theirs, ours = (state.get(name, "nothing") for state in shapes)
        if theirs != ours:
            raise UserError(f"{path}: {name}: expected {ours} as in the new {modality} detector, found {theirs}")

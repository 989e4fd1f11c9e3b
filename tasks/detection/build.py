"""From options to the data, the streams, the head and the detector of RGB-thermal pairs.

Options are read here and in tasks/detection/{task,pretrain}.py; below, values come by keyword.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from datasets.data_module import DataModule
from datasets.detection import opening
from datasets.detection.detection_data import ImageOptions
from datasets.detection.names import CANVASES
from datasets.detection.sources import CHANNELS
from datasets.detection.transforms import MULTIPLE
from engine.memory_estimate import PROBE
from engine.pretrained import PRETRAINED, differing, pretrained_with
from engine.task import loader_options
from models.detection.anchors import level_sizes
from models.detection.baselines import BASELINES, FUSIONS, ONNX
from models.detection.detector import FusionDetector
from models.detection.fusions import baseline_fusions, found_fusions, searchable_fusions
from models.detection.heads.head import Head
from models.detection.layers import set_norm_momentum
from models.detection.streams import INPUTS, MODALITIES, Streams, images_of, level_names, tap_names
from models.detection.tables import ENCODERS, HEADS, NECKS, TOWERS
from models.encoder_weights import statistics_in_timm
from models.search.architecture import Architecture, Reader, read_architecture
from models.search.costs import macs
from models.search.fusion_cells.choices import num_neighbours
from models.search.fusion_cells.genotype_file import FusionReader
from models.search.fusion_cells.space import FusionSpace, fusion_space
from models.search.parameters import count_parameters
from models.search.space import Space
from models.search.strategies import STRATEGIES
from tasks.detection import tower_parts
from tasks.detection.stream_files import head_classes, stream_sizes, streams_of
from tasks.detection.tower_parts import MATCH
from tasks.fusion_options import space_values
from utils import checkpoint
from utils.args import Options
from utils.errors import UserError, short
from utils.untrusted import checked

HAND_MADE = "mean"  # fusion of a search that searches other parts; the shared head is pretrained on it
ENCODER = "encoder"  # of --normalization
TOWER_HEADS = ("fcos",)  # heads behind towers; they have no file to start from


def open_data(options: Options, streams: tuple[str, ...] = ()) -> DataModule:
    """Open the data set for streams (of the options) and cut it.

    For an ONNX file images are not resized, and come one by one.
    """
    sizes = {name: tuple(options[name] or ()) for name in ("image_size", "scale_jitter", "scales")}
    drawn = options.keywords("hflip", "photometric", "modality_dropout")
    images = ImageOptions(**sizes, **drawn, **options.keywords("canvas", "short_sides"))
    loading = loader_options(options)
    if is_onnx(options):
        images, loading = ImageOptions(image_size=None), replace(loading, batch_size=1)
    cut = options.keywords("split_seed", "paper_protocol", "overfit", "folds", "fold")
    cut["modalities"] = images_of(streams or streams_read(options))
    if options.normalization == ENCODER:
        cut["statistics"] = statistics_in_timm(options.backbone)
    return opening.open_data(options.data, options.dataset, images, loading, **cut)


def streams_read(options: Options) -> tuple[str, ...]:
    """Return the streams that are pretrained, searched or trained."""
    if "modality" in options and options.modality != "both":
        return (options.modality,)
    if is_onnx(options):
        return (checked(options.onnx_modality, MODALITIES.__contains__, " or ".join(MODALITIES), "onnx_modality"),)
    return needed_modalities(options.baseline)


def is_onnx(options: Options) -> bool:
    """Return whether the network is the ONNX file of a detector trained elsewhere."""
    return bool(options.baseline) and options.baseline.startswith(ONNX)


def num_classes(options: Options, data: DataModule) -> int:
    """Return the class channels of the head: as many as the options say, else as the data have."""
    found, wanted = len(data.data.classes), options.num_classes
    if wanted is not None and wanted < found:
        raise UserError(f"--num-classes: expected at least the data set's {found} classes, found {wanted}")
    return wanted or found


def least_batch(options: Options) -> int:
    """Return the smallest batch whose coarsest level holds two values per channel: batch norm cannot learn from one."""
    return 2 if level_sizes(options.image_size, options.fusion_levels)[-1] == (1, 1) else 1


def check_batch(options: Options, data: DataModule) -> None:
    """Refuse batches that are too small for batch norm."""
    groups = [("train",), ("arch",)] if "strategy" in options else [data.learning]
    if min(options.batchsize, *(len(data.records(*group)) for group in groups)) < least_batch(options):
        raise UserError("--batchsize: expected at least 2 pairs (the coarsest level of --image_size is 1x1), found 1")


def check_pretrained_data(options: Options, data: DataModule) -> None:
    """Refuse streams that were pretrained for other classes or other values of the pixels, unless that is allowed."""
    if not options.allow_split_mismatch:
        record, path = pretrained_with(options.checkpointdir), Path(options.checkpointdir) / PRETRAINED
        advice = ": pretrain again, or pass --allow_split_mismatch"
        check_facts(record.get("data", {}), data, str(path), advice)


def check_facts(recorded: dict, data: DataModule, source: str, advice: str = "") -> None:
    """Refuse facts of the data in a file that differ from those of --dataset."""
    for name, found in differing(recorded, data.data.facts).items():
        expected = f"expected {data.data.facts[name]} as --dataset says"
        raise UserError(f"{source}: data.{name}: {expected}, found {short(found)}{advice}")


def needed_modalities(baseline: str | None) -> tuple[str, ...]:
    """Return the streams that a network reads: those of the baseline, else both."""
    return BASELINES[baseline][0] if baseline else MODALITIES


def streams_path(options: Options, modalities: tuple[str, ...]) -> Path:
    """Return the file of these streams: the two of the search share the published one."""
    shared = set(modalities) <= set(MODALITIES)
    return Path(options.checkpointdir) / (options.fullbb_path if shared else f"{modalities[0]}_stream.pth")


def head_path(options: Options) -> Path:
    """Return the head to start from: a modality's own where it alone is trained and its file is there."""
    modalities, folder = needed_modalities(options.baseline), Path(options.checkpointdir)
    head_of_modality = folder / f"{modalities[0]}_head.pth"
    alone = len(modalities) == 1 and not options.is_given("head_path")
    return head_of_modality if alone and head_of_modality.exists() else folder / options.head_path


def read_streams(options: Options, modalities: tuple[str, ...]) -> checkpoint.State:
    """Return the file of these streams."""
    path = streams_path(options, modalities)
    if not path.exists():
        advice = "run main_pretrain_flira.py first, or name the folder of yours with --checkpointdir"
        raise UserError(f"{path}: no such checkpoint file: {advice}")
    return checkpoint.load(path)


def sizes_of_streams(options: Options) -> dict[str, int]:
    """Return C, num_input_nodes and fusion_levels of the streams in checkpointdir; refuse given ones that differ."""
    modalities = needed_modalities(options.baseline)
    path = streams_path(options, modalities)
    sizes = stream_sizes(read_streams(options, modalities), str(path), modalities)
    for name, value in sizes.items():
        if options.is_given(name) and options[name] != value:
            raise UserError(f"--{name}: expected {value} as in {path}, found {options[name]}")
    return sizes


def make_streams(options: Options, modalities: tuple[str, ...] = MODALITIES) -> Streams:
    make = ENCODERS[options.encoder]
    return make(options.backbone, options.C, options.num_input_nodes // 2, options.fusion_levels, modalities)


def load_streams(options: Options, modalities: tuple[str, ...] = MODALITIES) -> Streams:
    """Build the frozen streams of checkpointdir, which must have the sizes of the options."""
    path, state = streams_path(options, modalities), read_streams(options, modalities)
    streams = make_streams(options, modalities)
    unused = streams_of(state, set(INPUTS) - set(modalities))
    wanted = {k: v for k, v in state.items() if k not in unused}
    checkpoint.load_state(streams, wanted, f"{path} (--backbone {options.backbone})")
    return streams


def make_head(options: Options) -> Head:
    sizes = {"num_levels": options.fusion_levels, "anchor_scale": options.anchor_scale}
    head = HEADS[options.head](options.C, options.num_classes, **sizes)
    set_norm_momentum(head, options.norm_momentum)
    if options.head == "fcos":
        head.box_loss = options.box_loss
    return head


def load_head(options: Options, path: Path) -> Head:
    """Build the head and load its file, which must have the same classes, channels and levels."""
    state = checkpoint.load(path)
    classes = head_classes(state, str(path))
    if classes != options.num_classes:
        advice = f"pass --num-classes {classes}, or pretrain a head for the data (main_pretrain_flira.py)"
        raise UserError(f"{path}: a head of {classes} classes, but {options.num_classes} are asked for: {advice}")
    head = make_head(options)
    checkpoint.load_state(head, state, str(path))
    return head


def make_space(options: Options, streams: Streams) -> FusionSpace:
    """Return the search space of the fusion of each level."""
    sizes = tuple(level_sizes(options.image_size, options.fusion_levels))
    return fusion_space(streams.tap_names, streams.level_names, options.C, **space_values(options), feature_sizes=sizes)


def readers(options: Options, streams: Streams) -> dict[str, Reader]:
    """Return what reads the genotypes of the detector's parts."""
    fusion = {"fusion": FusionReader(streams.tap_names, streams.level_names, options.C)}
    return fusion | ({"head": tower_parts.make_reader(options)} if has_towers(options) else {})


def tower_spaces(options: Options) -> dict[str, Space]:
    """Return the search space of the towers, where the head is behind some."""
    return {"head": tower_parts.make_space(options)} if has_towers(options) else {}


def has_towers(options: Options) -> bool:
    """Return whether the head is one behind towers, which can be searched."""
    return options.head in TOWER_HEADS


def build_supernet(options: Options, data: DataModule, searched: tuple[str, ...] = ("fusion",)) -> FusionDetector:
    """Build the searchable detector on the pretrained streams, with the pretrained shared head."""
    streams, normalization = load_streams(options), data.data.normalization
    head = start_head(options, Path(options.checkpointdir) / options.head_path)
    given = given_parts(options, streams)
    towers = make_towers(options, given, searched)
    if "fusion" not in searched:
        return assemble(options, streams, head, given, normalization, towers)
    space, strategy = make_space(options, streams), STRATEGIES[options.strategy]
    learning = {"relaxation": strategy.relaxation, "partial": strategy.partial}
    fusions = searchable_fusions(space, options.fusion_levels, options.drpt, **learning)
    return make_detector(options, streams, fusions, head, normalization, towers, space.name)


def start_head(options: Options, path: Path) -> Head:
    """Return the pretrained head of a file; a new one where it lies behind towers."""
    return make_head(options) if has_towers(options) else load_head(options, path)


def given_parts(options: Options, streams: Streams) -> Architecture:
    """Return the parts of the file that a search of other parts names; none where it names no file."""
    path = options.genotype or (options.search_exp_dir and Path(options.search_exp_dir) / "genotype.json")
    return read_architecture(path, readers(options, streams), complete=False) if path else Architecture()


def make_towers(options: Options, architecture: Architecture, searched: tuple[str, ...] = ()) -> nn.Module | None:
    """Return searchable towers, those of an architecture, else plain ones; None with a head that has its own."""
    if not has_towers(options):
        return TOWERS[options.towers]()
    if "head" in searched:
        return tower_parts.of_search(options)
    genotype = architecture.parts.get("head")
    if genotype is not None:
        return tower_parts.of_genotype(options, genotype)
    return tower_parts.plain(options, options.widen)


def assemble(
    options: Options,
    streams: Streams,
    head: Head,
    architecture: Architecture | None,
    normalization: dict,
    towers: nn.Module | None = None,
) -> FusionDetector:
    """Build the detector of an architecture: a part that it lacks is the options' baseline, or plain.

    Args:
        towers: in place of the architecture's.
    """
    architecture = architecture or Architecture()
    towers = towers or make_towers(options, architecture)
    if "fusion" not in architecture.parts:
        baseline = options.baseline or HAND_MADE
        widen = None if has_towers(options) else options.widen  # which is then of the towers
        fusions = baseline_fusions(baseline, options.C, options.fusion_levels, widen)
        return make_detector(options, streams, fusions, head, normalization, towers)
    genotype = architecture.parts["fusion"]
    fusions = found_fusions(genotype, options.drpt)
    return make_detector(options, streams, fusions, head, normalization, towers, genotype.space)


def make_detector(
    options: Options,
    streams: Streams,
    fusions: list[nn.Module],
    head: Head,
    normalization: dict,
    towers: nn.Module | None,
    space: str | None = None,
) -> FusionDetector:
    """Return the detector with the neck of the options; the space says what cells read."""
    neighbours = num_neighbours(space, streams.num_levels) if space else 0
    neck = NECKS[options.neck](channels=options.C, num_levels=options.fusion_levels)
    return FusionDetector(streams, fusions, head, normalization, neighbours, neck=neck, towers=towers)


def check_sizes(options: Options, model: checkpoint.State, source: str) -> None:
    """Refuse options that would build another network, or a larger one, than the tensors of a file are of."""
    named = {name: value for name, value in model.items() if isinstance(name, str)}
    streams, head = ({n.removeprefix(part): v for n, v in named.items()} for part in ("streams.", "head."))
    sizes = stream_sizes(streams, source, needed_modalities(options.baseline))
    classes = tower_parts.head_classes if has_towers(options) else head_classes
    for name, size in (sizes | {"num_classes": classes(head, source)}).items():
        if options[name] != size:
            raise UserError(f"{source}: args.{name}: expected shapes of {options[name]} in model, found {size}")
    if has_towers(options):
        tower_parts.check_sizes(options, model, source)
        return
    widest = max(value.numel() for value in model.values() if isinstance(value, Tensor)) // options.C
    if (options.widen or 0) > widest:
        expected = f"expected at most {widest}, as the tensors of model"
        raise UserError(f"{source}: args.widen: {expected}, found {options.widen}")


def matching_width(options: Options) -> int | None:
    """Return the hidden channels that widen the baseline to the fusion parameters of --match_parameters, if given.

    Raises:
        UserError: no whole number of channels comes within 10 %, as where the baseline alone is larger.
    """
    if has_towers(options):
        return tower_parts.matching_width(options)
    if not options.match_parameters:
        return None
    path = Path(options.match_parameters)
    path = path / "genotype.json" if path.is_dir() else path
    taps = tap_names(needed_modalities(options.baseline), options.num_input_nodes // 2)
    reader = FusionReader(taps, level_names(options.fusion_levels), options.C)
    genotype = read_architecture(path, {"fusion": reader}).parts["fusion"]
    wanted = count_parameters(nn.ModuleList(found_fusions(genotype, 0.0)))
    plain, narrowest, next_width = (_fusion_parameters(options, widen) for widen in (None, 1, 2))
    width = max(round((wanted - narrowest) / (next_width - narrowest)) + 1, 1)
    reached = _fusion_parameters(options, width)
    if abs(reached - wanted) > MATCH * wanted:
        expected = f"expected a fusion of more parameters than --baseline {options.baseline} ({plain}), found {wanted}"
        found = f"with {width} hidden channels it has {reached}, not within {MATCH:.0%}"
        raise UserError(f"--match_parameters {path}: {expected}; {found}")
    return width


def _fusion_parameters(options: Options, widen: int | None) -> int:
    return count_parameters(nn.ModuleList(baseline_fusions(options.baseline, options.C, options.fusion_levels, widen)))


def check_scales(options: Options) -> None:
    """Refuse scales from a range beside scales from a list."""
    low, high = options.scale_jitter
    if options.scales and (low, high) != (1, 1):
        raise UserError(f"--scales: expected --scale_jitter 1 1 beside it, found {low:g} {high:g}")


def check_canvas(options: Options) -> None:
    """Refuse an oriented canvas that is no landscape one in multiples of 32, and short sides that it cannot have."""
    (height, width), sides = options.image_size, options.short_sides
    oriented = options.canvas == CANVASES[1]
    if oriented and (height > width or height % MULTIPLE or width % MULTIPLE):
        expected = f"height <= width in multiples of {MULTIPLE} with --canvas oriented"
        raise UserError(f"--image_size: expected {expected}, found {height}x{width}")
    if sides and not oriented:
        raise UserError(f"--short_sides: expected --canvas oriented beside it, found {options.canvas}")
    if sides and not MULTIPLE <= sides[0] <= sides[1] <= width:
        expected = f"LO <= HI from {MULTIPLE} to the long side of --image_size, {width}"
        raise UserError(f"--short_sides: expected {expected}, found {sides[0]} {sides[1]}")


def check_towers(options: Options) -> Options:
    """Return the options with towers where the head needs some; refuse what a head with its own does not read."""
    if "modality" in options:
        return options
    if has_towers(options):
        return options if options.towers != "none" else options.with_values("default", towers="both")
    names = ("box_loss", "tower_space", "towers", "head_channels", "head_cells", "derive", "no_decouple", "match_macs")
    if unread := [name for name in names if options.is_typed(name)]:
        raise UserError(f"--{unread[0]}: no effect with --head {options.head}: it has no towers of ours")
    return options


def check_baseline(options: Options) -> None:
    """Refuse options that the hand-made fusion cannot have, or that need one."""
    baseline = f"--baseline {options.baseline}" if options.baseline else "none"
    if options.match_parameters and options.baseline not in FUSIONS:
        raise UserError(f"--match_parameters: expected --baseline {', '.join(FUSIONS)}, found {baseline}")
    if options.modality_dropout and len(needed_modalities(options.baseline)) == 1:  # nobody sees what is black
        dropout = f"--modality_dropout {options.modality_dropout:g}"
        raise UserError(f"{dropout}: expected 0 with {baseline}, a network of one stream")
    if options.baseline and options.is_typed("drpt"):
        raise UserError("--drpt: no effect with --baseline: a baseline has no dropout")


def macs_per_pair(model: FusionDetector, image_size: tuple[int, int]) -> int:
    """Return the multiply-accumulates of convolutions and matrix products for one pair, streams and head included."""
    device = next(model.parameters()).device
    return int(macs(model.eval(), [black_images(model.streams.modalities, 1, image_size, device)]))


def black_images(
    streams: Iterable[str], count: int, image_size: tuple[int, int], device: torch.device
) -> dict[str, Tensor]:
    """Return black pictures of each modality that streams read, uint8 (count, 1 or 3, H, W)."""
    shapes = {name: (count, CHANNELS[name], *image_size) for name in images_of(streams)}
    return {name: torch.zeros(shape, dtype=torch.uint8, device=device) for name, shape in shapes.items()}


def black_batch(streams: tuple[str, ...], image_size: tuple[int, int], device: torch.device) -> dict:
    """Return pairs of black pictures with one object each, as a loader does."""
    return {
        "images": black_images(streams, PROBE, image_size, device),
        "image_size": image_size,
        "boxes_xyxy": torch.tensor([[[4.0, 4.0, 28.0, 28.0]]] * PROBE, device=device),
        "labels": torch.zeros(PROBE, 1, dtype=torch.int64, device=device),
        "scales": torch.ones(PROBE, device=device),
    }

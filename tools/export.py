"""Write a trained run as files for deployment: ONNX, checked against PyTorch, or one safetensors file.

    python -m tools.export --eval_exp_dir RUN --onnx FILE.onnx [--raw]
    python -m tools.export --eval_exp_dir RUN --weights FILE.safetensors

ONNX: any number of pairs at once; inputs are letterboxed uint8 pictures and how much of the letterbox they fill;
outputs boxes, scores and labels, at most 100 per pair; with --raw, class logits and box deltas of every anchor. How
pictures are letterboxed, the classes and the rest are in the file's metadata, under nas_dsf, as JSON, which
examples/predict_onnx.py reads. Needs requirements-export.txt.
"""

import contextlib
import copy
import io
import json
import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets.detection.sources import CHANNELS
from models.detection.export import ExportedDetector, RawDetector
from tasks.detection.predictor import Predictor, task_of
from tasks.detection.weights import KEY, SUFFIX, save_weights
from utils import checkpoint
from utils.args import Parser, command
from utils.errors import UserError
from utils.files import replace_file
from utils.option_types import output_file
from utils.run_folder import commit
from utils.untrusted import check_fields

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
BOX_TOLERANCE_PX = 0.5
LIMITS = {"logits": 1e-3, "deltas": 1e-3, "scores": 1e-3, "boxes without a like one": 0.1}
OUTPUTS = ("boxes", "scores", "labels")
RAW_OUTPUTS = ("class_logits", "box_deltas")
MOST_FOLDED = 1024  # numbers: shapes and the like, but not weights, which would be there once per level
BATCHES = (1, 4)  # pairs at which PyTorch and onnxruntime are compared


@command
def main(argv: list[str]) -> None:
    parser = Parser("Write a trained network as an ONNX file, checked against PyTorch, or as a safetensors file.")
    add = parser.add_argument
    add("--eval_exp_dir", required=True, metavar="RUN", help="training run whose best.pt is written")
    text = "network with boxes and suppression inside, any batch size (none)"
    add("--onnx", metavar="FILE.onnx", type=output_file(".onnx"), help=text)
    add("--raw", action="store_true", help="with --onnx: class logits and box deltas of every anchor instead (off)")
    text = "tensors, options and genotype in one file, for tools.predict (none)"
    add("--weights", metavar=f"FILE{SUFFIX}", type=output_file(SUFFIX), help=text)
    args = parser.parse_args(argv)
    if not args.onnx and not args.weights:
        raise UserError("expected --onnx, --weights or both, found neither")
    if args.raw and not args.onnx:
        raise UserError("--raw: no effect without --onnx")
    for name, path in {"onnx": args.onnx, "weights": args.weights}.items():
        if path and path.exists():
            raise UserError(f"--{name} {path}: expected a new file, found one of that name")
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if args.onnx and missing:
        raise UserError(f"--onnx: expected {', '.join(missing)}, found none: pip install -r requirements-export.txt")
    if args.weights:
        path = Path(args.eval_exp_dir) / "best.pt"
        state = checkpoint.load(path)
        task = task_of(state)
        check_fields(state, str(path), options=task.rebuilt_from, fields=task.fields | task.of_ours)
        save_weights(state, args.weights)
        print(f"weights: {args.weights} ({size_of(args.weights)})")
    if args.onnx:
        export_onnx(Predictor(args.eval_exp_dir, "cpu"), args.onnx, args.raw)


def size_of(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB"


def export_onnx(predictor: Predictor, path: Path, raw: bool) -> None:
    """Write and check the file; one that does not agree with PyTorch is not kept."""
    model = copy.deepcopy(predictor.model).to(memory_format=torch.contiguous_format)
    network = RawDetector(model) if raw else ExportedDetector(model, predictor.options.image_size, with_logits=True)
    program = to_onnx(network.eval(), predictor, raw)
    differences = compare(content_of(program), network, predictor, raw)
    if not raw:
        del program.model.graph.outputs[len(OUTPUTS) :]  # what was there for the check alone
    content = content_of(program)
    print(f"agrees with PyTorch at {' and '.join(map(str, BATCHES))} pairs: {differences}")
    replace_file(path, lambda file: file.write(content))
    print(f"onnx: {path} ({size_of(path)})")


def to_onnx(network: nn.Module, predictor: Predictor, raw: bool) -> torch.onnx.ONNXProgram:
    """Return the network as ONNX."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    inputs = make_inputs(predictor, 2, raw)
    images = tuple({0: batch} for _ in network.names)
    shapes = (images,) if raw else ({0: batch}, images)
    names = RAW_OUTPUTS if raw else OUTPUTS + RAW_OUTPUTS
    options = {"input_names": list(inputs), "output_names": list(names), "dynamic_shapes": shapes, "dynamo": True}
    options |= {"optimize": False, "custom_translation_table": TRANSLATIONS}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # progress of no use to a user
        warnings.simplefilter("ignore")
        with torch.no_grad():
            program = torch.onnx.export(network, tuple(inputs.values()), **options)
        simplify(program)
    program.model.metadata_props[KEY] = json.dumps(facts_of(predictor, raw))
    return program


def group_norm(x: Any, num_groups: int, weight: Any, bias: Any, eps: float = 1e-5, cudnn_enabled: bool = True) -> Any:
    """Translate a group norm of maps (B, C, H, W) to a third of the nodes that torch's own translation has.

    ONNX's GroupNormalization has the scale of each channel only from opset 21 on.
    """
    from onnxscript import opset18 as op

    constants = (op.Constant(value_floats=[value] * num_groups) for value in (1.0, 0.0))
    groups = op.Reshape(x, op.Constant(value_ints=[0, num_groups, -1]))
    maps = op.Reshape(op.InstanceNormalization(groups, *constants, epsilon=eps), op.Shape(x))
    axes = op.Constant(value_ints=[1, 2])
    return op.Add(op.Mul(maps, op.Unsqueeze(weight, axes)), op.Unsqueeze(bias, axes))


TRANSLATIONS = {torch.ops.aten.group_norm.default: group_norm}


def simplify(program: torch.onnx.ONNXProgram) -> None:
    """Fold constants, and drop what is not used and what says where nodes come from.

    The exporter's own optimiser also looks for patterns, which takes the longest of all for searched towers, since they
    run on every level. onnxruntime looks for patterns as well.
    """
    from onnxscript import optimizer

    optimizer.inline(program.model)
    optimizer.fold_constants(program.model, onnx_shape_inference=False, output_size_limit=MOST_FOLDED)
    optimizer.remove_unused_nodes(program.model)
    for node in program.model.graph:
        node.metadata_props.clear()  # stack traces


def content_of(program: torch.onnx.ONNXProgram) -> bytes:
    """Return what stands in the file."""
    buffer = io.BytesIO()
    program.save(buffer)
    return buffer.getvalue()


def facts_of(predictor: Predictor, raw: bool) -> dict[str, object]:
    """Return what a program that runs the file must know."""
    facts = {name: getattr(predictor, name) for name in ("method", "sensors", "classes", "fill", "thermal_counts")}
    return facts | {"image_size": list(predictor.options.image_size), "raw": raw, "commit": commit()}


def noise(sensors: Iterable[str], size: tuple[int, int], count: int, seed: int = 0) -> dict[str, Tensor]:
    """Return noise as the letterboxed pictures of `count` pairs, uint8 (count, 3 or 1, H, W), by sensor."""
    draws, shapes = torch.Generator().manual_seed(seed), {s: (count, CHANNELS[s], *size) for s in sensors}
    return {s: torch.randint(0, 256, shape, generator=draws, dtype=torch.uint8) for s, shape in shapes.items()}


def make_inputs(predictor: Predictor, count: int, raw: bool, seed: int = 0) -> dict[str, Tensor]:
    """Return the inputs of `count` pairs, by name: noise and how much of the letterbox it fills."""
    height, width = predictor.options.image_size
    extent = {} if raw else {"extent": torch.tensor([[height, width - 3.0]] * count)}
    return extent | noise(predictor.sensors, (height, width), count, seed)


@torch.no_grad()
def compare(content: bytes, network: nn.Module, predictor: Predictor, raw: bool) -> str:
    """Return in words how far onnxruntime and PyTorch differ.

    Raises:
        UserError: they differ too much.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: dict[str, float] = {}
    for count in BATCHES:
        inputs = make_inputs(predictor, count, raw, count)
        theirs = [torch.from_numpy(o) for o in session.run(None, {n: t.numpy() for n, t in inputs.items()})]
        for name, value in differing(network(*inputs.values()), theirs).items():
            found[name] = max(found.get(name, 0.0), value)
    words = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
    if any(value > LIMITS[name] for name, value in found.items()):
        raise UserError(f"--onnx: expected onnxruntime to agree with PyTorch, found differences: {words}")
    return words


def differing(ours: tuple[Tensor, ...], theirs: list[Tensor]) -> dict[str, float]:
    """Return the largest differences of logits, deltas and scores, and the share of boxes without a like one.

    A like box has the same label and score. Of candidates with all but equal scores, as of a network that has
    learned little, a rounding error decides which one comes first and stays.
    """
    ends = zip(("logits", "deltas"), ours[-2:], theirs[-2:], strict=True)
    found = {name: float((a - b).abs().max()) for name, a, b in ends}
    if len(ours) == len(RAW_OUTPUTS):
        return found
    (boxes, scores, labels), others = ours[: len(OUTPUTS)], theirs[: len(OUTPUTS)]
    apart = (boxes[:, :, None] - others[0][:, None]).abs().amax(dim=-1)
    unequal = (scores[:, :, None] - others[1][:, None]).abs()
    same = (apart <= BOX_TOLERANCE_PX) & (unequal <= LIMITS["scores"]) & (labels[:, :, None] == others[2][:, None])
    alone = float((~same.any(dim=-1))[scores > 0].float().mean())
    return found | {"scores": float((scores - others[1]).abs().max()), "boxes without a like one": alone}


if __name__ == "__main__":
    raise SystemExit(main())

"""An ONNX file: what it takes and gives, how it runs, and what identifies it.

It is run by onnxruntime on the CPU, on as many threads as torch has. Only operators of onnxruntime itself are run.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError, printable
from utils.files import sha256_of
from utils.untrusted import plain_file

LIBRARIES = ("onnx", "onnxruntime")
FATAL = 4  # of onnxruntime's levels of logging; errors are raised as well
TYPES = {"float": "float32", "float16": "float16", "double": "float64"}
TYPES |= {f"{kind}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
Fields = dict[str, Any]  # of a description
FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")  # of ONNX


@dataclass(frozen=True)
class Port:
    """An input or output; an axis of no fixed size is None. `dtype` is NumPy's, "" where NumPy has none."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class OnnxFile:
    """An opened file.

    Args:
        path: as the user gave it.
        inputs, outputs: in the file's order.
        metadata: texts that the exporter left.
        digests: SHA-256 of the file and of the files of its tensors, by name.
        num_parameters: floating-point numbers that the file holds.
        run: from arrays by the input's name to arrays by the output's name.
    """

    path: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: dict[str, str]
    digests: dict[str, str]
    num_parameters: int
    run: Callable[[dict], dict]

    @property
    def name(self) -> str:
        return Path(self.path).name


def open_onnx(path: str) -> OnnxFile:
    """Open a file.

    Raises:
        UserError: onnx or onnxruntime is not installed, or there is no such file, or no ONNX in it.
    """
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        advice = "pip install -r requirements-export.txt"
        raise UserError(f"--baseline onnx:{path}: expected {', '.join(missing)}, found none: {advice}")
    try:
        if not plain_file(path).exists():
            raise UserError(f"--baseline onnx:{path}: expected an ONNX file, found nothing there")
        tensors, files = contents(path)
        session = open_session(path)
    except OSError as error:
        raise UserError(f"--baseline onnx:{path}: expected an ONNX file, found: {error}") from None
    meta = session.get_modelmeta().custom_metadata_map
    outputs = tuple(map(port, session.get_outputs()))
    values = {"digests": {file.name: sha256_of(file) for file in (Path(path), *files)}, "num_parameters": tensors}
    run = runner(path, session, [output.name for output in outputs])
    return OnnxFile(path, tuple(map(port, session.get_inputs())), outputs, dict(meta), run=run, **values)


def port(node: Any) -> Port:
    """Return what onnxruntime says of an input or output."""
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape)
    return Port(node.name, shape, TYPES.get(node.type.removeprefix("tensor(").removesuffix(")"), ""))


def contents(path: str) -> tuple[int, list[Path]]:
    """Return the number of floating-point numbers in a file, and the files beside it that hold tensors of it."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise no_onnx(path, error) from None
    floats = {getattr(onnx.TensorProto, name) for name in FLOATS}
    count, names = 0, {}
    for tensor in tensors_of(model.graph):
        count += math.prod(tensor.dims) if tensor.data_type in floats else 0
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            names |= {entry.value: None for entry in tensor.external_data if entry.key == "location"}
    files = [plain_file(Path(path).parent / name) for name in names]
    for file in files:
        if not file.exists():
            raise UserError(f"{path}: expected its tensors in {file}, found no such file")
    return count, files


def tensors_of(graph: Any) -> Iterator[Any]:
    """Yield the tensors of a graph and of the graphs in it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t] if attribute.HasField("t") else attribute.tensors
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from tensors_of(inner)


def open_session(path: str) -> Any:
    """Return onnxruntime's session of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        values = {"providers": ["CPUExecutionProvider"], "enable_fallback": 0}  # which would print, and try once more
        return onnxruntime.InferenceSession(path, options, **values)
    except faults() as error:
        raise no_onnx(path, error) from None


def runner(path: str, session: Any, names: list[str]) -> Callable[[dict], dict]:
    """Return a function from arrays to arrays, by name."""

    def run(arrays: dict) -> dict:
        try:
            return dict(zip(names, session.run(names, arrays), strict=True))
        except faults() as error:
            shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
            reason = printable(str(error))[:300]
            raise UserError(f"{path}: expected an answer to {shapes}, found: {reason}") from None

    return run


def faults() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises; its own exceptions have no class in common."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    classes = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*classes, RuntimeError, ValueError)


def no_onnx(path: str, error: Exception) -> UserError:
    reason = printable(str(error))[:300] or type(error).__name__
    return UserError(f"--baseline onnx:{path}: expected an ONNX file, found: {reason}")

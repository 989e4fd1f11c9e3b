"""Small ONNX detectors for tests, built from operators: constant answers, or boxes that are read off the picture."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, BYTE, INT = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64


def save(path: Path, nodes: list, inputs: list, outputs: list, **metadata: str) -> Path:
    graph = helper.make_graph(nodes, "detector", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


def constant(name: str, value: np.ndarray):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def value_info(name: str, array: np.ndarray, shape: list | None = None):
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, list(array.shape) if shape is None else shape)


def constant_detector(
    path: Path, shape: list, dtype: int = FLOAT, metadata: dict[str, str] | None = None, **outputs: np.ndarray
) -> Path:
    """Write a detector that answers every picture with the same arrays."""
    nodes = [constant(f"{name}_value", array) for name, array in outputs.items()]
    nodes += [helper.make_node("Identity", [f"{name}_value"], [name]) for name in outputs]
    picture = helper.make_tensor_value_info("picture", dtype, shape)
    ports = [value_info(name, array) for name, array in outputs.items()]
    return save(path, nodes, [picture], ports, **(metadata or {}))


def whole_picture_detector(path: Path, shape: list) -> Path:
    """Write a detector of one box: the size that a second input, int64 (1, 2), gives as width and height."""
    nodes = [
        constant("corner", np.zeros((1, 2), np.float32)),
        helper.make_node("Cast", ["sizes"], ["far_corner"], to=FLOAT),
        helper.make_node("Concat", ["corner", "far_corner"], ["boxes"], axis=1),
        constant("scores_value", np.float32([0.9])),
        constant("labels_value", np.array([0])),
        helper.make_node("Identity", ["scores_value"], ["scores"]),
        helper.make_node("Identity", ["labels_value"], ["labels"]),
    ]
    inputs = [
        helper.make_tensor_value_info("picture", FLOAT, shape),
        helper.make_tensor_value_info("sizes", INT, [1, 2]),
    ]
    outputs = [value_info("boxes", np.zeros((1, 4), np.float32))]
    outputs += [value_info("scores", np.zeros(1, np.float32)), value_info("labels", np.zeros(1, np.int64))]
    return save(path, nodes, inputs, outputs)


def white_box_detector(path: Path, shape: list, dtype: int = FLOAT, channel: int = 0) -> Path:
    """Write a detector of one box: that of the pixels of which a channel is white, as xyxy of the input.

    Args:
        shape: (1, 3, H, W).
        channel: whose largest value is white, 1 or 255.
    """
    white = np.float32(1 if dtype == FLOAT else 255)
    nodes = [
        helper.make_node("Cast", ["picture"], ["float"], to=FLOAT),
        constant("channel", np.array([channel])),
        helper.make_node("Gather", ["float", "channel"], ["one"], axis=1),
        constant("threshold", np.float32(white * 0.95)),
        helper.make_node("Greater", ["one", "threshold"], ["is_white"]),
        helper.make_node("Cast", ["is_white"], ["mask"], to=FLOAT),
    ]
    for axis, first, last in ((3, "x1", "x2"), (2, "y1", "y2")):
        others = [0, 1, 2] if axis == 3 else [0, 1, 3]
        nodes += [
            helper.make_node("ReduceMax", ["mask"], [f"any{axis}"], axes=others, keepdims=0),
            helper.make_node("ArgMax", [f"any{axis}"], [f"first{axis}"], axis=0, keepdims=1),
            helper.make_node("ArgMax", [f"any{axis}"], [f"last{axis}"], axis=0, keepdims=1, select_last_index=1),
            helper.make_node("Cast", [f"first{axis}"], [first], to=FLOAT),
            helper.make_node("Cast", [f"last{axis}"], [f"end{axis}"], to=FLOAT),
            constant(f"one_px{axis}", np.float32(1)),
            helper.make_node("Add", [f"end{axis}", f"one_px{axis}"], [last]),
        ]
    nodes += [
        helper.make_node("Concat", ["x1", "y1", "x2", "y2"], ["flat"], axis=0),
        constant("row", np.array([1, 4])),
        helper.make_node("Reshape", ["flat", "row"], ["boxes"]),
        constant("scores_value", np.float32([0.9])),
        constant("labels_value", np.array([0])),
        helper.make_node("Identity", ["scores_value"], ["scores"]),
        helper.make_node("Identity", ["labels_value"], ["labels"]),
    ]
    outputs = [value_info("boxes", np.zeros((1, 4), np.float32))]
    outputs += [value_info("scores", np.zeros(1, np.float32)), value_info("labels", np.zeros(1, np.int64))]
    return save(path, nodes, [helper.make_tensor_value_info("picture", dtype, shape)], outputs)

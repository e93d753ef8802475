"""Models that a test can make misbehave by what it sends: made with onnx.helper, small, and real."""

import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _save(graph: onnx.GraphProto, path: Path) -> Path:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def doubling(path: Path) -> Path:
    """y = x + x, FP32 [n, 2]: batches, and answers in microseconds."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    return _save(helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubling", [x], [y]), path)


def counting(path: Path) -> Path:
    """y = the number of turns, INT64 [1]: a loop of `turns` turns, so that the caller says how long it runs."""
    turns = helper.make_tensor_value_info("turns", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [1])
    body = helper.make_graph(
        [helper.make_node("Add", ["before", "one"], ["after"]), helper.make_node("Identity", ["go"], ["go_on"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.INT64, [1]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Squeeze", ["turns"], ["count"]),
            helper.make_node("Loop", ["count", "yes", "zero"], ["y"], body=body),
        ],
        "counting",
        [turns],
        [y],
        [
            numpy_helper.from_array(np.array([1], np.int64), "one"),
            numpy_helper.from_array(np.array([0], np.int64), "zero"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    return _save(graph, path)


def bundle(path: Path, model: Path, manifest: str) -> Path:
    """A `.ingle` bundle of the model and this manifest."""
    with zipfile.ZipFile(path, "w") as file:
        file.write(model, "model.onnx")
        file.writestr("manifest.toml", manifest)
    return path

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


def optional(path: Path) -> Path:
    """y = x + w, FP32 [n, 2]; w, FP32 [2], is 1 where it is not given."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    w = helper.make_tensor_value_info("w", TensorProto.FLOAT, [2])
    ones = numpy_helper.from_array(np.ones(2, np.float32), "w")
    add = helper.make_node("Add", ["x", "w"], ["y"])
    return _save(helper.make_graph([add], "optional", [x, w], [y], [ones]), path)


def echoing(path: Path) -> Path:
    """y = x, BYTES [n]."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in "xy")
    return _save(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "echoing", [x], [y]), path)


def table(path: Path) -> Path:
    """y = [10 row, 10 row + 1], FP32 [n, 2], of row, INT64 [n]: batches, answers in microseconds, and fails for a row
    beyond 5."""
    row = helper.make_tensor_value_info("row", TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    rows = numpy_helper.from_array(np.array([[10 * row, 10 * row + 1] for row in range(6)], np.float32), "rows")
    return _save(
        helper.make_graph([helper.make_node("Gather", ["rows", "row"], ["y"])], "table", [row], [y], [rows]), path
    )


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


def normalised(path: Path, *, random: bool = False, seed: int = 5) -> Path:
    """Convolutions with batch normalisation, FP32 [n, 3, 8, 8] to [n, 256]: 6 MB that onnxruntime folds, fuses and
    lays out anew at each load. `random` adds noise, so that no two runs agree."""
    rng = np.random.default_rng(seed)
    weights, nodes, value, channels = [], [], "x", 3
    for layer, wide in enumerate((64, 128, 256, 256, 256)):
        kernel = rng.standard_normal((wide, channels, 3, 3)) * (2 / (9 * channels)) ** 0.5
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{layer}"))
        for part in ("scale", "shift", "mean", "variance"):
            values = (0.5 + rng.random(wide)).astype(np.float32)
            weights.append(numpy_helper.from_array(values, f"{part}{layer}"))
        normal = [f"c{layer}", *(f"{part}{layer}" for part in ("scale", "shift", "mean", "variance"))]
        nodes += [
            helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", normal, [f"n{layer}"]),
            helper.make_node("Relu", [f"n{layer}"], [f"r{layer}"]),
        ]
        value, channels = f"r{layer}", wide
    if random:
        nodes += [
            helper.make_node("RandomNormalLike", [value], ["noise"], dtype=TensorProto.FLOAT),
            helper.make_node("Add", [value, "noise"], ["noisy"]),
        ]
        value = "noisy"
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", channels])
    return _save(helper.make_graph(nodes, "normalised", [x], [y], weights), path)


def plus(path: Path, add: float, external: str = "") -> Path:
    """`y = x + add` over rows of three."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 3]) for name in "xy")
    w = numpy_helper.from_array(np.full(3, add, dtype=np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "plus", [x], [y], [w])
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save_model(whole, path, save_as_external_data=bool(external), location=external or None, size_threshold=0)
    return path

"""The models that are measured: made from operators and fixed seeds, the same bytes each time, batch axis dynamic.

Runs in the benchmark's own process. Knows nothing of servers.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]
_OPSET = 17
_IR_VERSION = 8


@dataclass(frozen=True)
class BenchmarkModel:
    """One input `x` and one output `y`, both FP32. `flops` of one row: a multiply-add counts as two."""

    name: str
    row_shape: tuple[int, ...]
    flops: int
    build: Callable[[], onnx.ModelProto]

    def write(self, folder: Path) -> Path:
        """The model as `<folder>/<name>.onnx`: the same bytes at every call."""
        path = folder / f"{self.name}.onnx"
        path.write_bytes(self.build().SerializeToString(deterministic=True))
        return path

    def rows(self, count: int, seed: int = 7) -> Floats:
        """`count` rows of input with their batch axis."""
        values = np.random.default_rng(seed).standard_normal((count, *self.row_shape))
        return values.astype(np.float32)


def _weights(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    scale = np.sqrt(2.0 / fan_in) if len(shape) > 1 else 0.1
    return numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name)


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    row_shape: tuple[int, ...],
    answer_size: int,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *row_shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", answer_size])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="ingle-benchmarks")
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def _dense(name: str, sizes: tuple[int, ...], seed: int) -> onnx.ModelProto:
    """Gemm layers of these sizes with Relu between them and a Softmax at the end."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    value = "x"
    for layer, (wide_in, wide_out) in enumerate(itertools.pairwise(sizes)):
        last = layer == len(sizes) - 2
        weights += [_weights(rng, f"w{layer}", (wide_out, wide_in)), _weights(rng, f"b{layer}", (wide_out,))]
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"h{layer}"], transB=1))
        value = "y" if last else f"a{layer}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"h{layer}"], [value]))
    return _model(name, nodes, weights, (sizes[0],), sizes[-1])


def _dense_flops(sizes: tuple[int, ...]) -> int:
    return sum(2 * a * b for a, b in itertools.pairwise(sizes))


_PICTURE = (3, 224, 224)
_CLASSES = 10
# (channels out, stride) of each 3x3 convolution. 121 million multiply-adds: 100-300 MFLOP in either way of counting.
_CONVOLUTIONS = ((16, 2), (32, 2), (64, 2), (128, 2), (128, 1), (128, 1), (256, 2))


def _convnet() -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    value, channels = "x", _PICTURE[0]
    for layer, (channels_out, stride) in enumerate(_CONVOLUTIONS):
        weights += [
            _weights(rng, f"w{layer}", (channels_out, channels, 3, 3)),
            _weights(rng, f"b{layer}", (channels_out,)),
        ]
        nodes.append(
            helper.make_node(
                "Conv",
                [value, f"w{layer}", f"b{layer}"],
                [f"h{layer}"],
                kernel_shape=[3, 3],
                pads=[1, 1, 1, 1],
                strides=[stride, stride],
            )
        )
        nodes.append(helper.make_node("Relu", [f"h{layer}"], [f"a{layer}"]))
        value, channels = f"a{layer}", channels_out
    weights += [_weights(rng, "w", (_CLASSES, channels)), _weights(rng, "b", (_CLASSES,))]
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["scores"], transB=1),
        helper.make_node("Softmax", ["scores"], ["y"]),
    ]
    return _model("convnet", nodes, weights, _PICTURE, _CLASSES)


def _convnet_flops() -> int:
    flops, channels, side = 0, _PICTURE[0], _PICTURE[1]
    for channels_out, stride in _CONVOLUTIONS:
        side //= stride
        flops += 2 * side * side * channels_out * channels * 9
        channels = channels_out
    return flops + 2 * channels * _CLASSES


_IDENTITY = 150_000


def _identity() -> onnx.ModelProto:
    return _model("identity", [helper.make_node("Identity", ["x"], ["y"])], [], (_IDENTITY,), _IDENTITY)


_SMALL_PICTURE = (3, 64, 64)
# (channels, blocks, stride of the first) of each stage of two 3x3 convolutions a block: 76 MB of weights.
_STAGES = ((64, 2, 2), (128, 3, 2), (256, 4, 2), (512, 3, 2))
_SMALL_CLASSES = 1000


def _blocks() -> Iterator[tuple[int, int, int]]:
    """(channels in, channels out, stride) of each residual block."""
    channels = _SMALL_PICTURE[0]
    for wide, count, stride in _STAGES:
        for block in range(count):
            yield channels, wide, stride if block == 0 else 1
            channels = wide


def _residual() -> onnx.ModelProto:
    """Residual blocks with batch normalisation, as training frameworks export them: much to fold and to fuse."""
    rng = np.random.default_rng(4)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        value = f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [value], **attributes))
        return value

    def weight(values: onnx.TensorProto) -> str:
        weights.append(values)
        return str(values.name)

    def normalised(value: str, wide_in: int, wide_out: int, side: int, stride: int) -> str:
        kernel = weight(_weights(rng, f"w{len(weights)}", (wide_out, wide_in, side, side)))
        value = add("Conv", [value, kernel], kernel_shape=[side, side], pads=[side // 2] * 4, strides=[stride, stride])
        parts = []
        for _ in range(4):
            values = (0.5 + rng.random(wide_out)).astype(np.float32)
            parts.append(weight(numpy_helper.from_array(values, f"w{len(weights)}")))
        return add("BatchNormalization", [value, *parts])

    value = "x"
    for wide_in, wide_out, stride in _blocks():
        first = add("Relu", [normalised(value, wide_in, wide_out, 3, stride)])
        second = normalised(first, wide_out, wide_out, 3, 1)
        shortcut = value if wide_in == wide_out else normalised(value, wide_in, wide_out, 1, stride)
        value = add("Relu", [add("Add", [second, shortcut])])
    flat = add("Flatten", [add("GlobalAveragePool", [value])])
    final = weight(_weights(rng, "w", (_SMALL_CLASSES, _STAGES[-1][0])))
    nodes.append(helper.make_node("Gemm", [flat, final], ["y"], transB=1))
    return _model("residual", nodes, weights, _SMALL_PICTURE, _SMALL_CLASSES)


def _residual_flops() -> int:
    flops, side = 0, _SMALL_PICTURE[1]
    for wide_in, wide_out, stride in _blocks():
        side //= stride
        shortcut = 0 if wide_in == wide_out else wide_in
        flops += 2 * side * side * wide_out * (9 * wide_in + 9 * wide_out + shortcut)
    return flops + 2 * _STAGES[-1][0] * _SMALL_CLASSES


_TINY = (4, 3)
_MLP = (64, 672, 672, 10)

tiny = BenchmarkModel("tiny", (_TINY[0],), _dense_flops(_TINY), lambda: _dense("tiny", _TINY, seed=1))
mlp = BenchmarkModel("mlp", (_MLP[0],), _dense_flops(_MLP), lambda: _dense("mlp", _MLP, seed=2))
# Nearly free to run, so that what is measured is the way there and back: 600 KB.
identity = BenchmarkModel("identity", (_IDENTITY,), 0, _identity)
convnet = BenchmarkModel("convnet", _PICTURE, _convnet_flops(), _convnet)
residual = BenchmarkModel("residual", _SMALL_PICTURE, _residual_flops(), _residual)

"""Models that are all weights, for what depends on how large one is."""

from typing import Any

from onnx import TensorProto, helper, numpy_helper


def product(matrix: Any) -> bytes:
    """A model that multiplies `x`, FP32 [batch, rows of the matrix], with this square matrix."""
    row = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", len(matrix)]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", row[:1], row[1:], [numpy_helper.from_array(matrix, "w")]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return made.SerializeToString()

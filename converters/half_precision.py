"""Half precision within an ONNX model: which it computes in; and bfloat16 made single precision, as onnxruntime's
processors have few operators for it.

Every bfloat16 is a single-precision number too, so weights stay what they are, and sums lose less than the original's.
In the process of a conversion alone.
"""

from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from converters import onnx_model
from converters.onnx_names import graphs_of


def precision_of(model: Any) -> str:
    """`bfloat16` or `float16` where the model makes such numbers of others to compute with; else nothing."""
    kinds = cast_to(model)
    if onnx.TensorProto.BFLOAT16 in kinds:
        return "bfloat16"
    return "float16" if onnx.TensorProto.FLOAT16 in kinds else ""


def cast_to(model: Any) -> set[int]:
    """The types (onnx.TensorProto's) that the model casts numbers to."""
    return {
        attribute.i
        for graph in graphs_of(model.graph)
        for node in graph.node
        if node.op_type == "Cast"
        for attribute in node.attribute
        if attribute.name == "to"
    }


def widen_file(target: Path) -> None:
    """Rewrites the file, external data and all."""
    model = onnx.load(str(target))
    widen(model)
    onnx.save_model(model, str(target), **onnx_model.external_if_large(model))


def widen(model: Any) -> None:
    """All bfloat16 in the model becomes single precision, its inputs and outputs too."""
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            _widen(tensor)
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16:
                value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype") and attribute.i == onnx.TensorProto.BFLOAT16:
                    attribute.i = onnx.TensorProto.FLOAT
                if attribute.type == onnx.AttributeProto.TENSOR:
                    _widen(attribute.t)
        del graph.value_info[:]


def _widen(tensor: Any) -> None:
    if tensor.data_type == onnx.TensorProto.BFLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))

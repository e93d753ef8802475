"""What paddle2onnx made, before it is saved: a fault of its put right, axes named, and what made rows must know of it.

In the process of a conversion alone.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from appliance.core.errors import RefusedError
from appliance.core.tensors import DTYPES, TensorSpec

_SAME_RANK = ("Identity", "Cast", "Slice", "Add", "Sub", "Mul", "Div")
_ONE = "ingle_one_element"


def join_scalars(model: onnx.ModelProto) -> bool:
    """Makes scalars that are joined into a shape lists of one; whether there were any.

    A program of Paddle 2 takes single sizes out of a shape and joins them: they were lists of one element to it, and
    are scalars to Paddle 3 and paddle2onnx, which ONNX' Concat does not take.
    """
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    found = False
    for node in model.graph.node:
        if node.op_type == "Concat" and any(ranks.get(name) == 0 for name in node.input):
            for place, name in enumerate(node.input):
                if ranks.get(name) == 0:
                    listed = f"{name}_listed{len(nodes)}"
                    nodes.append(helper.make_node("Reshape", [name, _ONE], [listed]))
                    node.input[place] = listed
                    ranks[listed], found = 1, True
        nodes.append(node)
        rank = _rank(node, ranks)
        if rank is not None:
            ranks[node.output[0]] = rank
    if found:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), _ONE))
        del model.graph.value_info[:]
    return found


def _rank(node: onnx.NodeProto, ranks: dict[str, int]) -> int | None:
    """Of what is reckoned from shapes; None of all else."""
    known = [ranks.get(name) for name in node.input if name]
    if node.op_type == "Constant":
        return len(node.attribute[0].t.dims)
    if node.op_type == "Shape":
        return 1
    if node.op_type == "Squeeze" and known and known[0] == 1:
        return 0
    if node.op_type == "Concat" and known and None not in known:
        return known[0]
    if node.op_type in _SAME_RANK and known and None not in known[:2]:
        return max(rank for rank in known[:2] if rank is not None) if node.op_type != "Slice" else known[0]
    return None


def name_axes(model: onnx.ModelProto) -> list[TensorSpec]:
    """The inputs' specs. A free first axis of an input is called `batch`; other free axes have no name that says
    anything. Raises RefusedError for an input that no call can carry."""
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.HasField("dim_param"):
                axis.Clear()
    specs = []
    for value in model.graph.input:
        tensor = value.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        known = [name for name in DTYPES if name not in ("BF16", "BYTES") and np.dtype(DTYPES[name].numpy) == dtype]
        if not known:
            raise RefusedError(f"input '{value.name}' is {dtype}, which no call can carry")
        sizes = tuple(axis.dim_value if axis.dim_value > 0 else -1 for axis in tensor.shape.dim)
        if sizes and sizes[0] < 0:
            tensor.shape.dim[0].dim_param = "batch"
        specs.append(TensorSpec(value.name, known[0], sizes))
    return specs


def known_ids(model: onnx.ModelProto) -> int:
    """How many rows the smallest table has that the graph looks up: no index of made rows may go beyond it."""
    sizes = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 2}
    for node in model.graph.node:
        if node.op_type == "Constant" and len(node.attribute[0].t.dims) == 2:
            sizes[node.output[0]] = node.attribute[0].t.dims[0]
    tables = [sizes[node.input[0]] for node in model.graph.node if node.op_type == "Gather" and node.input[0] in sizes]
    return max(2, min(tables, default=2))

"""A graph model of TensorFlow.js as TensorFlow's GraphDef: weights back in their constants, operators of TensorFlow.js
alone as TensorFlow's own.

In the process of a conversion alone. TensorFlow.js' converter takes the values out of constants, narrows 64 bits to 32
and fuses operators, some into ones that TensorFlow does not have (`Prelu`, `FusedDepthwiseConv2dNative`).
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from google.protobuf import json_format

from appliance.core.errors import RefusedError
from converters.tensorflow_graphs import line
from converters.tfjs_file import TfjsModel

MAX_GRAPH_BYTES = 2**31 - 2**20  # protobuf's own bound is 2 GiB
# The fused operator, the one it begins with, and the attributes that are that one's.
_FUSED = {
    "_FusedConv2D": ("Conv2D", ("T", "strides", "padding", "explicit_paddings", "data_format", "dilations")),
    "FusedDepthwiseConv2dNative": (
        "DepthwiseConv2dNative", ("T", "strides", "padding", "explicit_paddings", "data_format", "dilations"),
    ),
    "_FusedMatMul": ("MatMul", ("T", "transpose_a", "transpose_b")),
}  # fmt: skip
_PLAIN = ("Relu", "Relu6", "Elu", "Sigmoid", "Tanh")
_NO_OUTPUT = frozenset({"Placeholder", "Const", "NoOp", "Assert"})


class Named(NamedTuple):
    """The graph, and its tensors (`x:0`) that go in and come out, with the names that callers know them by. `indices`:
    inputs, by those names, that are indices into a table, with its size."""

    graph: Any
    inputs: dict[str, str]
    outputs: dict[str, str]
    indices: Mapping[str, int] = {}


def graph_of(model: TfjsModel) -> Named:
    """Raises RefusedError where the JSON is no graph, a constant has no value, or an operator is not known."""
    if model.table.get("modelInitializer"):
        raise RefusedError("the graph fills tables before it answers (modelInitializer), for which there is no ONNX")
    topology = {key: model.topology[key] for key in ("node", "library") if key in model.topology}
    if not isinstance(topology.get("node"), list) or not topology["node"]:
        raise RefusedError("model.json has no graph in it: expected 'modelTopology' with a list of 'node'")
    if sum(array.nbytes for array in model.weights.values() if array.dtype != object) > MAX_GRAPH_BYTES:
        raise RefusedError(f"the weights have more than {MAX_GRAPH_BYTES} bytes, which a graph cannot hold")
    try:
        _read_old_texts(topology)
        read = json_format.ParseDict(topology, tf.compat.v1.GraphDef(), ignore_unknown_fields=True)
    except Exception as error:  # protobuf's, and whatever JSON of other kinds gives
        raise RefusedError(f"the graph in model.json is not TensorFlow's: {line(error)}") from None
    graph = tf.compat.v1.GraphDef()
    graph.library.CopyFrom(read.library)
    graph.versions.producer = tf.version.GRAPH_DEF_VERSION
    for node in read.node:
        graph.node.extend(_unfused(node))
    for function in graph.library.function:
        plain = [part for node in function.node_def for part in _unfused(node)]
        del function.node_def[:]
        function.node_def.extend(plain)
    for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
        _fill(node, model)
    return Named(graph, *_ends(model, graph))


def _read_old_texts(topology: Any) -> None:
    """The first versions wrote texts as lists of numbers, where protobuf's JSON has base64."""
    if isinstance(topology, dict):
        for key, value in topology.items():
            if key == "s" and isinstance(value, list):
                topology[key] = (
                    _base64(value) if all(isinstance(x, int) for x in value)
                    else [_base64(x) if isinstance(x, list) else x for x in value]
                )  # fmt: skip
            elif key not in ("tensor", "name", "op"):
                _read_old_texts(value)
    elif isinstance(topology, list):
        for value in topology:
            _read_old_texts(value)


def _base64(numbers: list[int]) -> Any:
    return base64.b64encode(bytes(numbers)).decode() if numbers else ""


def _fill(node: Any, model: TfjsModel) -> None:
    if node.op != "Const":
        return
    value = model.weights.get(node.name)
    dtype = tf.as_dtype(node.attr["dtype"].type)
    if value is not None:
        made = value if value.dtype == object else value.astype(dtype.as_numpy_dtype)
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(made, dtype, value.shape))
        return
    # An empty one would be read as zeros.
    tensor = node.attr["value"].tensor
    sizes = [axis.size for axis in tensor.tensor_shape.dim]
    held = any(field.name.endswith(("_val", "_content")) for field, _ in tensor.ListFields())
    if not held and 0 not in sizes:
        raise RefusedError(f"the constant '{node.name}' has no value: no weight in model.json is called so")


def _unfused(node: Any) -> Iterator[Any]:
    """The node as TensorFlow's own operators; the last of them has its name."""
    if node.op == "Prelu":
        yield from _prelu(node.name, node.input[0], node.input[1], node.attr["T"].type or tf.float32.as_datatype_enum)
        return
    if node.op not in _FUSED:
        yield node
        return
    operator, own = _FUSED[node.op]
    steps = [text.decode(errors="replace") for text in node.attr["fused_ops"].list.s]
    if not steps:
        raise RefusedError(f"the operator '{node.name}' ({node.op}) does not say what is fused in it")
    first = _node(operator, f"{node.name}/{operator}", node.input[:2])
    for name in own:
        if name in node.attr:
            first.attr[name].CopyFrom(node.attr[name])
    first.input.extend(text for text in node.input if text.startswith("^"))
    yield first
    more = iter([text for text in node.input[2:] if not text.startswith("^")])
    value = first.name
    for index, step in enumerate(steps):
        name = node.name if index == len(steps) - 1 else f"{node.name}/{index}"
        yield from _step(step, name, value, more, node)
        value = name


def _step(step: str, name: str, value: str, more: Iterator[str], fused: Any) -> Iterator[Any]:
    dtype = fused.attr["T"].type
    operand = next(more, "") if step in ("BiasAdd", "Prelu") else ""
    if step in ("BiasAdd", "Prelu") and not operand:
        raise RefusedError(f"the operator '{fused.name}' ({fused.op}) has no operand for {step}")
    if step == "BiasAdd":
        made = _node("BiasAdd", name, [value, operand], dtype)
        if "data_format" in fused.attr:
            made.attr["data_format"].CopyFrom(fused.attr["data_format"])
        yield made
    elif step == "Prelu":
        yield from _prelu(name, value, operand, dtype)
    elif step == "LeakyRelu":
        made = _node("LeakyRelu", name, [value], dtype)
        made.attr["alpha"].f = fused.attr["leakyrelu_alpha"].f if "leakyrelu_alpha" in fused.attr else 0.2
        yield made
    elif step in (*_PLAIN, "Linear", "linear", "Identity", "NoOp"):
        yield _node(step if step in _PLAIN else "Identity", name, [value], dtype)
    else:
        raise RefusedError(f"the operator '{fused.name}' ({fused.op}) has {step[:40]} fused in it, which is not known")


def _prelu(name: str, value: str, alpha: str, dtype: int) -> Iterator[Any]:
    """relu(x) + alpha * (x - relu(x)), which is exact on either side of zero."""
    above, below, scaled = f"{name}/above", f"{name}/below", f"{name}/scaled"
    yield _node("Relu", above, [value], dtype)
    yield _node("Sub", below, [value, above], dtype)
    yield _node("Mul", scaled, [alpha, below], dtype)
    yield _node("AddV2", name, [above, scaled], dtype)


def _node(operator: str, name: str, inputs: Sequence[str], dtype: int = 0) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op=operator, input=inputs)
    if dtype:
        node.attr["T"].type = dtype
    return node


def _ends(model: TfjsModel, graph: Any) -> tuple[dict[str, str], dict[str, str]]:
    """By the signature, which older versions keep among the owner's own words; else by what the graph shows."""
    kept = model.table.get("userDefinedMetadata")
    signature = model.table.get("signature") or (kept.get("signature") if isinstance(kept, dict) else None) or {}
    fed = [node.name for node in graph.node if node.op == "Placeholder"]
    used = {text.split(":")[0].lstrip("^") for node in graph.node for text in node.input}
    unused = [node.name for node in graph.node if node.name not in used and node.op not in _NO_OUTPUT]
    inputs = _signed(signature, "inputs") or {f"{name}:0": name for name in fed}
    outputs = _signed(signature, "outputs") or {f"{name}:0": name for name in unused}
    known = {node.name for node in graph.node}
    missing = sorted(name for name in (*inputs, *outputs) if name.split(":")[0] not in known)
    if missing or not inputs or not outputs:
        named = f"its signature names {', '.join(missing[:4])}, which it lacks" if missing else "it shows none"
        raise RefusedError(f"the graph's inputs and outputs are not to be found: {named}")
    return inputs, outputs


def _signed(signature: Any, side: str) -> dict[str, str]:
    """`x:0` by the name without its number: the same tensor under two names keeps one."""
    table = signature.get(side) if isinstance(signature, dict) else None
    if not isinstance(table, dict):
        return {}
    found: dict[str, str] = {}
    for word, entry in table.items():
        name = entry.get("name", word) if isinstance(entry, dict) else word
        tensor = name if ":" in str(name) else f"{name}:0"
        found.setdefault(str(tensor), word.split(":")[0] if word.endswith(":0") else word.replace(":", "_"))
    return found

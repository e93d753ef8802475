"""TensorFlow's graphs: what TensorFlow answers to them, and their translation by tf2onnx.

In the process of a conversion alone. tf2onnx ends well with operators that it could not convert: what it made is looked
through before it is believed.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from appliance.core.errors import RefusedError
from appliance.core.tensors import DTYPES, TensorSpec
from converters.converter import Conversion, Feed
from converters.net_rows import net_rows
from converters.tensorflow_tables import with_keys

OPSET = 18

Ask = Callable[[Sequence[Any]], Sequence[Any]]  # the original: its inputs in order, its outputs in order


class Translated(NamedTuple):
    """An ONNX model in memory, who answers for the original, the names of what that takes, in order, and the tables in
    it as keys and values."""

    model: Any
    ask: Ask
    inputs: Sequence[str]
    tables: Mapping[bytes, tuple[Any, Any]] = MappingProxyType({})


def settle() -> None:
    """Before TensorFlow is imported: one thread, no GPU, no oneDNN (whose answers differ), no banner."""
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0", CUDA_VISIBLE_DEVICES="-1")
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")


def conversion(
    made: Translated, target: Path, *, below: int = 2, indices: Mapping[str, int] = MappingProxyType({})
) -> Conversion:
    """The model as a file. Rows have whole numbers less than `below`, and in inputs among `indices` such that are less
    than theirs. Raises RefusedError where operators were left untranslated."""
    import onnx

    from converters import half_precision, onnx_model

    model = made.model
    _check_operators(model)
    precision = half_precision.precision_of(model)
    if precision == "bfloat16":
        half_precision.widen(model)
    onnx.save_model(model, str(target), **onnx_model.external_if_large(model))
    outputs = [value.name for value in model.graph.output]

    def answer(feed: Feed) -> Feed:
        answers = made.ask([feed.get(name) for name in made.inputs])
        return {name: np.asarray(value) for name, value in zip(outputs, answers, strict=True)}

    made_rows = net_rows([_spec(value) for value in model.graph.input], below=below)

    def rows(count: int, random: np.random.Generator) -> Feed:
        feed = made_rows(count, random)
        for name in indices.keys() & feed.keys():
            feed[name] = random.integers(0, indices[name], feed[name].shape).astype(feed[name].dtype)
        return with_keys(feed, made.tables, random)

    return Conversion(target, answer, rows, continuous=True, precision=precision)


def _spec(value: Any) -> TensorSpec:
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    names = [known.name for known in DTYPES.values() if known.name != "BF16" and np.dtype(known.numpy) == dtype]
    if not names:
        raise RefusedError(f"input '{value.name}' is {dtype}, which no call can carry")
    sizes = [axis.dim_value if axis.dim_value > 0 else -1 for axis in value.type.tensor_type.shape.dim]
    return TensorSpec(value.name, names[0], tuple(sizes))


def _check_operators(model: Any) -> None:
    import onnx

    unknown = set()
    for node in (*model.graph.node, *(inner for function in model.functions for inner in function.node)):
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
            unknown.add(node.op_type)
        elif node.domain not in ("", "ai.onnx", "ai.onnx.ml", "com.microsoft"):
            unknown.add(f"{node.domain}.{node.op_type}")
    if unknown:
        raise RefusedError(
            f"these operators have no translation to ONNX: {', '.join(sorted(unknown)[:12])}; put them before or after "
            "the model, or build it of others"
        )


def converted(graph: Any, opset: int, **arguments: Any) -> Any:
    """tf2onnx' model of a graph (None: of the `tflite_path`). Raises RefusedError where it cannot."""
    import tensorflow as tf
    from tf2onnx import convert

    try:
        with tf.device("/cpu:0"):
            model, _ = convert._convert_common(graph, opset=opset, continue_on_error=True, **arguments)
    except Exception as error:
        raise RefusedError(f"tf2onnx cannot convert this model: {line(error)}") from None
    return model


def of_graph(graph: Any, inputs: Mapping[str, str], outputs: Mapping[str, str], opset: int) -> Translated:
    """A GraphDef without variables, whose tensors (`x:0`) get the names that are given with them. Raises RefusedError
    where TensorFlow cannot build it or tf2onnx not translate it."""
    import tensorflow as tf

    try:
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
        pruned = wrapped.prune(list(inputs), list(outputs))
    except Exception as error:
        raise RefusedError(f"TensorFlow cannot build this graph: {line(error)}") from None
    model = converted(
        graph, opset, name="graph", input_names=list(inputs), output_names=list(outputs),
        tensors_to_rename={**inputs, **outputs},
    )  # fmt: skip
    types = [tensor.dtype for tensor in pruned.inputs]

    def ask(arrays: Sequence[Any]) -> Sequence[Any]:
        answers = pruned(*(tf.constant(array, dtype) for array, dtype in zip(arrays, types, strict=True)))
        return [answer.numpy() for answer in answers]

    return Translated(model, ask, list(inputs.values()))


def line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300]}"

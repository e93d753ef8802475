"""TensorFlow: SavedModels, frozen graphs and TensorFlow Lite files, through tf2onnx.

tf2onnx ends well with operators that it could not convert: what it made is looked through before it is believed.
TensorFlow itself gives the answers to compare with; what a graph does to files, the process of the conversion forbids.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from appliance.core.errors import RefusedError
from appliance.core.tensors import DTYPES, TensorSpec
from converters.converter import Conversion, Converter, Feed, Say
from converters.detected import Detected
from converters.net_rows import net_rows
from converters.options import Options

OPSET = 18
SERVING = "serving_default"

Ask = Callable[[Sequence[Any]], Sequence[Any]]  # the original: its inputs in order, its outputs in order


class TensorFlowConverter(Converter):
    name: ClassVar[str] = "tensorflow"
    extra: ClassVar[str] = "tensorflow"
    title: ClassVar[str] = "TensorFlow"
    takes: ClassVar[str] = "SavedModel folders, frozen graphs (.pb), TensorFlow Lite (.tflite)"
    formats: ClassVar[tuple[str, ...]] = ("saved-model", "frozen-graph", "tflite")
    modules: ClassVar[tuple[str, ...]] = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0", CUDA_VISIBLE_DEVICES="-1")
        os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
        say("loading TensorFlow")
        import onnx

        from converters import onnx_model

        target = folder / "model.onnx"
        made = {"saved-model": _saved_model, "frozen-graph": _frozen_graph, "tflite": _tflite}[detected.format]
        model, ask, inputs = made(source, options.opset or OPSET, say)
        _check_operators(model)
        onnx.save_model(model, str(target), **onnx_model.external_if_large(model))
        outputs = [value.name for value in model.graph.output]

        def answer(feed: Feed) -> Feed:
            answers = ask([feed.get(name) for name in inputs])
            return {name: np.asarray(value) for name, value in zip(outputs, answers, strict=True)}

        return Conversion(target, answer, net_rows([_spec(value) for value in model.graph.input]))


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


def _converted(graph: Any, opset: int, **arguments: Any) -> Any:
    import tensorflow as tf
    from tf2onnx import convert

    try:
        with tf.device("/cpu:0"):
            model, _ = convert._convert_common(graph, opset=opset, continue_on_error=True, **arguments)
    except Exception as error:
        raise RefusedError(f"tf2onnx cannot convert this model: {_line(error)}") from None
    return model


def _saved_model(source: Path, opset: int, say: Say) -> tuple[Any, Ask, list[str]]:
    import tensorflow as tf
    from tf2onnx import tf_loader

    say("reading the SavedModel")
    try:
        loaded = tf.saved_model.load(str(source))
    except Exception as error:
        raise RefusedError(f"TensorFlow cannot read this SavedModel: {_line(error)}") from None
    names = list(loaded.signatures)
    if not names:
        way = "give it one: tf.saved_model.save(model, folder, signatures=function.get_concrete_function(...))"
        raise RefusedError(f"the SavedModel has no signature to call: {way}")
    if SERVING not in names and len(names) > 1:
        raise RefusedError(f"the SavedModel has several signatures and no '{SERVING}': {', '.join(names[:8])}")
    chosen = SERVING if SERVING in names else names[0]
    say("translating it")
    try:
        graph, inputs, outputs, tables, renamed = tf_loader.from_saved_model(
            str(source), None, None, signatures=[chosen], return_initialized_tables=True, return_tensors_to_rename=True
        )
    except Exception as error:
        raise RefusedError(f"tf2onnx cannot read this SavedModel: {_line(error)}") from None
    model = _converted(
        graph, opset, name=chosen, input_names=inputs, output_names=outputs, initialized_tables=tables,
        tensors_to_rename=renamed,
    )  # fmt: skip
    function = loaded.signatures[chosen]
    words = list(function.structured_input_signature[1])
    types = function.structured_input_signature[1]
    order = [value.name for value in model.graph.output]
    if set(order) != set(function.structured_outputs):
        raise RefusedError(f"tf2onnx changed the outputs' names: {', '.join(order)}")

    def ask(arrays: Sequence[Any]) -> Sequence[Any]:
        given = {
            name: tf.constant(array, types[name].dtype)
            for name, array in zip(words, arrays, strict=True)
            if array is not None
        }
        for name in words:  # tf2onnx leaves out what no output depends on
            if name not in given:
                given[name] = tf.zeros([1 if size is None else size for size in types[name].shape], types[name].dtype)
        answers = function(**given)
        return [answers[name].numpy() for name in order]

    return model, ask, words


def _frozen_graph(source: Path, opset: int, say: Say) -> tuple[Any, Ask, list[str]]:
    import tensorflow as tf

    say("reading the graph")
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(source.read_bytes())
    except Exception as error:
        raise RefusedError(f"the file is no readable graph of TensorFlow: {_line(error)}") from None
    used = {name.split(":")[0].lstrip("^") for node in graph.node for name in node.input}
    inputs = [f"{node.name}:0" for node in graph.node if node.op == "Placeholder"]
    outputs = [f"{node.name}:0" for node in graph.node if node.name not in used and node.op not in _NO_OUTPUT]
    if not inputs or not outputs:
        raise RefusedError("the graph has no Placeholder to feed or nothing to give: freeze it with both")
    if any(node.op in _VARIABLES for node in graph.node):
        raise RefusedError("the graph has variables whose values are elsewhere: freeze it, or give the SavedModel")
    try:
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
        pruned = wrapped.prune(inputs, outputs)
    except Exception as error:
        raise RefusedError(f"TensorFlow cannot build this graph: {_line(error)}") from None
    say("translating it")
    renamed = {name: name.split(":")[0] for name in (*inputs, *outputs)}
    model = _converted(graph, opset, name="graph", input_names=inputs, output_names=outputs, tensors_to_rename=renamed)
    types = [tensor.dtype for tensor in pruned.inputs]

    def ask(arrays: Sequence[Any]) -> Sequence[Any]:
        answers = pruned(*(tf.constant(array, dtype) for array, dtype in zip(arrays, types, strict=True)))
        return [answer.numpy() for answer in answers]

    return model, ask, [renamed[name] for name in inputs]


_NO_OUTPUT = frozenset({"Placeholder", "Const", "NoOp", "Assert"})
_VARIABLES = frozenset({"VariableV2", "VarHandleOp", "Variable"})


def _tflite(source: Path, opset: int, say: Say) -> tuple[Any, Ask, list[str]]:
    import tensorflow as tf

    say("reading the model")
    # Without XNNPACK: its answers differ from those of TensorFlow Lite's own kernels, by more than any translation.
    own = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = tf.lite.Interpreter(str(source), num_threads=1, experimental_op_resolver_type=own)
        interpreter.allocate_tensors()
    except Exception as error:
        raise RefusedError(f"TensorFlow Lite cannot run this model: {_line(error)}") from None
    say("translating it")
    model = _converted(None, opset, name="model", tflite_path=str(source))
    takes, gives = interpreter.get_input_details(), interpreter.get_output_details()
    names = [detail["name"] for detail in takes]
    known = {value.name for value in model.graph.input}
    if not known <= set(names) or len(model.graph.output) != len(gives):
        raise RefusedError(f"tf2onnx changed what the model takes: {', '.join(sorted(known - set(names)))}")

    def ask(arrays: Sequence[Any]) -> Sequence[Any]:
        changed = False
        for detail, array in zip(takes, arrays, strict=True):
            if array is not None and array.shape != interpreter.get_tensor(detail["index"]).shape:
                interpreter.resize_tensor_input(detail["index"], array.shape)
                changed = True
        if changed:
            interpreter.allocate_tensors()
        for detail, array in zip(takes, arrays, strict=True):
            if array is not None:
                interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in gives]

    return model, ask, names


def _line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300]}"


CONVERTER = TensorFlowConverter()

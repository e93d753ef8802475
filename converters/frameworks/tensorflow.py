"""TensorFlow: SavedModels, frozen graphs and TensorFlow Lite files, through tf2onnx.

TensorFlow itself gives the answers to compare with; what a graph does to files, the process of the conversion forbids.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from appliance.core.errors import RefusedError
from converters.converter import Conversion, Converter, Say
from converters.detected import Detected
from converters.options import Options

SERVING = "serving_default"


class TensorFlowConverter(Converter):
    name: ClassVar[str] = "tensorflow"
    extra: ClassVar[str] = "tensorflow"
    title: ClassVar[str] = "TensorFlow"
    takes: ClassVar[str] = "SavedModel folders, frozen graphs (.pb), TensorFlow Lite (.tflite)"
    formats: ClassVar[tuple[str, ...]] = ("saved-model", "frozen-graph", "tflite")
    modules: ClassVar[tuple[str, ...]] = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        from converters import tensorflow_graphs as graphs

        graphs.settle()
        say("loading TensorFlow")
        made = {"saved-model": _saved_model, "frozen-graph": _frozen_graph, "tflite": _tflite}[detected.format]
        return graphs.conversion(made(source, options.opset or graphs.OPSET, say), folder / "model.onnx")


def _saved_model(source: Path, opset: int, say: Say) -> Any:
    import tensorflow as tf
    from tf2onnx import tf_loader

    from converters import tensorflow_tables
    from converters.tensorflow_graphs import Translated, converted, line

    say("reading the SavedModel")
    try:
        loaded = tf.saved_model.load(str(source))
    except Exception as error:
        raise RefusedError(f"TensorFlow cannot read this SavedModel: {line(error)}") from None
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
        raise RefusedError(f"tf2onnx cannot read this SavedModel: {line(error)}") from None
    model = converted(
        graph, opset, name=chosen, input_names=inputs, output_names=outputs, initialized_tables=tables,
        tensors_to_rename=renamed, custom_op_handlers=tensorflow_tables.handlers(tables),
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

    return Translated(model, ask, words, tables)


def _frozen_graph(source: Path, opset: int, say: Say) -> Any:
    import tensorflow as tf

    from converters.tensorflow_graphs import line, of_graph

    say("reading the graph")
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(source.read_bytes())
    except Exception as error:
        raise RefusedError(f"the file is no readable graph of TensorFlow: {line(error)}") from None
    used = {name.split(":")[0].lstrip("^") for node in graph.node for name in node.input}
    inputs = [f"{node.name}:0" for node in graph.node if node.op == "Placeholder"]
    outputs = [f"{node.name}:0" for node in graph.node if node.name not in used and node.op not in _NO_OUTPUT]
    if not inputs or not outputs:
        raise RefusedError("the graph has no Placeholder to feed or nothing to give: freeze it with both")
    if any(node.op in _VARIABLES for node in graph.node):
        raise RefusedError("the graph has variables whose values are elsewhere: freeze it, or give the SavedModel")
    say("translating it")
    return of_graph(
        graph, {name: name.split(":")[0] for name in inputs}, {name: name.split(":")[0] for name in outputs}, opset
    )


_NO_OUTPUT = frozenset({"Placeholder", "Const", "NoOp", "Assert"})
_VARIABLES = frozenset({"VariableV2", "VarHandleOp", "Variable"})


def _tflite(source: Path, opset: int, say: Say) -> Any:
    import tensorflow as tf

    from converters.tensorflow_graphs import Translated, converted, line

    say("reading the model")
    # Without XNNPACK: its answers differ from those of TensorFlow Lite's own kernels, by more than any translation.
    own = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = tf.lite.Interpreter(str(source), num_threads=1, experimental_op_resolver_type=own)
        interpreter.allocate_tensors()
    except Exception as error:
        raise RefusedError(f"TensorFlow Lite cannot run this model: {line(error)}") from None
    say("translating it")
    model = converted(None, opset, name="model", tflite_path=str(source))
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

    return Translated(model, ask, names)


CONVERTER = TensorFlowConverter()

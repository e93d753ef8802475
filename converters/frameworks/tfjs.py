"""TensorFlow.js: graph models and layers models (model.json and shards), without running any JavaScript.

Graph models become TensorFlow's own graphs, layers models Keras models; TensorFlow gives the answers to compare with.
"""

from pathlib import Path
from typing import ClassVar

from appliance.core.errors import RefusedError
from converters.converter import Conversion, Converter, Say
from converters.detected import Detected
from converters.options import Options


class TfjsConverter(Converter):
    name: ClassVar[str] = "tfjs"
    extra: ClassVar[str] = "tfjs"
    title: ClassVar[str] = "TensorFlow.js"
    takes: ClassVar[str] = "graph models and layers models (model.json and its shards, or their folder)"
    formats: ClassVar[tuple[str, ...]] = ("tfjs", "tfjs-layers")
    modules: ClassVar[tuple[str, ...]] = ("tensorflow", "tf2onnx", "keras", "onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        from converters import tensorflow_graphs as graphs
        from converters import tfjs_file

        say("reading the model")
        model = tfjs_file.read(source)
        graphs.settle()
        say("loading TensorFlow")
        if detected.format == "tfjs-layers":
            from converters.tfjs_layers import graph_of
        else:
            from converters.tfjs_graph import graph_of
        named = graph_of(model)
        say("translating it")
        try:
            made = graphs.of_graph(named.graph, named.inputs, named.outputs, options.opset or graphs.OPSET)
        except RefusedError as error:
            raise RefusedError(
                f"{error.sentence}; a model that TensorFlow itself can save goes as SavedModel"
            ) from None
        return graphs.conversion(made, folder / "model.onnx", below=_below(made.model), indices=named.indices)


def _below(model: object) -> int:
    """Whole numbers of pictures go to 255; others are indices, of whose tables nothing is known."""
    shapes = [value.type.tensor_type.shape.dim for value in model.graph.input]  # type: ignore[attr-defined]
    return 256 if shapes and all(len(shape) == 4 and shape[3].dim_value in (1, 3, 4) for shape in shapes) else 2


CONVERTER = TfjsConverter()

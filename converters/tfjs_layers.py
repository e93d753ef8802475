"""A layers model of TensorFlow.js as TensorFlow's graph: Keras builds it from its configuration, and gets the weights
by their names.

In the process of a conversion alone. The form is that of Keras 2: its names of weights are found again among Keras 3's,
and a weight that finds no place, or a place that gets no weight, refuses the model.
"""

import copy
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from converters import keras_2
from converters.tensorflow_graphs import line
from converters.tfjs_file import TfjsModel
from converters.tfjs_graph import Named

WAY = "save the Keras model itself as .keras, or convert it with tensorflowjs_converter to a graph model"


def graph_of(model: TfjsModel) -> Named:
    """Raises RefusedError where Keras cannot build the model, or its weights are others."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    keras_model = _built(model)
    _set_weights(keras_model, model)
    inputs, structure = list(keras_model.inputs), keras_model.input if len(keras_model.inputs) > 1 else None
    names = _unlike([_word(tensor.name) for tensor in inputs])

    def answer(*tensors: Any) -> Any:
        packed = tf.nest.pack_sequence_as(structure, list(tensors)) if structure is not None else tensors[0]
        return tf.nest.flatten(keras_model(packed, training=False))

    takes = [tf.TensorSpec(x.shape, x.dtype, name) for x, name in zip(inputs, names, strict=True)]
    try:
        frozen = convert_variables_to_constants_v2(
            tf.function(answer).get_concrete_function(*takes), lower_control_flow=False
        )
    except Exception as error:
        raise RefusedError(f"TensorFlow cannot run this layers model: {line(error)}; {WAY}") from None
    gives = _unlike([*(getattr(keras_model, "output_names", None) or [keras_model.layers[-1].name])])
    if len(gives) != len(frozen.outputs):
        gives = [f"output_{index}" for index in range(len(frozen.outputs))]
    return Named(
        frozen.graph.as_graph_def(),
        {tensor.name: name for tensor, name in zip(frozen.inputs, names, strict=True)},
        {tensor.name: name for tensor, name in zip(frozen.outputs, gives, strict=True)},
        _indices(keras_model, [id(tensor) for tensor in inputs], names),
    )


def _indices(keras_model: Any, inputs: list[int], names: list[str]) -> dict[str, int]:
    """Inputs that go into an embedding, which TensorFlow.js takes as numbers of any kind."""
    found = {}
    for layer in keras_model.layers:
        if hasattr(layer, "input_dim") and id(layer.input) in inputs:
            found[names[inputs.index(id(layer.input))]] = int(layer.input_dim)
    return found


def _built(model: TfjsModel) -> Any:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    from keras.src.legacy.saving import saving_utils  # the reader of Keras 2's form, as for .h5

    topology = model.topology
    config = topology.get("model_config", topology)
    if isinstance(config, str):  # as HDF5 keeps it
        config = json.loads(config)
    if '"Lambda"' in json.dumps(config) or "__lambda__" in json.dumps(config):
        raise RefusedError(f"it has a Lambda layer, whose code is not in the file to be read: {WAY}")
    keras_2.refuse_lost_axes(config)
    try:
        with keras_2.old_activations():  # TensorFlow.js' recurrent layers have Keras 2's, unless told otherwise
            made = saving_utils.model_from_config(keras_2.with_input_layers(copy.deepcopy(config)), keras_2.classes())
        if not getattr(made, "inputs", None):
            raise RefusedError(f"the layers model does not say what it takes: {WAY}")
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(f"Keras cannot build this layers model: {line(error)}; {WAY}") from None
    return made


def _set_weights(keras_model: Any, model: TfjsModel) -> None:
    left = dict(model.weights)
    for layer, path, variable in _places(keras_model):
        name = _best(layer, path, tuple(variable.shape), left)
        if not name:
            raise RefusedError(f"the layers model has no weight for {path} of shape {list(variable.shape)}: {WAY}")
        variable.assign(left.pop(name))
    if left:
        raise RefusedError(f"the layers model has weights that no layer takes: {', '.join(sorted(left)[:4])}; {WAY}")


def _places(keras_model: Any) -> Iterator[tuple[str, str, Any]]:
    """The layer's name, the path and the variable of every weight, but for the state of random generators."""
    for layer in keras_model.layers:
        if hasattr(layer, "layers"):
            yield from _places(layer)
            continue
        for variable in layer.weights:
            if "seed_generator" not in variable.path:
                yield layer.name, variable.path, variable


def _best(layer: str, path: str, shape: tuple[int, ...], left: dict[str, np.ndarray[Any, Any]]) -> str:
    """Of the weights with the layer's name in theirs, the last word and the shape, the one with most words in common;
    the first of several. "" where there is none."""
    words = path.split("/")
    found = {}
    for name, array in left.items():
        parts = name.split(":")[0].split("/")
        if layer in parts[:-1] and parts[-1] in (words[-1], f"depthwise_{words[-1]}") and array.shape == shape:
            found[name] = len(set(parts) & set(words))
    return max(found, key=lambda name: found[name]) if found else ""


def _word(name: str) -> str:
    """Without the number, and without the names that Keras makes up."""
    return "input" if name.startswith("keras_tensor") else name.split(":", 1)[0]


def _unlike(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(names)]

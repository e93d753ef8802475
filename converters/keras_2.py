"""What Keras 1 and 2 meant by their files, where Keras 3 reads them otherwise, or not at all.

In the process of a conversion alone. Keras 3 takes an older file's configuration for its own, without a word: other
functions have old names, and what it does not know of the rest stops it. Here the configuration becomes one that means
to Keras 3 what it meant to the Keras that wrote it, or the file is refused. Of weights only their order is known here.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from appliance.core.errors import RefusedError

RESAVE = "open it with the Keras that wrote it, put another layer there, and save it again"
HARD_SIGMOID = "hard_sigmoid is that of Keras 1 and 2, clip(0.2 x + 0.5, 0, 1): the file is older than Keras 3"

# How weights began and were trained: of no concern for an answer, and spelled otherwise by older Keras.
_TRAINING = re.compile(r"\w*_(initializer|regularizer|constraint)")
# What Keras 2 wrote of every layer of its kind, and Keras 3 has no word for, with the value that changes nothing.
_RECURRENT = ("RNN", "LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_OPERATIONS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
_NEUTRAL: dict[str, Any] = {"time_major": False, "causal": False, "score_mode": "dot", "softmax_robust_masking": False}
_GONE = ("ThresholdedReLU", "LocallyConnected1D", "LocallyConnected2D", "RandomHeight", "RandomWidth")
_UNGROUPED = re.compile(r"(Depthwise|Separable)Conv[12]D|Conv[123]DTranspose")


class Origin(NamedTuple):
    """Who wrote an HDF5 file, as its attributes say; "" where they do not."""

    version: str
    backend: str

    @property
    def is_old(self) -> bool:
        """Before Keras 3. Files that do not say are older than those that do."""
        return not self.version or int(re.match(r"\d*", self.version)[0] or 0) < 3  # type: ignore[index]

    def words(self) -> str:
        return f"Keras {self.version}" if self.version else "an old Keras, which does not say its version"


@contextmanager
def old_activations() -> Iterator[None]:
    """Layers that are made within it have Keras 2's hard_sigmoid, also where they are copied later."""
    import keras
    from keras.src import activations

    kept = activations.ALL_OBJECTS_DICT["hard_sigmoid"]
    activations.ALL_OBJECTS_DICT["hard_sigmoid"] = keras.saving.register_keras_serializable("keras_2")(_hard_sigmoid)
    try:
        yield
    finally:
        activations.ALL_OBJECTS_DICT["hard_sigmoid"] = kept


def classes() -> dict[str, type]:
    """Keras' own classes by the names that Keras 2 has for them, by which Keras 3 finds no layers within others."""
    import keras

    layers = {name: kind for name, kind in vars(keras.layers).items() if isinstance(kind, type)}
    return {**layers, "Sequential": keras.Sequential, "Model": keras.Model, "Functional": keras.Model}


def _hard_sigmoid(x: Any) -> Any:
    import keras

    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def refuse_lost_axes(config: Any) -> None:
    """Keras 3 forgets several axes when it reads the old form, in its own HDF5 files too, and takes the last one."""
    for kind, own in _parts(config):
        if isinstance(axis := own.get("axis"), list) and len(axis) > 1:
            raise RefusedError(
                f"the {kind} layer '{own.get('name')}' goes along {len(axis)} axes, which Keras 3 forgets when it "
                "reads this form: save it as .keras with Keras 3, or make them one axis with a Reshape layer before"
            )


def repaired(config: Any, origin: Origin) -> tuple[Any, tuple[str, ...]]:
    """A model's configuration for Keras 3, to be made within old_activations(), and sentences of what was repaired.

    Raises RefusedError where Keras 3 would compute something else. The configuration that was given is left as it is.
    """
    if origin.version.startswith("1."):
        raise RefusedError(f"the file is of {origin.words()}: open it with Keras 2 and save it there")
    config = json.loads(json.dumps(config))
    kinds = {kind for kind, _ in _parts(config)}
    if origin.backend in ("theano", "mxnet") and (lost := sorted(k for k in kinds if "Conv" in k or "Pooling" in k)):
        raise RefusedError(
            f"the file was made on Keras' {origin.backend} backend, whose kernels and edges are not those of others, "
            f"and has {', '.join(lost)[:120]}: open it with Keras 2 on TensorFlow, and save it there"
        )
    for kind, own in _parts(config):
        _refuse(kind, own, origin)
        _respell(kind, own)
    notes = [HARD_SIGMOID] if '"hard_sigmoid"' in json.dumps(config) else []
    config = with_input_layers(config)
    for own in [own for _, own in _parts(config) if isinstance(own.get("layers"), list)]:
        notes += _whole_numbers(own["layers"])
        if "output_layers" in own:
            _renumber(own)
            for layer in own["layers"]:
                layer["inbound_nodes"] = [_call(layer["class_name"], node) for node in layer.get("inbound_nodes") or ()]
    return config, tuple(notes)


def _call(kind: str, node: Any) -> Any:
    """A layer's call as Keras 3 has it where tensors are among its named arguments, which it leaves as words in the old
    form, and where a recurrent layer has its first state behind its input, which it takes for more inputs."""
    references = [node] if node and isinstance(node[0], str) else list(node or ())
    named = {
        key: value for reference in references for key, value in (reference[3] if len(reference) > 3 else {}).items()
    }
    is_recurrent = kind in _RECURRENT and len(references) > 1
    if not is_recurrent and not any(_is_reference(value) for value in named.values()):
        return node
    tensors = [_tensor(reference) for reference in references]
    if is_recurrent:
        named["initial_state"], tensors = tensors[1:], tensors[:1]
    found = {key: _tensor(value) if _is_reference(value) else value for key, value in named.items()}
    return {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": found}


def _is_reference(value: Any) -> bool:
    """[layer, its call, its tensor]."""
    return isinstance(value, list) and len(value) == 3 and [type(item) for item in value] == [str, int, int]


def _tensor(reference: list[Any]) -> dict[str, Any]:
    """Keras looks up what it was by its history, and takes shape and dtype from there."""
    own = {"shape": [None], "dtype": "float32", "keras_history": reference[:3]}
    return {"class_name": "__keras_tensor__", "config": own}


def _parts(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The class and the configuration of every layer, however deep it lies."""
    for value in config if isinstance(config, list) else config.values() if isinstance(config, dict) else ():
        yield from _parts(value)
    if isinstance(config, dict) and isinstance(config.get("config"), dict) and "class_name" in config:
        yield str(config["class_name"]), config["config"]


def _whole_numbers(layers: list[Any]) -> list[str]:
    """Inputs that go into embeddings alone become whole numbers, to which Keras 2 made them itself."""
    notes = []
    for index, layer in enumerate(layers):
        if layer["class_name"] != "InputLayer" or not str(layer["config"].get("dtype")).startswith("float"):
            continue
        name = layer["config"].get("name")
        takers = [other for other in layers if any(reference[0] == name for reference in _references(other))]
        if not takers and "inbound_nodes" not in layer:  # in a row, each takes what the one before it gives
            takers = layers[index + 1 : index + 2]
        if takers and all(other["class_name"] == "Embedding" for other in takers):
            layer["config"]["dtype"] = "int32"
            notes.append(f"the input '{name}' takes whole numbers, as it goes into an embedding")
    return notes


def _renumber(own: dict[str, Any]) -> None:
    """Keras 2 counts the calls of a model within a model from 1, as its own making is the first; Keras 3 from 0.

    And it has lists of inputs and outputs where there is one, which Keras 3 would take as a list.
    """
    models = {layer.get("name") for layer in own["layers"] if "layers" in layer["config"]}
    references = [reference for layer in own["layers"] for reference in _references(layer)]
    references += own["output_layers"]
    for name in models:
        calls = [reference for reference in references if reference[0] == name]
        if all(call[1] >= 1 for call in calls):
            for call in calls:
                call[1] -= 1
    for key in ("input_layers", "output_layers"):
        if len(own[key]) == 1 and isinstance(own[key][0], list):
            own[key] = own[key][0]


def _references(layer: dict[str, Any]) -> list[list[Any]]:
    """[layer, its call, its tensor, more arguments] for each tensor that the layer is given."""
    calls = [call for call in layer.get("inbound_nodes") or () if call]
    return [reference for call in calls for reference in ([call] if isinstance(call[0], str) else call)]


def _refuse(kind: str, own: dict[str, Any], origin: Origin) -> None:
    name = own.get("name")
    if kind in _GONE:
        raise RefusedError(f"the layer '{name}' is a {kind}, which Keras 3 has not: {RESAVE}")
    if kind in _OPERATIONS:
        way = "save it there as a SavedModel (model.export('folder')), and convert that"
        raise RefusedError(
            f"'{name}' is an operation on tensors outside of layers, which TensorFlow alone reads: {way}"
        )
    if kind.startswith("CuDNN"):
        way = f"make the model with {kind[5:]} layers in Keras 2, load these weights and save it"
        raise RefusedError(f"the layer '{name}' is a {kind}, which Keras 3 has not: {way}")
    if own.get("time_major"):
        raise RefusedError(f"the {kind} layer '{name}' takes time before the batch, which Keras 3 has not: {RESAVE}")
    if kind == "UpSampling2D" and own.get("interpolation") == "bilinear" and _had_two_bilinears(origin.version):
        raise RefusedError(
            f"the file is of {origin.words()}, which resized bilinearly in two ways, by TensorFlow's version, and does "
            f"not say which the UpSampling2D layer '{name}' has: see that TensorFlow 2.3 or newer answers as it did, "
            "and save the model with that"
        )


def _had_two_bilinears(version: str) -> bool:
    """TensorFlow's own Keras is sure from 2.3.0-tf (TensorFlow 2.2) on; Keras itself ran on TensorFlow 1 until 2.3."""
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return number < (2, 3) or (number < (2, 4) and not version.endswith("-tf"))


def _respell(kind: str, own: dict[str, Any]) -> None:
    for key in [key for key in own if _TRAINING.fullmatch(key)]:
        del own[key]
    for key, neutral in _NEUTRAL.items():
        if key in own and own[key] == neutral:
            del own[key]
    if own.get("groups") == 1 and _UNGROUPED.fullmatch(kind):
        del own["groups"]
    if kind == "MultiHeadAttention":
        for key in ("query_shape", "key_shape", "value_shape"):
            own.pop(key, None)  # Keras 3 sees them when it is called
    if kind in ("GRU", "GRUCell"):
        own.setdefault("reset_after", False)  # as it was before there was the word; Keras 3 takes True
    if isinstance(axis := own.get("axis"), list) and len(axis) == 1:
        own["axis"] = axis[0]
    for key, value in own.items():
        if isinstance(value, dict) and value.get("class_name") in ("Policy", "PolicyV1"):
            own[key] = value["config"]["name"]
        elif key.endswith("activation") and isinstance(value, dict) and value.get("class_name") == "function":
            own[key] = value["config"]


def with_input_layers(config: Any) -> Any:
    """The configuration with inputs as layers of their own, where Keras 2 had them within the first layer."""
    if isinstance(config, list):
        return [with_input_layers(value) for value in config]
    if not isinstance(config, dict):
        return config
    made = {key: with_input_layers(value) for key, value in config.items()}
    own: Any = made.get("config")
    if made.get("class_name") == "Sequential":
        layers = own if isinstance(own, list) else own["layers"]
        made["config"] = {
            **({"name": "sequential"} if isinstance(own, list) else own), "layers": [*_input_of(layers), *layers],
        }  # fmt: skip
    elif made.get("class_name") == "InputLayer":
        own.setdefault("batch_shape", own.pop("batch_input_shape", None))
    return made


def _input_of(layers: list[Any]) -> list[Any]:
    if not layers or layers[0].get("class_name") == "InputLayer":
        return []
    first = layers[0]["config"]
    shape = first.pop("batch_input_shape", None)
    taken = {"batch_shape": shape, "dtype": first.get("dtype") or "float32", "name": f"{first.get('name')}_input"}
    return [] if shape is None else [{"class_name": "InputLayer", "config": taken}]

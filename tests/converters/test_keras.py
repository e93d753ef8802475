"""Keras' files become ONNX that answers as Keras does on its PyTorch backend; Lambda layers and mere weights do not."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters.detection import detect
from converters.frameworks.keras import CONVERTER
from converters.registry import converter_of
from converters.session import Session
from tests.converters import keras_2_files as old
from tests.converters.converting import compared, conversion, refused

os.environ["KERAS_BACKEND"] = "torch"
pytest.importorskip("torch", reason="PyTorch is not installed: 'make test-nets' has it")
keras = pytest.importorskip("keras", reason="Keras is not installed: 'make test-nets' has it")

pytestmark = pytest.mark.filterwarnings("ignore")
layers = keras.layers


def images() -> Any:
    return keras.Sequential(
        [
            layers.Input((16, 16, 3)), layers.Conv2D(8, 3, activation="relu"), layers.BatchNormalization(),
            layers.MaxPooling2D(), layers.Flatten(), layers.Dense(4, activation="softmax"),
        ]
    )  # fmt: skip


def two() -> Any:
    left, right = layers.Input((5,), name="left"), layers.Input((3,), name="right")
    score = layers.Dense(2, name="score")(layers.Concatenate()([left, right]))
    return keras.Model([left, right], [score, layers.Dense(1, activation="sigmoid", name="risk")(left)])


def words() -> Any:
    tokens = layers.Input((None,), dtype="int32", name="tokens")
    states = layers.Bidirectional(layers.LSTM(6))(layers.Embedding(40, 8)(tokens))
    return keras.Model(tokens, layers.Dense(3)(states))


def attention() -> Any:
    given = layers.Input((12, 8))
    mixed = layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(given, given) + given)
    return keras.Model(given, layers.Dense(3)(layers.GlobalAveragePooling1D()(mixed)))


def separable() -> Any:
    given = layers.Input((24, 24, 3))
    deep = layers.DepthwiseConv2D(3, padding="same")(layers.Rescaling(1 / 127.5, offset=-1)(given))
    wide = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 1)(deep)))
    again = layers.SeparableConv2D(8, 3, padding="same", activation="swish")(wide)
    return keras.Model(given, layers.Dense(4)(layers.GlobalAveragePooling2D()(layers.Add()([wide, again]))))


def autoencoder() -> Any:
    given = layers.Input((16, 16, 3))
    small = layers.MaxPooling2D()(layers.Conv2D(8, 3, padding="same", activation="relu")(given))
    return keras.Model(given, layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="sigmoid")(small))


def series() -> Any:
    given = layers.Input((20, 4))
    along = layers.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="gelu")(given)
    return keras.Model(given, layers.Dense(1)(layers.GRU(6)(layers.Dropout(0.3)(along))))


def masked() -> Any:
    tokens = layers.Input((None,), dtype="int32", name="tokens")
    states = layers.Embedding(40, 8, mask_zero=True)(tokens)
    states = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(states)
    return keras.Model(tokens, layers.Dense(3)(layers.GRU(5, activation="relu", reset_after=False)(states)))


def backwards() -> Any:
    given = layers.Input((9, 4))
    states = layers.GRU(5, return_sequences=True, reset_after=False, go_backwards=True)(layers.Masking(0.0)(given))
    return keras.Model(given, layers.SimpleRNN(3)(states))


def half() -> Any:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        deep = [layers.Conv2D(8, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten(), layers.Dense(5)]
        return keras.Sequential([layers.Input((12, 12, 3)), *deep, layers.Activation("softmax", dtype="float32")])
    finally:
        keras.mixed_precision.set_global_policy("float32")


def brain() -> Any:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        return keras.Sequential([layers.Input((12,)), layers.Dense(8, "relu"), layers.Dense(3, dtype="float32")])
    finally:
        keras.mixed_precision.set_global_policy("float32")


def bytes_of_pictures() -> Any:
    given = layers.Input((16, 16, 3), dtype="uint8")
    return keras.Model(given, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(given))))


def like_its_steps() -> Any:
    """Outputs that are called as operators are."""
    given = layers.Input((None, 4), name="x")
    return keras.Model(given, [keras.ops.mean(given, axis=1), keras.ops.argmax(given, axis=-1)])


def pyramid() -> Any:
    """Too deep for the smallest picture that is tried."""
    given = layers.Input((None, None, 3))
    deep = given
    for _ in range(4):
        deep = layers.MaxPooling2D()(layers.Conv2D(4, 3, padding="same", activation="relu")(deep))
    return keras.Model(given, layers.GlobalAveragePooling2D()(deep))


def scaled() -> Any:
    table = layers.Normalization()
    table.adapt(np.random.default_rng(0).normal(3, 2, (64, 5)))
    return keras.Sequential([layers.Input((5,)), table, layers.Dense(8, activation="elu"), layers.Dense(1)])


FAMILIES: dict[str, Callable[[], Any]] = {
    "convolutions": images, "two inputs and outputs": two, "embedding and LSTM": words, "attention": attention,
    "separable convolutions": separable, "autoencoder": autoencoder, "GRU over a series": series,
    "a table with its own scaling": scaled, "a mask, LSTM and GRU of any length": masked, "GRU backwards": backwards,
    "mixed_float16": half, "mixed_bfloat16": brain, "bytes": bytes_of_pictures, "pictures of any size": pyramid,
    "outputs called as operators are": like_its_steps,
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_model_answers_as_before_in_any_batch(family: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    path = tmp_path / "model.keras"
    FAMILIES[family]().save(path)
    assert detect(path).format == "keras"
    report = compared(conversion(CONVERTER, path, "keras", tmp_path / "to"), CONVERTER, f".keras: {family}")
    assert report.within
    assert report.batch_sizes[:2] == (1, 3)


@pytest.mark.parametrize("family", ["convolutions", "two inputs and outputs", "GRU over a series"])
def test_hdf5_is_read_whatever_its_name(family: str, tmp_path: Path) -> None:
    FAMILIES[family]().save(tmp_path / "model.h5")
    path = (tmp_path / "model.h5").rename(tmp_path / "model.bin")
    assert detect(path).format == "hdf5-keras"
    assert compared(conversion(CONVERTER, path, "hdf5-keras", tmp_path / "to"), CONVERTER, f".h5: {family}").within


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_layer_is_refused_before_it_runs(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: x * 2)]).save(path)
    if suffix == "keras":
        with pytest.raises(RefusedError, match="Lambda"):
            converter_of(detect(path))
    word = "keras" if suffix == "keras" else "hdf5-keras"
    refused(CONVERTER, path, word, tmp_path / "to", f".{suffix}: a Lambda layer", "Lambda")


def test_weights_alone_are_refused(tmp_path: Path) -> None:
    images().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(RefusedError):
        converter_of(detect(tmp_path / "model.weights.h5"))


def test_words_behind_the_end_change_nothing_whatever_the_length(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = masked()
    model.save(tmp_path / "model.keras")
    made = conversion(CONVERTER, tmp_path / "model.keras", "keras", tmp_path / "to")
    session = Session(made.model)
    for rows, length in ((1, 3), (4, 11)):
        ids = np.random.default_rng(length).integers(1, 40, (rows, length)).astype(np.int32)
        ids[:, length - 2 :] = 0
        (answer,) = session.run({"tokens": ids}).values()
        assert answer == pytest.approx(keras.ops.convert_to_numpy(model(ids)), abs=1e-5)
        assert answer == pytest.approx(next(iter(session.run({"tokens": ids[:, :-2]}).values())), abs=1e-5)


def test_a_layer_of_the_owners_own_is_refused_with_the_way_out(tmp_path: Path) -> None:
    class Doubled(layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return x * 2

    path = tmp_path / "model.keras"
    keras.Sequential([layers.Input((4,)), Doubled()]).save(path)
    family, match = ".keras: a layer of the owner's own", r"\(Doubled\).*format='onnx'"
    refused(CONVERTER, path, "keras", tmp_path / "to", family, match)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_file_that_was_cut_short_is_refused(share: float, tmp_path: Path) -> None:
    images().save(tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RefusedError):
        converter_of(detect(tmp_path / "cut.keras"))
    with pytest.raises(RefusedError, match="Keras cannot read"):
        conversion(CONVERTER, tmp_path / "cut.keras", "keras", tmp_path / "to")


def numbers(*shape: int, seed: int = 0) -> old.Numbers:
    return np.random.default_rng(seed).normal(0, 0.7, shape)


def recurrent_lstm() -> tuple[Any, old.Weights, old.Numbers, old.Numbers]:
    weights = {"kernel": numbers(4, 20), "recurrent_kernel": numbers(5, 20, seed=1), "bias": numbers(20, seed=2)}
    out = {"kernel": numbers(5, 2, seed=3), "bias": numbers(2, seed=4)}
    x = numbers(3, 6, 4, seed=5) * 2
    wanted = old.lstm(x, *weights.values()) @ out["kernel"] + out["bias"]
    config = old.row(old.recurrent("LSTM", 5, implementation=1, unit_forget_bias=True), old.dense("out", 2))
    return config, {"recurrent": weights, "out": out}, x, wanted


def recurrent_gru() -> tuple[Any, old.Weights, old.Numbers, old.Numbers]:
    """Without biases, whose shape would tell Keras 3 that it takes it for another."""
    weights = {"kernel": numbers(4, 15), "recurrent_kernel": numbers(5, 15, seed=1)}
    x = numbers(3, 6, 4, seed=5) * 2
    config = old.row(old.recurrent("GRU", 5, implementation=0, use_bias=False), as_list=True)
    return config, {"recurrent": weights}, x, old.gru(x, *weights.values())


def both_ways() -> tuple[Any, old.Weights, old.Numbers, old.Numbers]:
    """Keras makes the layer of the way back by copying the other's configuration."""
    kind, own = old.recurrent("LSTM", 5)
    shape = own.pop("batch_input_shape")
    ways = [{f"{way}_lstm/{name}:0": array for name, array in (
        ("kernel", numbers(4, 20, seed=seed)), ("recurrent_kernel", numbers(5, 20, seed=seed + 1)),
        ("bias", numbers(20, seed=seed + 2)))} for way, seed in (("forward", 0), ("backward", 3))]  # fmt: skip
    x = numbers(3, 6, 4, seed=5) * 2
    wanted = np.concatenate([old.lstm(x, *ways[0].values()), old.lstm(x[:, ::-1], *ways[1].values())], axis=1)
    inner = {"class_name": kind, "config": own}
    config = old.row(
        ("Bidirectional", {"name": "both", "batch_input_shape": shape, "merge_mode": "concat", "layer": inner})
    )
    return config, {"both": ways[0] | ways[1]}, x, wanted


def gate() -> tuple[Any, old.Weights, old.Numbers, old.Numbers]:
    weights = {"kernel": numbers(4, 5), "bias": numbers(5, seed=1)}
    x = numbers(3, 4, seed=2) * 3
    wanted = old.hard_sigmoid(old.hard_sigmoid(x @ weights["kernel"] + weights["bias"]))
    first = old.dense("gate", 5, activation="hard_sigmoid", batch_input_shape=[None, 4])
    return old.row(first, ("Activation", {"name": "again", "activation": "hard_sigmoid"})), {"gate": weights}, x, wanted


def twice_called() -> tuple[Any, old.Weights, old.Numbers, old.Numbers]:
    """A model within a model, whose calls Keras 2 counts from 1; its weights lie in the file before another's."""
    layer, taken = (
        {"kernel": numbers(4, 4), "bias": numbers(4, seed=1)},
        {"batch_input_shape": [None, 4], "dtype": "float32"},
    )
    between = {"kernel": numbers(4, 4, seed=2), "bias": numbers(4, seed=3)}
    own = old.graph(
        "own", ["a"], [["d", 0, 0]], ("InputLayer", {"name": "a", **taken}, []),
        (*old.dense("d", 4, activation="tanh"), [[["a", 0, 0, {}]]]),
    )  # fmt: skip
    config = old.graph(
        "whole", ["x"], [["less", 0, 0]], ("InputLayer", {"name": "x", **taken}, []),
        (*old.dense("between", 4), [[["x", 0, 0, {}]]]),
        ("Model", own["config"], [[["x", 0, 0, {}]], [["between", 0, 0, {}]]]),
        ("Subtract", {"name": "less"}, [[["own", 1, 0, {}], ["own", 2, 0, {}]]]),
    )  # fmt: skip
    x = numbers(3, 4, seed=4)

    def inner(x: old.Numbers) -> old.Numbers:
        return np.tanh(x @ layer["kernel"] + layer["bias"])

    wanted = inner(x) - inner(x @ between["kernel"] + between["bias"])
    weights = {"own": {f"d/{name}:0": array for name, array in layer.items()}, "between": between}
    return config, weights, x, wanted


OLD = {
    "LSTM with hard_sigmoid": recurrent_lstm, "GRU that resets before": recurrent_gru,
    "both ways with hard_sigmoid": both_ways, "hard_sigmoid of layers": gate, "a model called twice": twice_called,
}  # fmt: skip


@pytest.mark.parametrize("family", OLD)
def test_a_file_of_keras_2_answers_as_keras_2_did(family: str, tmp_path: Path) -> None:
    config, weights, x, wanted = OLD[family]()
    path = old.written(tmp_path / "model.h5", config, weights)
    assert detect(path).format == "hdf5-keras"
    made = conversion(CONVERTER, path, "hdf5-keras", tmp_path / "to")
    assert compared(made, CONVERTER, f".h5 of Keras 2: {family}").within
    session = Session(made.model)
    (answer,) = session.run({session.signature.inputs[0].name: x.astype(np.float32)}).values()
    assert answer == pytest.approx(wanted, abs=1e-5)
    assert any("clip(0.2 x + 0.5, 0, 1)" in note for note in made.notes) == ("hard_sigmoid" in str(config))


@pytest.mark.parametrize("version", ["", "2.2.4-tf", "2.15.0", "3.15.1"])
def test_hard_sigmoid_is_that_of_the_keras_that_wrote_the_file(version: str, tmp_path: Path) -> None:
    config, weights, x, wanted = gate()
    if version == "3.15.1":
        own = config["config"]["layers"][0]["config"]
        own["kernel_initializer"] = "zeros"
        shape = {"name": "given", "batch_shape": own.pop("batch_input_shape"), "dtype": "float32"}
        config["config"]["layers"].insert(0, {"class_name": "InputLayer", "config": shape})

        def newer(x: old.Numbers) -> old.Numbers:
            return np.clip(x / 6 + 0.5, 0, 1)

        wanted = newer(newer(x @ weights["gate"]["kernel"] + weights["gate"]["bias"]))
    path = old.written(tmp_path / "model.h5", config, weights, version=version)
    made = conversion(CONVERTER, path, "hdf5-keras", tmp_path / "to")
    session = Session(made.model)
    (answer,) = session.run({session.signature.inputs[0].name: x.astype(np.float32)}).values()
    assert answer == pytest.approx(wanted, abs=1e-5)


def test_an_old_text_model_takes_whole_numbers(tmp_path: Path) -> None:
    table = numbers(30, 4)
    words = {"name": "words", "batch_input_shape": [None, 6], "dtype": "float32", "input_dim": 30, "output_dim": 4}
    kind, own = old.recurrent("LSTM", 5)
    del own["batch_input_shape"]
    weights = {"kernel": numbers(4, 20), "recurrent_kernel": numbers(5, 20, seed=1), "bias": numbers(20, seed=2)}
    config = old.row(("Embedding", {**words, "mask_zero": False, "input_length": 6}), (kind, own))
    path = old.written(tmp_path / "model.h5", config, {"words": {"embeddings": table}, "recurrent": weights})
    made = conversion(CONVERTER, path, "hdf5-keras", tmp_path / "to")
    assert compared(made, CONVERTER, ".h5 of Keras 2: embedding and LSTM").within
    session = Session(made.model)
    (spec,) = session.signature.inputs
    assert spec.dtype == "INT32"
    given = np.arange(12, dtype=np.int32).reshape(2, 6)
    (answer,) = session.run({spec.name: given}).values()
    assert answer == pytest.approx(old.lstm(table[given], *weights.values()), abs=1e-5)


def test_weights_of_like_shapes_go_to_the_layers_they_are_named_after(tmp_path: Path) -> None:
    config, _, x, _ = gate()
    config["config"]["layers"] = [
        {"class_name": kind, "config": own}
        for kind, own in (old.dense("first", 4, batch_input_shape=[None, 4]), old.dense("second", 4))
    ]
    weights = {
        name: {"kernel": numbers(4, 4, seed=s), "bias": numbers(4, seed=s + 1)}
        for s, name in enumerate(("first", "second"))
    }
    wanted = (x @ weights["first"]["kernel"] + weights["first"]["bias"]) @ weights["second"]["kernel"]
    path = old.written(tmp_path / "model.h5", config, weights, order=("second", "first"))
    made = conversion(CONVERTER, path, "hdf5-keras", tmp_path / "to")
    session = Session(made.model)
    (answer,) = session.run({session.signature.inputs[0].name: x.astype(np.float32)}).values()
    assert answer == pytest.approx(wanted + weights["second"]["bias"], abs=1e-5)
    named = {name.replace("first", "other"): arrays for name, arrays in weights.items()}
    path = old.written(tmp_path / "other.h5", config, named)
    with pytest.raises(RefusedError, match="not named after its layers"):
        conversion(CONVERTER, path, "hdf5-keras", tmp_path / "to")


def test_weights_within_a_model_that_lie_in_another_order_are_refused(tmp_path: Path) -> None:
    config, weights, _, _ = twice_called()
    inner = next(layer for layer in config["config"]["layers"] if layer["name"] == "own")["config"]
    kind, own = old.dense("e", 4)
    inner["layers"].append({"class_name": kind, "config": own, "name": "e", "inbound_nodes": [[["d", 0, 0, {}]]]})
    inner["output_layers"] = [["e", 0, 0]]
    second = {f"e/{name}:0": numbers(*array.shape, seed=9) for name, array in weights["between"].items()}
    lain = {"between": weights["between"], "own": second | weights["own"]}
    path = old.written(tmp_path / "model.h5", config, lain)
    match = "the weights within 'own' lie in another order"
    refused(CONVERTER, path, "hdf5-keras", tmp_path / "to", ".h5 of Keras 2: inner weights in another order", match)


def test_several_axes_that_keras_3_forgets_are_refused_in_its_own_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    keras.Sequential([layers.Input((6, 5)), layers.Softmax(axis=[1, 2])]).save(path)
    refused(CONVERTER, path, "hdf5-keras", tmp_path / "to", ".h5: a softmax along two axes", "goes along 2 axes")

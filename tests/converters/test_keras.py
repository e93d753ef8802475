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


def scaled() -> Any:
    table = layers.Normalization()
    table.adapt(np.random.default_rng(0).normal(3, 2, (64, 5)))
    return keras.Sequential([layers.Input((5,)), table, layers.Dense(8, activation="elu"), layers.Dense(1)])


FAMILIES: dict[str, Callable[[], Any]] = {
    "convolutions": images, "two inputs and outputs": two, "embedding and LSTM": words, "attention": attention,
    "separable convolutions": separable, "autoencoder": autoencoder, "GRU over a series": series,
    "a table with its own scaling": scaled,
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


def test_a_layer_of_the_owners_own_is_refused_with_the_way_out(tmp_path: Path) -> None:
    class Doubled(layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return x * 2

    path = tmp_path / "model.keras"
    keras.Sequential([layers.Input((4,)), Doubled()]).save(path)
    refused(CONVERTER, path, "keras", tmp_path / "to", ".keras: a layer of the owner's own", r"format='onnx'")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_file_that_was_cut_short_is_refused(share: float, tmp_path: Path) -> None:
    images().save(tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RefusedError):
        converter_of(detect(tmp_path / "cut.keras"))
    with pytest.raises(RefusedError, match="Keras cannot read"):
        conversion(CONVERTER, tmp_path / "cut.keras", "keras", tmp_path / "to")

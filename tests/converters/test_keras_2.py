"""What older Keras meant is put into Keras 3's words, or refused where it has none: the configuration alone."""

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import RefusedError
from converters.keras_2 import Origin, refuse_lost_axes, repaired
from converters.keras_files import refuse_old_archive
from tests.converters.keras_2_files import dense, graph, recurrent, row

KERAS, TF = Origin("2.3.1", "tensorflow"), Origin("2.11.0", "tensorflow")
RESIZED = row(("UpSampling2D", {"name": "up", "size": [2, 2], "interpolation": "bilinear"}))
FOLDED = row(("Conv2D", {"name": "folded", "filters": 2}))

REFUSED: dict[str, tuple[Any, Origin, str]] = {
    "Keras 1": (row(dense("d", 2)), Origin("1.2.2", "tensorflow"), "of Keras 1.2.2: open it with Keras 2"),
    "Theano's kernels": (FOLDED, Origin("2.3.1", "theano"), "Keras' theano backend.* Conv2D"),
    "two ways to resize, Keras": (RESIZED, KERAS, "resized bilinearly in two ways.*'up'"),
    "two ways to resize, tf.keras": (RESIZED, Origin("2.2.4-tf", "tensorflow"), "of Keras 2.2.4-tf, which"),
    "two ways to resize, unknown": (RESIZED, Origin("", ""), "which does not say its version"),
    "time first": (row(recurrent("LSTM", 2, time_major=True)), TF, "takes time before the batch"),
    "cuDNN's own": (row(recurrent("CuDNNLSTM", 2)), KERAS, "with LSTM layers in Keras 2, load these weights"),
    "gone": (row(("ThresholdedReLU", {"name": "t", "theta": 1.0})), TF, "'t' is a ThresholdedReLU, which Keras 3"),
    "an operation outside of layers": (
        row(("TFOpLambda", {"name": "tf.math.multiply", "function": "math.multiply"})),
        TF, "save it there as a SavedModel",
    ),
    "within a wrapper": (
        row(("TimeDistributed", {"layer": {"class_name": "LSTM", "config": {"name": "in", "time_major": True}}})),
        TF, "'in' takes time",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_keras_3_would_compute_otherwise_is_refused_with_a_sentence(what: str) -> None:
    config, origin, match = REFUSED[what]
    with pytest.raises(RefusedError, match=match):
        repaired(config, origin)


TAKEN: dict[str, tuple[Any, Origin]] = {
    "resized by what has one way": (RESIZED, Origin("2.3.0-tf", "tensorflow")),
    "resized by a later one": (RESIZED, Origin("2.4.0", "tensorflow")),
    "nearest": (row(("UpSampling2D", {"name": "up", "interpolation": "nearest"})), KERAS),
    "Theano's tables": (row(dense("d", 2)), Origin("2.3.1", "theano")),
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_means_the_same_stays(what: str) -> None:
    config, origin = TAKEN[what]
    before = copy.deepcopy(config)
    assert repaired(config, origin)[1] == ()
    assert config == before


@pytest.mark.parametrize(("version", "old"), [("", True), ("2.15.0", True), ("2.1.6-tf", True), ("3.0.0", False),
                                              ("3.15.1", False), ("10.0", False), ("what?", True)])  # fmt: skip
def test_a_file_is_old_before_keras_3_and_where_it_does_not_say(version: str, old: bool) -> None:
    assert Origin(version, "").is_old == old


def test_words_that_keras_3_has_not_go_where_they_change_nothing_and_a_gru_resets_as_it_did() -> None:
    made, _ = repaired(row(recurrent("GRU", 3, time_major=False), dense("d", 2)), TF)
    given, gru, last = (layer["config"] for layer in made["config"]["layers"])
    assert given == {"batch_shape": [None, 6, 4], "dtype": "float32", "name": "recurrent_input"}
    assert gru["reset_after"] is False
    assert not {"time_major", "recurrent_initializer"} & gru.keys()
    assert "kernel_regularizer" not in last
    kept, _ = repaired(row(recurrent("GRU", 3, reset_after=True)), TF)
    assert kept["config"]["layers"][1]["config"]["reset_after"] is True


def test_tensors_among_a_calls_named_arguments_and_a_first_state_are_called_as_keras_3_does() -> None:
    attention = {"name": "attend", "num_heads": 2, "key_dim": 4, "query_shape": [None, 7, 16], "key_shape": None,
                 "value_shape": [None, 7, 16], "softmax_robust_masking": False}  # fmt: skip
    config = graph(
        "model", ["x"], [["decode", 0, 0]],
        ("InputLayer", {"name": "x"}, []),
        ("MultiHeadAttention", attention, [[["x", 0, 0, {"value": ["x", 0, 0], "use_causal_mask": True}]]]),
        (*recurrent("LSTM", 2, name="encode"), [[["attend", 0, 0, {}]]]),
        (*recurrent("LSTM", 2, name="decode"), [[["x", 0, 0, {}], ["encode", 0, 1, {}], ["encode", 0, 2, {}]]]),
    )  # fmt: skip
    layers = {layer["name"]: layer for layer in repaired(config, TF)[0]["config"]["layers"]}

    def tensor(*history: Any) -> Any:
        own = {"shape": [None], "dtype": "float32", "keras_history": list(history)}
        return {"class_name": "__keras_tensor__", "config": own}

    assert sorted(layers["attend"]["config"]) == ["key_dim", "name", "num_heads"]
    (call,) = layers["attend"]["inbound_nodes"]
    assert call == {"args": [tensor("x", 0, 0)], "kwargs": {"value": tensor("x", 0, 0), "use_causal_mask": True}}
    assert layers["encode"]["inbound_nodes"] == [[["attend", 0, 0, {}]]]
    (call,) = layers["decode"]["inbound_nodes"]
    state = [tensor("encode", 0, 1), tensor("encode", 0, 2)]
    assert call == {"args": [tensor("x", 0, 0)], "kwargs": {"initial_state": state}}


def test_hard_sigmoid_is_told_of_wherever_it_lies() -> None:
    for config in (row(recurrent("LSTM", 2)), row(dense("d", 1, activation="hard_sigmoid"))):
        assert "clip(0.2 x + 0.5, 0, 1)" in repaired(config, KERAS)[1][0]
    assert repaired(row(dense("d", 1)), KERAS)[1] == ()


def test_calls_of_a_model_within_a_model_are_counted_from_0() -> None:
    own = graph("own", ["a"], [["d", 0, 0]], ("InputLayer", {"name": "a"}, []), (*dense("d", 2), [[["a", 0, 0, {}]]]))
    whole = graph(
        "whole", ["x"], [["sum", 0, 0]], ("InputLayer", {"name": "x"}, []),
        ("Model", own["config"], [[["x", 0, 0, {}]], [["e", 0, 0, {}]]]), (*dense("e", 2), [["x", 0, 0, {}]]),
        ("Add", {"name": "sum"}, [[["own", 1, 0, {}], ["own", 2, 0, {}]]]),
    )  # fmt: skip
    made = repaired(whole, TF)[0]["config"]
    assert made["layers"][3]["inbound_nodes"] == [[["own", 0, 0, {}], ["own", 1, 0, {}]]]
    assert made["layers"][1]["inbound_nodes"] == [[["x", 0, 0, {}]], [["e", 0, 0, {}]]]
    assert made["output_layers"] == ["sum", 0, 0]


@pytest.mark.parametrize("axis", [[1, 2], [-1], 1, -1, None])
def test_several_axes_are_refused_in_a_file_of_any_keras(axis: Any) -> None:
    config = row(("Softmax", {"name": "s", "axis": axis}))
    if axis == [1, 2]:
        with pytest.raises(RefusedError, match="Softmax layer 's' goes along 2 axes"):
            refuse_lost_axes(config)
    else:
        refuse_lost_axes(config)


@pytest.mark.parametrize("version", ["2.13.1", "3.15.1", None])
def test_a_keras_archive_that_keras_2_wrote_is_refused_with_the_way_out(version: str | None, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version} if version else []))
    if version == "2.13.1":
        with pytest.raises(RefusedError, match=r"of Keras 2.13.1, .* save it with model.save\('model.h5'\)"):
            refuse_old_archive(tmp_path / "m.keras")
    else:
        refuse_old_archive(tmp_path / "m.keras")

"""TensorFlow's models become ONNX that answers as they do; operators without a translation are found and named."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import isolation
from converters.detection import detect
from converters.frameworks.tensorflow import CONVERTER
from converters.isolation import Limits
from converters.job import Job
from converters.options import Options
from tests.converters.converting import compared, conversion, refused

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed: 'make test-nets' has it")
pytest.importorskip("tf2onnx", reason="tf2onnx is not installed: 'make test-nets' has it")

pytestmark = pytest.mark.filterwarnings("ignore")


class Table(tf.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        self.weights = tf.Variable(tf.random.normal((5, 3), seed=1))

    @tf.function(input_signature=[tf.TensorSpec((None, 5), name="x"), tf.TensorSpec((None,), tf.int32, name="k")])
    def call(self, x: Any, k: Any) -> dict[str, Any]:
        return {"y": tf.nn.relu(x @ self.weights), "z": tf.gather(self.weights[0], k % 3)}


class Pictures(tf.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        self.kernel = tf.Variable(tf.random.normal((3, 3, 3, 8), seed=1))
        self.out = tf.Variable(tf.random.normal((8, 4), seed=2))

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), name="image")])
    def call(self, image: Any) -> dict[str, Any]:
        found = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 2, "SAME"))
        return {"classes": tf.nn.softmax(tf.reduce_mean(found, (1, 2)) @ self.out)}


class Letters(tf.Module):  # type: ignore[misc, name-defined]
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="s")])
    def call(self, s: Any) -> dict[str, Any]:
        return {"n": tf.strings.length(s)}


class Writer(tf.Module):  # type: ignore[misc, name-defined]
    def __init__(self, path: str) -> None:
        self.path = path

    @tf.function(input_signature=[tf.TensorSpec((None,), name="x")])
    def call(self, x: Any) -> dict[str, Any]:
        tf.io.write_file(self.path, "written")
        return {"y": x + 1.0}


class Series(tf.Module):  # type: ignore[misc, name-defined]
    """Convolutions along a series and a sum that decays, written as a loop of TensorFlow's."""

    def __init__(self) -> None:
        self.kernel = tf.Variable(tf.random.normal((3, 4, 6), seed=1))

    @tf.function(input_signature=[tf.TensorSpec((None, 12, 4), name="series")])
    def call(self, series: Any) -> dict[str, Any]:
        states = tf.nn.conv1d(series, self.kernel, 1, "VALID")
        total = tf.zeros_like(states[:, 0])
        for step in tf.range(10):
            total = 0.5 * total + tf.tanh(states[:, step])
        return {"total": total}


class Attending(tf.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        self.table = tf.Variable(tf.random.normal((50, 8), seed=1))

    @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.int32, name="ids")])
    def call(self, ids: Any) -> dict[str, Any]:
        states = tf.gather(self.table, ids)
        mixed = tf.nn.softmax(tf.matmul(states, states, transpose_b=True) / 8.0**0.5) @ states
        return {"states": mixed, "best": tf.argmax(tf.reduce_sum(mixed, 1), -1)}


WORDS = [tf.TensorSpec((None, 2), tf.int64, name="code"), tf.TensorSpec((None,), tf.string, name="word")]


class Known(tf.Module):  # type: ignore[misc, name-defined]
    """Words and codes looked up in tables, as Keras' StringLookup and IntegerLookup do it."""

    def __init__(self) -> None:
        codes = tf.constant([3, 7, 11, 100], tf.int64), tf.constant([1, 2, 3, 4], tf.int64)
        words = tf.constant(["red", "grün", "blue"]), tf.constant([1, 2, 3], tf.int64)
        self.codes = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(*codes), 0)
        self.words = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(*words), 0)
        self.table = tf.Variable(tf.random.normal((5, 4), seed=1))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 2), tf.int64, name="code"),
            tf.TensorSpec((None,), tf.string, name="word"),
        ]
    )
    def call(self, code: Any, word: Any) -> dict[str, Any]:
        return {"y": tf.gather(self.table, self.codes.lookup(code)), "known": self.words.lookup(word)}


class Half(tf.Module):  # type: ignore[misc, name-defined]
    """Half precision between single, as Keras' mixed_float16 has it."""

    def __init__(self) -> None:
        self.weights = tf.Variable(tf.random.normal((12, 5), seed=1))

    @tf.function(input_signature=[tf.TensorSpec((None, 12), name="x")])
    def call(self, x: Any) -> dict[str, Any]:
        deep = tf.nn.relu(tf.cast(x, tf.float16) @ tf.cast(self.weights, tf.float16))
        return {"y": tf.nn.softmax(tf.cast(deep, tf.float32))}


def saved(module: Any, folder: Path) -> Path:
    tf.saved_model.save(module, str(folder), signatures=module.call)
    return folder


def frozen(module: Any, path: Path) -> Path:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = convert_variables_to_constants_v2(module.call.get_concrete_function())
    path.write_bytes(function.graph.as_graph_def().SerializeToString())
    return path


def lite(path: Path, *, whole_numbers: bool) -> Path:
    module = Pictures()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.call.get_concrete_function()], module)
    if whole_numbers:
        random = np.random.default_rng(0)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [random.random((1, 16, 16, 3), dtype=np.float32)] for _ in range(20)
        )
    path.write_bytes(converter.convert())
    return path


OUTPUTS = {
    Table: {"y", "z"}, Pictures: {"classes"}, Series: {"total"}, Attending: {"states", "best"}, Known: {"y", "known"},
    Half: {"y"},
}  # fmt: skip


@pytest.mark.parametrize("module", OUTPUTS)
def test_a_savedmodel_keeps_its_signatures_names_and_answers(module: Any, tmp_path: Path) -> None:
    folder = saved(module(), tmp_path / "model")
    assert detect(folder).format == "saved-model"
    family = f"SavedModel: {module.__name__.lower()}"
    report = compared(conversion(CONVERTER, folder, "saved-model", tmp_path / "to"), CONVERTER, family)
    assert report.within
    assert report.batch_sizes[:2] == (1, 3)
    assert {output.name for output in report.outputs} == OUTPUTS[module]


@pytest.mark.parametrize("module", [Table, Pictures])
def test_a_frozen_graph_answers_as_before(module: Any, tmp_path: Path) -> None:
    path = frozen(module(), tmp_path / "model.pb")
    assert detect(path).format == "frozen-graph"
    family = f"frozen graph: {module.__name__.lower()}"
    report = compared(conversion(CONVERTER, path, "frozen-graph", tmp_path / "to"), CONVERTER, family)
    assert report.within
    assert len(report.outputs) == len(OUTPUTS[module])


def test_a_tensorflow_lite_model_answers_as_its_own_kernels(tmp_path: Path) -> None:
    path = lite(tmp_path / "model.bin", whole_numbers=False)
    assert detect(path).format == "tflite"
    made = conversion(CONVERTER, path, "tflite", tmp_path / "to")
    assert compared(made, CONVERTER, "TensorFlow Lite: pictures").within


# Of MediaPipe's package, whose code is not imported. What the refusals' sentences say, or "" where it converts.
MEDIAPIPE = {
    "face_detection/face_detection_short_range": "",
    "face_detection/face_detection_full_range_sparse": "tf2onnx cannot convert",  # sparse weights
    "face_landmark/face_landmark": "",
    "face_landmark/face_landmark_with_attention": "Landmarks2TransformMatrix",
    "hand_landmark/hand_landmark_full": "",
    "hand_landmark/hand_landmark_lite": "",
    "holistic_landmark/hand_recrop": "",
    "iris_landmark/iris_landmark": "",
    "palm_detection/palm_detection_full": "",
    "palm_detection/palm_detection_lite": "",
    "pose_detection/pose_detection": "tf2onnx cannot convert",
    "selfie_segmentation/selfie_segmentation": "Convolution2DTransposeBias",
}


def mediapipe(name: str) -> Path:
    found = find_spec("mediapipe")
    if found is None or not found.submodule_search_locations:
        pytest.skip("MediaPipe's files are not installed: 'make test-nets' has them")
    return Path(found.submodule_search_locations[0]) / "modules" / f"{name}.tflite"


@pytest.mark.parametrize("name", MEDIAPIPE)
def test_a_model_of_mediapipe_answers_as_before_or_is_refused_by_its_operators(name: str, tmp_path: Path) -> None:
    path, family = mediapipe(name), f"MediaPipe: {name.partition('/')[2]}"
    assert detect(path).format == "tflite"
    if MEDIAPIPE[name]:
        refused(CONVERTER, path, "tflite", tmp_path / "to", family, MEDIAPIPE[name])
    else:
        assert compared(conversion(CONVERTER, path, "tflite", tmp_path / "to"), CONVERTER, family, rows=4).within


def test_a_model_of_mediapipe_that_comes_out_otherwise_is_seen_by_the_comparison(tmp_path: Path) -> None:
    path = mediapipe("pose_landmark/pose_landmark_full")
    made = conversion(CONVERTER, path, "tflite", tmp_path / "to")
    assert not compared(made, CONVERTER, "MediaPipe: pose_landmark_full").within


def test_a_quantised_model_that_rounds_otherwise_is_seen_by_the_comparison(tmp_path: Path) -> None:
    path = lite(tmp_path / "model.bin", whole_numbers=True)
    report = compared(conversion(CONVERTER, path, "tflite", tmp_path / "to"), CONVERTER, "TensorFlow Lite: int8")
    assert report.within == (report.largest_error < 1e-4)
    assert report.largest_error < 0.05  # some steps of 1/256, and no other answer


def test_operators_that_were_left_as_they_are_get_named(tmp_path: Path) -> None:
    folder = saved(Letters(), tmp_path / "model")
    refused(CONVERTER, folder, "saved-model", tmp_path / "to", "SavedModel: lengths of texts", "StringLength")


def test_a_graph_that_writes_files_writes_none(tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    folder = saved(Writer(str(planted)), tmp_path / "model")
    planted.unlink(missing_ok=True)  # tracing may have run it here
    with isolation.workplace() as work:
        job = Job(
            source=str(folder), detected=detect(folder), framework="tensorflow", folder=str(work / "bundle"),
            options=Options(),
        )  # fmt: skip
        with pytest.raises(RefusedError):
            isolation.run(job, Limits(seconds=120))
    assert not planted.exists()


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_file_that_was_cut_short_is_refused_or_ends_its_process_alone(share: float, tmp_path: Path) -> None:
    whole = lite(tmp_path / "model.tflite", whole_numbers=False).read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(whole[: int(len(whole) * share)])
    with isolation.workplace() as work:
        job = Job(
            source=str(path), detected=detect(path), framework="tensorflow", folder=str(work / "bundle"),
            options=Options(),
        )  # fmt: skip
        with pytest.raises(RefusedError):
            isolation.run(job, Limits(seconds=120))

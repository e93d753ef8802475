"""TensorFlow's models become ONNX that answers as they do; operators without a translation are found and named."""

import os
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
from tests.converters.converting import compared, conversion

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


@pytest.mark.parametrize("module", [Table, Pictures])
def test_a_savedmodel_keeps_its_signatures_names_and_answers(module: Any, tmp_path: Path) -> None:
    folder = saved(module(), tmp_path / "model")
    assert detect(folder).format == "saved-model"
    family = f"SavedModel: {module.__name__.lower()}"
    report = compared(conversion(CONVERTER, folder, "saved-model", tmp_path / "to"), CONVERTER, family)
    assert report.within
    assert report.batch_sizes[:2] == (1, 3)
    assert {output.name for output in report.outputs} == ({"y", "z"} if module is Table else {"classes"})


def test_a_frozen_graph_answers_as_before(tmp_path: Path) -> None:
    path = frozen(Table(), tmp_path / "model.pb")
    assert detect(path).format == "frozen-graph"
    report = compared(conversion(CONVERTER, path, "frozen-graph", tmp_path / "to"), CONVERTER, "frozen graph: table")
    assert report.within
    assert len(report.outputs) == 2


def test_a_tensorflow_lite_model_answers_as_its_own_kernels(tmp_path: Path) -> None:
    path = lite(tmp_path / "model.bin", whole_numbers=False)
    assert detect(path).format == "tflite"
    made = conversion(CONVERTER, path, "tflite", tmp_path / "to")
    assert compared(made, CONVERTER, "TensorFlow Lite: pictures").within


def test_a_quantised_model_that_rounds_otherwise_is_seen_by_the_comparison(tmp_path: Path) -> None:
    path = lite(tmp_path / "model.bin", whole_numbers=True)
    report = compared(conversion(CONVERTER, path, "tflite", tmp_path / "to"), CONVERTER, "TensorFlow Lite: int8")
    assert report.within == (report.largest_error < 1e-4)
    assert report.largest_error < 0.05  # some steps of 1/256, and no other answer


def test_operators_that_were_left_as_they_are_get_named(tmp_path: Path) -> None:
    folder = saved(Letters(), tmp_path / "model")
    with pytest.raises(RefusedError, match="StringLength"):
        conversion(CONVERTER, folder, "saved-model", tmp_path / "to")


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

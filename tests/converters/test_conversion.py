"""A conversion in its own process, from the file to the record."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from converters import isolation
from converters.detection import detect
from converters.isolation import Limits
from converters.job import Done, Job
from converters.options import Options


@pytest.fixture
def model(tmp_path: Path) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"], axis=1)], "g", [x], [y])
    path = tmp_path / "model.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def converted(source: Path, bundle: Path, options: Options) -> Done:
    job = Job(source=str(source), detected=detect(source), framework="onnx", folder=str(bundle), options=options)
    return isolation.run(job, Limits(seconds=60))


def test_an_onnx_model_comes_out_with_a_newer_opset_and_the_same_answers(model: Path) -> None:
    with isolation.workplace() as work:
        done = converted(model, work / "bundle", Options(opset=21))
        assert done.record.parity.within
        assert done.record.parity.largest_error == 0
        assert done.record.opset == 21
        assert {layer[0]: layer[1] for layer in done.layers}["Landlock"]
        assert (work / "bundle" / "vectors" / "parity.json").is_file()
    assert not work.exists()

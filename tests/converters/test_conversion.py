"""A conversion in its own process, from the file to the record."""

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.core.errors import RefusedError
from converters import isolation, precision
from converters.detection import detect
from converters.frameworks.onnx import CONVERTER
from converters.isolation import Limits
from converters.job import Done, Job
from converters.options import Options
from tests.converters.converting import compared, conversion, refused


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


def test_an_opset_that_a_converter_does_not_write_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    source = tmp_path / "model.csv"
    source.write_text("# glm family=binomial link=logit\nterm,estimate\n(Intercept),-1\nage,0.5\n")
    with isolation.workplace() as work:
        folder = str(work / "bundle")
        job = Job(source=str(source), detected=detect(source), framework="glm", folder=folder, options=Options(opset=9))
        done = isolation.run(job, Limits(seconds=60))
    assert any(note.startswith("opset 9 was asked for, and GLM models come out in ") for note in done.record.notes)


def test_operators_that_changed_answer_alike_in_a_newer_opset(tmp_path: Path) -> None:
    """Softmax had another meaning then, and a sum's axes were an attribute."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2, 1])
    ends = [helper.make_tensor(name, TensorProto.INT64, [1], [at]) for name, at in (("start", 1), ("end", 3))]
    nodes = [
        helper.make_node("Softmax", ["x"], ["shares"], axis=2),
        helper.make_node("Slice", ["shares", "start", "end", "start"], ["some"]),
        helper.make_node("ReduceSum", ["some"], ["y"], axes=[2], keepdims=1),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], ends)
    path = tmp_path / "model.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    made = conversion(CONVERTER, path, "onnx", tmp_path / "to", opset=21)
    report = compared(made, CONVERTER, "softmax, slice and sum of opset 11, to 21")
    assert report.within
    assert onnx.load(made.model).opset_import[0].version == 21


@pytest.mark.parametrize(
    ("operator", "opset", "ir_version", "sentence"),
    [
        ("Softmax", 13, 99, "ONNX's format 99 and the newest known here"),
        ("Softmax", 99, 8, "opset 99 and the newest known here.*opset_version"),
        ("Frobnicate", 13, 8, "the operator Frobnicate, which onnxruntime does not know"),
    ],
)
def test_a_model_that_is_newer_or_of_operators_of_its_own_is_refused_with_a_way_out(
    operator: str, opset: int, ir_version: int, sentence: str, tmp_path: Path
) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", [x], [y])
    opsets = [helper.make_opsetid("", opset)]
    (tmp_path / "model.onnx").write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()
    )
    refused(CONVERTER, tmp_path / "model.onnx", "onnx", tmp_path / "to", f"{operator} of opset {opset}", sentence)


def test_a_model_that_draws_random_numbers_is_told_of_as_such(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 3]) for name in "xy")
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["noise"]), helper.make_node("Add", ["x", "noise"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y])
    path = tmp_path / "model.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    with isolation.workplace() as work:
        record = converted(path, work / "bundle", Options()).record
    assert not record.parity.within
    assert "RandomNormalLike" in record.notes[-1]


@pytest.mark.parametrize("word", ["float16", "int8"])
def test_what_would_be_the_same_in_lower_precision_is_refused(word: Literal["float16", "int8"], tmp_path: Path) -> None:
    x, y = (
        helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, ["rows", width])
        for name, width in (("x", 2), ("y", 3))
    )
    weights = numpy_helper.from_array(np.ones((2, 3)), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    path = tmp_path / "model.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    with pytest.raises(RefusedError, match=f"what it is with {word}.*without --{word}"):
        precision.reduce(path, word)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx"]


def test_int8_is_compared_on_rows_of_one_size(tmp_path: Path) -> None:
    """As a batch of rows a thousand times apart says nothing of a model that measures all of them by one number."""
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.3, shape).astype(np.float32) for shape in ((16, 32), (32, 5))]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(*named) for named in (("x", 1, ["rows", 16]), ("y", 1, ["rows", 5])))
    held = [numpy_helper.from_array(array, name) for array, name in zip(weights, ("first", "second"), strict=True)]
    path = tmp_path / "model.onnx"
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    with isolation.workplace() as work:
        record = converted(path, work / "bundle", Options(int8=True)).record
    assert record.parity.within
    assert record.parity.largest_error > 0

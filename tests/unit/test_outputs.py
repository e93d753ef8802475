"""A worker's answers in V2's binary form: each call has its own text, also where the last one's could serve again."""

import numpy as np
import orjson
import pytest

from appliance.core.frames import AnswerForm, Invoke, OutputWish
from appliance.core.manifest import Manifest
from appliance.core.tensors import TensorSpec
from appliance.workers.outputs import Array, OutputWriter

_SPECS = (TensorSpec("scores", "FP32", (-1, 2)), TensorSpec("counts", "INT64", (-1,)))
_ALL = Invoke(1, AnswerForm.V2_JSON, [], binary=True)


def _written(writer: OutputWriter, outputs: list[Array], invoke: Invoke = _ALL) -> list[tuple[object, ...]]:
    """Name, dtype, shape and elements of each output that was written."""
    _, text_size, parts, size = writer.write(invoke, outputs, batched=True)
    body = b"".join(parts)
    assert len(body) == size
    read, position = [], text_size
    for output in orjson.loads(body[:text_size]):
        end = position + output["parameters"]["binary_data_size"]
        numbers = np.frombuffer(body[position:end], {"FP32": "<f4", "INT64": "<i8"}[output["datatype"]])
        read.append((output["name"], output["datatype"], output["shape"], numbers.tolist()))
        position = end
    assert position == size
    return read


def _outputs(rows: int, first: int) -> list[Array]:
    return [np.full((rows, 2), first, np.float32), np.arange(first, first + rows)]


@pytest.mark.parametrize("rows", [(1, 1), (1, 3), (3, 1), (0, 1), (2, 0)])
def test_each_call_has_its_own_shapes_and_elements(rows: tuple[int, int]) -> None:
    writer = OutputWriter(_SPECS, Manifest(), memoryview(bytearray()))
    for first, count in enumerate((*rows, rows[0])):
        assert _written(writer, _outputs(count, first)) == [
            ("scores", "FP32", [count, 2], [float(first)] * 2 * count),
            ("counts", "INT64", [count], list(range(first, first + count))),
        ]


def test_what_is_asked_for_by_name_comes_in_that_order_after_a_call_for_all() -> None:
    writer = OutputWriter(_SPECS, Manifest(), memoryview(bytearray()))
    _written(writer, _outputs(1, 5))
    asked = Invoke(2, AnswerForm.V2_JSON, [], [OutputWish("counts", binary=True)], binary=True)
    assert _written(writer, _outputs(1, 7), asked) == [("counts", "INT64", [1], [7])]
    assert [name for name, *_ in _written(writer, _outputs(1, 8))] == ["scores", "counts"]


def test_a_model_without_outputs_answers_an_empty_list() -> None:
    writer = OutputWriter((), Manifest(), memoryview(bytearray()))
    assert _written(writer, []) == []


def test_strings_whose_bytes_differ_in_one_shape_are_measured_anew() -> None:
    writer = OutputWriter((TensorSpec("word", "BYTES", (1,)),), Manifest(), memoryview(bytearray()))
    for word in ("short", "much longer"):
        _, text_size, parts, _ = writer.write(_ALL, [np.array([word], object)], batched=False)
        (output,) = orjson.loads(b"".join(parts)[:text_size])
        assert output["parameters"]["binary_data_size"] == 4 + len(word)

"""Calls that go to a peer as one: which may, what is sent for them, and how each gets its own rows back."""

from typing import Any

import numpy as np
import orjson
import pytest

from appliance.core.errors import WorkerFailedError
from appliance.core.frames import AnswerForm, Encoding, Invoke, OutputWish, SharedPlace, TensorHead
from appliance.core.tensors import TensorSpec
from appliance.gateway.joint_rows import MAX_CALL_BYTES, Alike, alike, answers, gives_rows, joined

RAW, JSON = Encoding.RAW, Encoding.JSON
TENSORS, V2 = AnswerForm.TENSORS, AnswerForm.V2_JSON


def tensor(name: str, shape: list[int], dtype: str = "FP32", encoding: int = RAW, **more: Any) -> TensorHead:
    return TensorHead(name, dtype, shape, encoding, 4 * int(np.prod(shape)), **more)


def call(*tensors: TensorHead, form: int = TENSORS, **more: Any) -> tuple[Invoke, list[bytes]]:
    return Invoke(1, form, list(tensors), **more), [bytes(one.size_bytes) for one in tensors]


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        pytest.param(call(tensor("x", [1, 2])), 1, id="one row"),
        pytest.param(call(tensor("x", [3, 2]), tensor("y", [3])), 3, id="several tensors of as many rows"),
        pytest.param(call(tensor("x", [1, 2]), form=V2, binary=True), 1, id="V2's JSON that describes binary outputs"),
        pytest.param(
            call(tensor("x", [1]), form=V2, outputs=[OutputWish("y", binary=True)]), 1, id="outputs asked for by name"
        ),
        pytest.param(call(tensor("x", [1]), outputs=[OutputWish("y")]), 1, id="gRPC's outputs are always raw"),
        pytest.param(call(tensor("x", [2, 0])), 2, id="rows without elements"),
    ],
)
def test_small_raw_calls_may_go_with_others(asked: tuple[Invoke, list[bytes]], rows: int) -> None:
    found = alike(*asked, 5)
    assert found is not None
    assert found[1] == rows


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(call(tensor("x", [])), id="a scalar has no rows"),
        pytest.param(call(tensor("x", [0, 2])), id="no rows"),
        pytest.param(call(tensor("x", [1, 2]), tensor("y", [2])), id="unlike rows"),
        pytest.param(call(), id="no tensors"),
        pytest.param(call(tensor("x", [1], "BYTES")), id="texts, whose number only the worker counts"),
        pytest.param(call(tensor("x", [1], encoding=JSON)), id="JSON"),
        pytest.param(call(tensor("x", [1], offset=64)), id="what lies in shared memory"),
        pytest.param(call(tensor("x", [1]), form=V2), id="outputs as JSON"),
        pytest.param(call(tensor("x", [1]), form=V2, binary=True, outputs=[OutputWish("y")]), id="one output as JSON"),
        pytest.param(call(tensor("x", [1]), outputs=[OutputWish("y", class_count=2)]), id="classes"),
        pytest.param(
            call(tensor("x", [1]), outputs=[OutputWish("y", True, 0, SharedPlace("r", 0, 9))]), id="memory of its own"
        ),
        pytest.param(call(tensor("x", [1]), form=AnswerForm.PLAIN), id="a plain call"),
        pytest.param(call(tensor("x", [1]), form=AnswerForm.GENERATE), id="V2's generate"),
        pytest.param(call(tensor("x", [1, MAX_CALL_BYTES // 4 + 1])), id="a large one"),
    ],
)
def test_other_calls_go_by_themselves(asked: tuple[Invoke, list[bytes]]) -> None:
    assert alike(*asked, 5) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (call(tensor("x", [1, 2])), call(tensor("x", [7, 2])), True),
        (call(tensor("x", [1, 2])), call(tensor("x", [1, 3])), False),
        (call(tensor("x", [1, 2])), call(tensor("x", [1, 2], "INT32")), False),
        (call(tensor("x", [1])), call(tensor("y", [1])), False),
        (call(tensor("x", [1])), call(tensor("x", [1]), tensor("y", [1])), False),
        (call(tensor("x", [1])), call(tensor("x", [1]), form=V2, binary=True), False),
        (call(tensor("x", [1]), outputs=[OutputWish("a")]), call(tensor("x", [1]), outputs=[OutputWish("b")]), False),
        (call(tensor("x", [1]), outputs=[OutputWish("a")]), call(tensor("x", [1])), False),
    ],
)
def test_those_go_together_that_differ_in_rows_alone(
    one: tuple[Invoke, list[bytes]], other: tuple[Invoke, list[bytes]], same: bool
) -> None:
    first, second = alike(*one, 5), alike(*other, 5)
    assert first is not None
    assert second is not None
    assert (first[0] == second[0]) is same


def test_calls_of_unlike_priority_do_not_go_together() -> None:
    first, second = (alike(*call(tensor("x", [1])), priority) for priority in (1, 2))
    assert first is not None
    assert second is not None
    assert first[0] != second[0]


@pytest.mark.parametrize("form", [TENSORS, V2])
def test_each_call_gets_the_rows_that_it_sent(form: int) -> None:
    shared = Alike(form, 5, (("x", "FP32", (2,)), ("n", "INT32", ())), None)
    counts = [1, 3, 1]
    x, n = np.arange(10, dtype="<f4").reshape(5, 2), np.arange(5, dtype="<i4")
    starts = [0, 1, 4]
    calls = [
        (x[first : first + count].tobytes(), n[first : first + count].tobytes())
        for first, count in zip(starts, counts, strict=True)
    ]
    heads, bodies, wishes = joined(shared, 5, calls)
    assert [(head.name, head.shape, head.size_bytes) for head in heads] == [("x", [5, 2], 40), ("n", [5], 20)]
    assert bodies == [x.tobytes(), n.tobytes()]
    assert wishes is None
    # A model that gives its inputs back.
    for first, count, own in zip(starts, counts, answers(shared, heads, b"".join(bodies), counts), strict=True):
        body = own.body[own.text_size :]
        assert body == x[first : first + count].tobytes() + n[first : first + count].tobytes()
        shapes = [("x", [count, 2], 8 * count), ("n", [count], 4 * count)]
        if form == TENSORS:
            assert [(head.name, head.shape, head.size_bytes) for head in own.heads] == shapes
        else:
            assert own.heads == []
            assert [
                (output["name"], output["shape"], output["parameters"]["binary_data_size"])
                for output in orjson.loads(own.body[: own.text_size])
            ] == shapes


def test_outputs_that_were_named_are_asked_for_as_raw_tensors() -> None:
    _, _, wishes = joined(Alike(V2, 5, (("x", "FP32", ()),), ("b", "a")), 1, [(bytes(4),)])
    assert wishes == [OutputWish("b", True), OutputWish("a", True)]


@pytest.mark.parametrize(
    ("heads", "size_bytes"),
    [
        ([tensor("y", [4])], 16),  # not the rows that were sent
        ([tensor("y", [])], 4),
        ([tensor("y", [5, 2])], 36),  # fewer bytes than it says
        ([TensorHead("y", "FP32", [5, 2], RAW, 36)], 36),
        ([TensorHead("y", "FP32", [5, -2], RAW, -40)], -40),
        ([tensor("y", [5], "BYTES")], 20),
        ([tensor("y", [5], "FP31")], 20),
        ([tensor("y", [5], encoding=JSON)], 20),
    ],
)
def test_an_answer_without_the_calls_rows_is_no_answer(heads: list[TensorHead], size_bytes: int) -> None:
    shared = Alike(TENSORS, 5, (("x", "FP32", ()),), None)
    with pytest.raises(WorkerFailedError):
        answers(shared, heads, bytes(max(0, size_bytes)), [2, 3])


@pytest.mark.parametrize(
    ("outputs", "may"),
    [
        ([TensorSpec("y", "FP32", (-1, 2)), TensorSpec("n", "INT64", (-1,))], True),
        ([TensorSpec("y", "FP32", (-1,)), TensorSpec("label", "BYTES", (-1,))], False),
        ([TensorSpec("y", "FP32", ())], False),
    ],
)
def test_only_what_has_rows_of_one_size_can_be_cut(outputs: list[TensorSpec], may: bool) -> None:
    assert gives_rows(outputs) is may

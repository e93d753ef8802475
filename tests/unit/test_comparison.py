"""Two answers held against each other, as tables."""

import struct

import pytest

from appliance.core.frames import Answer, AnswerForm, TensorHead
from appliance.gateway.comparison import compare


def raw(*values: float, dtype: str = "FP32", letter: str = "f") -> tuple[Answer, bytes]:
    body = struct.pack(f"<{len(values)}{letter}", *values)
    return Answer(1, [TensorHead("y", dtype, [len(values)], 0, len(body))]), body


def text(content: str, *, binary: bytes = b"") -> tuple[Answer, bytes]:
    return Answer(1, [], len(content)), content.encode() + binary


def test_equal_answers_are_the_same_whatever_call_they_belong_to() -> None:
    one, other = raw(1.0, 2.0), raw(1.0, 2.0)
    other[0].call = 7
    assert compare(AnswerForm.TENSORS, one, other).same


@pytest.mark.parametrize(
    ("one", "other", "absolute"),
    [
        (raw(1.0, 2.0), raw(1.0, 2.5), 0.5),
        (raw(1, -3, dtype="INT64", letter="q"), raw(1, 4, dtype="INT64", letter="q"), 7),
        (raw(1.0, dtype="FP16", letter="e"), raw(1.5, dtype="FP16", letter="e"), 0.5),
        (raw(0x3F80, dtype="BF16", letter="H"), raw(0x4000, dtype="BF16", letter="H"), 1.0),
    ],
)
def test_numbers_tell_how_far_apart_they_are(
    one: tuple[Answer, bytes], other: tuple[Answer, bytes], absolute: float
) -> None:
    found = compare(AnswerForm.TENSORS, one, other)
    assert (found.same, found.comparable, found.absolute) == (False, True, absolute)


def test_other_shapes_or_words_cannot_be_measured() -> None:
    assert not compare(AnswerForm.TENSORS, raw(1.0), raw(1.0, 2.0)).comparable
    assert not compare(AnswerForm.TENSORS, raw(float("nan")), raw(1.0)).comparable


def test_json_answers_are_compared_by_their_numbers() -> None:
    one = text('[{"name":"y","datatype":"FP32","shape":[2],"data":[1.0,2.0]}]')
    other = text('[{"name":"y","datatype":"FP32","shape":[2],"data":[1.0,4.0]}]')
    found = compare(AnswerForm.V2_JSON, one, other)
    assert (found.comparable, found.absolute, found.relative) == (True, 2.0, 0.5)


def test_binary_outputs_behind_the_json_are_compared_too() -> None:
    head = '[{"name":"y","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]'
    found = compare(
        AnswerForm.V2_JSON, text(head, binary=struct.pack("<f", 1.0)), text(head, binary=struct.pack("<f", 3.0))
    )
    assert (found.comparable, found.absolute) == (True, 2.0)


def test_plain_answers_are_compared_with_their_labels() -> None:
    one = text('"outputs":{"y":[[0.9]]},"labels":[[{"label":"cat","score":0.9}]]')
    other = text('"outputs":{"y":[[0.8]]},"labels":[[{"label":"dog","score":0.8}]]')
    assert not compare(AnswerForm.PLAIN, one, other).comparable


def test_what_is_no_json_is_only_told_to_be_unlike() -> None:
    assert not compare(AnswerForm.V2_JSON, text("[1"), text("[2")).comparable

"""Plain answers: outputs as nested lists, labels with scores."""

import json
import math

import msgspec
import numpy as np
import pytest
from plain_cases import declares

from appliance.core.manifest import Manifest, OutputDeclaration
from appliance.workers.plain.answer import plain_answer

CATS = Manifest(labels=("no", "yes", "maybe"), top_k=2)


def answered(outputs, dtypes, manifest=None):
    return json.loads(b"{" + plain_answer(outputs, dtypes, manifest or Manifest()) + b"}")


@pytest.mark.parametrize(
    ("dtype", "array", "written"),
    [
        ("FP32", np.array([[0.1, 1.0]], np.float32), "[[0.1,1.0]]"),  # not 0.10000000149011612
        ("FP64", np.array([0.1, 1e-7]), "[0.1,1e-7]"),
        ("FP16", np.array([0.5, 65504], np.float16), "[0.5,65504.0]"),
        ("BF16", np.array([0x3F80, 0xC000], np.uint16), "[1.0,-2.0]"),
        ("INT8", np.array([-128], np.int8), "[-128]"),
        ("UINT8", np.array([255], np.uint8), "[255]"),
        ("INT16", np.array([-32768], np.int16), "[-32768]"),
        ("UINT16", np.array([65535], np.uint16), "[65535]"),
        ("INT32", np.array([-1], np.int32), "[-1]"),
        ("UINT32", np.array([2**32 - 1], np.uint32), "[4294967295]"),
        ("INT64", np.array([-(2**63)], np.int64), "[-9223372036854775808]"),
        ("UINT64", np.array([2**64 - 1], np.uint64), "[18446744073709551615]"),
        ("BOOL", np.array([[True], [False]]), "[[true],[false]]"),
        ("BYTES", np.array([["é", ""]], object), '[["é",""]]'),
        ("BYTES", np.array([b"ab"], object), '["ab"]'),
        ("BYTES", np.array("a", object), '"a"'),
        ("FP32", np.array(0.1, np.float32), "0.1"),
        ("INT64", np.array(3), "3"),
        ("BOOL", np.array(True), "true"),
        ("FP32", np.zeros((0, 4), np.float32), "[]"),
        ("FP32", np.zeros((2, 0), np.float32), "[[],[]]"),
        ("BYTES", np.empty((0,), object), "[]"),
        ("FP32", np.arange(6, dtype=np.float32).reshape(2, 3).T, "[[0.0,3.0],[1.0,4.0],[2.0,5.0]]"),
        (
            "FP32",
            np.array([[math.nan, 0.1], [math.inf, -math.inf]], np.float32),
            '[["NaN",0.1],["Infinity","-Infinity"]]',
        ),
        ("FP64", np.array([[math.nan, math.inf]]).T, '[["NaN"],["Infinity"]]'),
        ("FP16", np.array([-math.inf], np.float16), '["-Infinity"]'),
        ("BF16", np.array([0x7F80, 0x7FC0], np.uint16), '["Infinity","NaN"]'),
        ("FP64", np.array(math.nan), '"NaN"'),
    ],
)
def test_each_type_is_written_in_its_own_digits(dtype, array, written):
    assert plain_answer({"y": array}, {"y": dtype}, Manifest()) == b'"outputs":{"y":%b}' % written.encode()


def test_outputs_keep_the_model_s_order_and_any_name():
    outputs = {'b"\n': np.ones(1, np.int64), "a": np.ones(1, np.int64)}
    assert list(answered(outputs, dict.fromkeys(outputs, "INT64"))["outputs"]) == ['b"\n', "a"]


def test_without_labels_there_is_no_member_for_them():
    assert "labels" not in answered({"y": np.zeros((1, 3), np.float32)}, {"y": "FP32"})


def test_each_row_has_its_best_labels():
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]], np.float32)
    assert answered({"y": scores}, {"y": "FP32"}, CATS)["labels"] == [
        [{"label": "yes", "score": 0.7}, {"label": "maybe", "score": 0.2}],
        [{"label": "no", "score": 0.5}, {"label": "maybe", "score": 0.4}],
    ]


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 3, 1, 1), (1, 1, 1, 3)])
def test_axes_of_size_one_do_not_hide_a_row_of_scores(shape):
    rows = answered({"y": np.array([1.0, 3.0, 2.0]).reshape(shape)}, {"y": "FP64"}, CATS)["labels"]
    assert [[one["label"] for one in row] for row in rows] == [["yes", "maybe"]]


def test_equal_scores_come_in_the_labels_order_and_what_is_no_number_last():
    rows = answered(
        {"y": np.array([[math.nan, 1.0, 1.0]], np.float16)}, {"y": "FP16"}, Manifest(labels=("a", "b", "c"))
    )
    assert rows["labels"] == [[{"label": "b", "score": 1}, {"label": "c", "score": 1}, {"label": "a", "score": "NaN"}]]


def test_the_scores_are_found_among_outputs_by_their_number():
    outputs = {
        "boxes": np.zeros((1, 4), np.float32),
        "id": np.zeros((1, 3), np.int64),
        "scores": np.eye(1, 3, dtype=np.float32),
    }
    dtypes = {"boxes": "FP32", "id": "INT64", "scores": "FP32"}
    assert answered(outputs, dtypes, CATS)["labels"][0][0] == {"label": "no", "score": 1}


def test_a_declared_output_has_the_labels():
    outputs = {"first": np.eye(1, 3, dtype=np.float32), "second": np.eye(1, 3, 2, dtype=np.float32)}
    manifest = declares(labels=list(CATS.labels), top_k=1, output=[{"name": "second", "labels": True}])
    assert answered(outputs, dict.fromkeys(outputs, "FP32"), manifest)["labels"] == [[{"label": "maybe", "score": 1}]]


def test_a_declared_output_of_class_numbers_names_the_class():
    manifest = declares(labels=list(CATS.labels), output=[{"name": "y", "labels": True}])
    for array in (np.array([2, 0, 9]), np.array([[2], [0], [9]])):
        rows = answered({"y": array}, {"y": "INT64"}, manifest)["labels"]
        assert [row[0]["label"] for row in rows] == ["maybe", "no", "9"]
    assert answered({"y": np.array(1)}, {"y": "INT64"}, manifest)["labels"] == [[{"label": "yes", "score": 1}]]


@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        ("FP32", np.zeros((1, 4), np.float32)),
        ("FP32", np.zeros((0, 3), np.float32)),
        ("FP32", np.zeros((), np.float32)),
        ("FP32", np.zeros((2, 3, 5), np.float32)),
        ("BYTES", np.array([["a", "b", "c"]], object)),
        ("BOOL", np.array([[True, False, True]])),
    ],
)
def test_an_output_that_is_no_row_of_scores_has_no_labels(dtype, array):
    assert "labels" not in answered({"y": array}, {"y": dtype}, CATS)


def test_fewer_labels_than_top_k_are_all_of_them():
    rows = answered({"y": np.array([[1.0, 2.0, 3.0]])}, {"y": "FP64"}, Manifest(labels=("a", "b", "c"), top_k=5))[
        "labels"
    ]
    assert len(rows[0]) == 3


def test_each_part_of_a_text_is_labelled_with_its_place():
    text = {"name": "text", "as": "text", "tokenizer": "tokenizer.json", "offsets": "offsets"}
    manifest = msgspec.structs.replace(
        declares(text), labels=("O", "PER"), output=(OutputDeclaration("scores", labels=True),)
    )
    scores = np.array([[[0.5, 0.5], [0.1, 0.9], [0.8, 0.2]], [[0.2, 0.8], [0.3, 0.7], [0.1, 0.9]]], np.float32)
    offsets = np.array([[[0, 0], [0, 6], [7, 9]], [[0, 0], [0, 4], [0, 0]]])
    told = answered({"scores": scores, "offsets": offsets}, {"scores": "FP32", "offsets": "INT64"}, manifest)
    assert told["labels"] == [
        [{"label": "PER", "score": 0.9, "start": 0, "end": 6}],
        [{"label": "PER", "score": 0.7, "start": 0, "end": 4}],
    ]
    other = answered({"scores": scores[:, :2], "offsets": offsets}, {"scores": "FP32", "offsets": "INT64"}, manifest)
    assert "labels" not in other

"""JSON content: a row, rows, records, named inputs; every number, and every number's fault."""

import math

import numpy as np
import pytest
from plain_cases import declares, one, takes

from appliance.core.errors import BadInputError
from appliance.core.manifest import Manifest
from appliance.workers.plain.content import tensors_from_content

JSON = "application/json"
FLOATS = takes(("x", "FP32", (-1, 2)))
COLUMNS = takes(("age", "FP32", (-1, 1)), ("city", "BYTES", (-1, 1)), ("member", "BOOL", (-1, 1)))
TABLE = declares({"name": "x", "as": "columns", "columns": ["b", "a"], "missing": -1})


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"[1, 2.5]", [[1, 2.5]]),
        (b"[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        (b'{"x": [1, 2]}', [[1, 2]]),
        (b'{"x": [[1, 2], [3, 4]]}', [[1, 2], [3, 4]]),
        (b'[{"x": [1, 2]}, {"x": [3, 4]}]', [[1, 2], [3, 4]]),
        (b'[{"x": [[1, 2]]}, {"x": [[3, 4]]}]', [[1, 2], [3, 4]]),
        (b"\xef\xbb\xbf[1, 2]", [[1, 2]]),
        (b"[1e-400, -0.0]", [[0, 0]]),
    ],
)
def test_a_row_rows_and_named_inputs_are_the_same_tensor(body, rows):
    tensor = one(JSON, body, FLOATS)
    assert tensor.dtype == np.float32
    assert tensor.tolist() == rows


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json", ""]
)
def test_json_is_known_by_its_type_and_without_a_type_by_its_bracket(content_type):
    assert one(content_type, b"[1, 2]", FLOATS).shape == (1, 2)


def test_a_text_that_is_missing_is_the_empty_one_where_the_manifest_has_a_word_for_it() -> None:
    declared = declares({"name": "city", "as": "columns", "columns": ["city"], "missing": "nan"})
    takes_city = takes(("city", "BYTES", (-1, 1)), ("age", "FP32", (-1, 1)))
    body = b'[{"city": null, "age": 1}, {"city": "Nice", "age": 2}]'
    assert tensors_from_content("application/json", body, takes_city, declared)["city"].tolist() == [[""], ["Nice"]]


def test_what_curl_sends_by_default_is_read_as_json():
    assert one("application/x-www-form-urlencoded", b'{"x": [1, 2]}', FLOATS).shape == (1, 2)


@pytest.mark.parametrize("body", [b'["NaN", "-Infinity"]', b"[NaN, -Infinity]"])
def test_numbers_that_json_lacks_come_as_words_or_tokens(body):
    tensor = one(JSON, body, FLOATS)
    assert math.isnan(tensor[0, 0])
    assert tensor[0, 1] == -math.inf


@pytest.mark.parametrize(
    ("dtype", "body", "says"),
    [
        ("FP32", b"[1]", "takes shape [any, 2], but the data has shape [1]"),
        ("FP32", b"[[1, 2], [3]]", "ragged"),
        ("FP32", b"[[1, 2], 3]", "ragged"),
        ("FP32", b"[1, null]", "empty value"),
        ("FP32", b"[1, true]", "holds True"),
        ("FP32", b'[1, "2"]', "holds '2'"),
        ("FP32", b'[1, {"a": 2}]', "holds an object"),
        ("FP32", b"[1, 1e39]", "1e+39"),
        ("FP16", b"[1, 65536]", "65536"),
        ("BF16", b"[1, 3.4e38]", "3.4e+38"),
        ("FP64", b"[1, 1e999]", "no JSON"),
        ("FP64", b"[NaN, 1e999]", "no JSON"),
        ("FP64", b"[NaN, " + b"9" * 400 + b"]", "beyond"),
        ("FP64", b"[NaN, " + b"9" * 5000 + b"]", "no JSON"),
        ("INT64", b"[1, 2.5]", "whole numbers"),
        ("INT64", b"[1, true]", "holds True"),
        ("INT64", b"[1, NaN]", "holds nan"),
        ("INT64", b"[1, Infinity]", "holds inf"),
        ("INT64", b"[1, 9223372036854775808]", "9223372036854775808"),
        ("INT64", b"[1, 1e300]", "1e+300"),
        ("UINT8", b"[1, 256]", "from 0 to 255, but its data holds 256"),
        ("UINT8", b"[1, -1]", "-1"),
        ("BOOL", b"[true, 2]", "true or false"),
        ("BOOL", b'[true, "true"]', "true or false"),
        ("BYTES", b'["a", 1]', "strings"),
        ("BYTES", b'["a", null]', "empty value"),
        ("BYTES", b'["a", "\\ud800"]', "no JSON|UTF-16"),
        ("FP32", b"", "empty"),
        ("FP32", b"[1, 2", "no JSON"),
        ("FP32", b"\xff\xfe\x00", "no JSON"),
        ("FP32", b"hello", "no JSON"),
        ("FP32", b"[]", "shape [0]"),
        ("FP32", b"null", "empty value"),
        ("FP32", b'"x"', "holds 'x'"),
        ("FP32", b"{}", "no member 'x'"),
        ("FP32", b'{"y": [1, 2]}', "no input 'y'"),
        ("FP32", b'{"x": [1, 2], "y": 1}', "no input 'y'"),
        ("FP32", b'[{"x": [1, 2]}, {}]', "no member 'x'"),
        ("FP32", b'[{"x": [1, 2]}, 3]', "holds"),
        ("FP32", b"[" * 20 + b"1" + b"]" * 20, "nested more than 16 deep"),
        ("FP32", b"[" * 200000, "no JSON|too deep"),
        ("FP32", b'{"x":' * 200000, "no JSON|too deep"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(dtype, body, says):
    with pytest.raises(BadInputError) as refused:
        one(JSON, body, takes(("x", dtype, (-1, 2))))
    assert any(words in refused.value.sentence for words in says.split("|")), refused.value.sentence


@pytest.mark.parametrize(
    ("dtype", "body", "values"),
    [
        ("INT64", b"[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
        ("UINT64", b"[18446744073709551615, 0]", [2**64 - 1, 0]),
        ("INT32", b"[3.0, -4.0]", [3, -4]),  # whole, whatever it looks like
        ("INT8", b"[127, -128]", [127, -128]),
        ("BOOL", b"[true, 0]", [True, False]),
        ("FP16", b"[0.5, 65504]", [0.5, 65504]),
        ("FP64", b"[0.1, 1e308]", [0.1, 1e308]),
        ("BYTES", '["h\u00e9", ""]'.encode(), ["hé", ""]),
    ],
)
def test_the_ends_of_each_type_are_taken(dtype, body, values):
    assert one(JSON, body, takes(("x", dtype, (-1, 2)))).tolist() == [values]


def test_bfloat16_is_rounded_to_the_nearest_even():
    bits = one(JSON, b'[1.0, 1.00390625, 1.01171875, "NaN"]', takes(("x", "BF16", (-1, 4))))
    assert bits.dtype == np.uint16
    assert bits.tolist() == [[0x3F80, 0x3F80, 0x3F82, 0x7FC0]]


@pytest.mark.parametrize(("shape", "body"), [((), b"5"), ((), b"[5]"), ((1,), b"5"), ((-1,), b"5"), ((-1, 1), b"5")])
def test_one_value_fills_an_input_of_one_value(shape, body):
    tensor = one(JSON, body, takes(("x", "FP32", shape)))
    assert tensor.size == 1
    assert tensor.ndim == len(shape)


def test_a_fixed_batch_is_taken_whole_and_not_in_part():
    fixed = takes(("x", "FP32", (2, 3)))
    assert one(JSON, b"[[1, 2, 3], [4, 5, 6]]", fixed).shape == (2, 3)
    with pytest.raises(BadInputError, match=r"takes shape \[2, 3\]"):
        one(JSON, b"[1, 2, 3]", fixed)


@pytest.mark.parametrize(
    "body",
    [
        b'{"age": 3, "city": "Oslo", "member": true}',
        b'[{"age": 3, "city": "Oslo", "member": true}]',
        b'{"age": [3], "city": ["Oslo"], "member": [true]}',
        b'[[3, "Oslo", true]]',
        b'[3, "Oslo", true]',
    ],
)
def test_inputs_of_one_column_each_take_records_and_rows(body):
    tensors = tensors_from_content(JSON, body, COLUMNS, Manifest())
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "age": [[3]],
        "city": [["Oslo"]],
        "member": [[True]],
    }


def test_a_row_with_a_value_too_few_is_named():
    with pytest.raises(
        BadInputError, match="row 2 has 2 values, but the model takes 3, in this order: age, city, member"
    ):
        tensors_from_content(JSON, b'[[3, "Oslo", true], [4, "Rome"]]', COLUMNS, Manifest())


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b'{"a": 1, "b": 2}', [[2, 1]]),
        (b'{"a": 1, "b": 2, "other": "left out"}', [[2, 1]]),
        (b'[{"a": 1, "b": 2}, {"b": 4, "a": null}]', [[2, 1], [4, -1]]),
        (b'{"a": [1, 3], "b": [2, 4]}', [[2, 1], [4, 3]]),
        (b'{"x": [[2, 1]]}', [[2, 1]]),
        (b"[2, 1]", [[2, 1]]),
    ],
)
def test_declared_columns_are_found_by_name_in_any_order(body, rows):
    assert one(JSON, body, FLOATS, TABLE).tolist() == rows


def test_a_declared_column_that_is_absent_is_named():
    with pytest.raises(BadInputError, match="no value for a: every declared column"):
        one(JSON, b'{"b": 1}', FLOATS, TABLE)


def test_a_column_may_bear_the_input_s_own_name():
    manifest = declares({"name": "x", "as": "columns", "columns": ["x", "y"]})
    assert one(JSON, b'{"y": 2, "x": 1}', FLOATS, manifest).tolist() == [[1, 2]]
    assert one(JSON, b'[{"y": 2, "x": 1}]', FLOATS, manifest).tolist() == [[1, 2]]


def test_an_optional_input_may_stay_away():
    signature = takes(("x", "FP32", (-1, 2)), ("scale", "FP32", ()), optional="scale")
    assert list(tensors_from_content(JSON, b'{"x": [1, 2]}', signature, Manifest())) == ["x"]
    assert list(tensors_from_content(JSON, b"[1, 2]", signature, Manifest())) == ["x"]
    tensors = tensors_from_content(JSON, b'{"x": [1, 2], "scale": 3}', signature, Manifest())
    assert tensors["scale"].tolist() == 3


def test_several_inputs_want_an_object_and_are_told():
    signature = takes(("x", "FP32", (-1, 2)), ("y", "INT64", (-1, 3)))
    with pytest.raises(BadInputError, match=r"a JSON object with a member for each. It takes 'x' \(FP32 \[any, 2\]\)"):
        tensors_from_content(JSON, b"[1, 2]", signature, Manifest())
    with pytest.raises(BadInputError, match="no member 'y'"):
        tensors_from_content(JSON, b'{"x": [1, 2]}', signature, Manifest())


def test_a_declared_shape_fixes_what_the_model_leaves_free():
    free = takes(("x", "FP32", (-1, -1)))
    manifest = declares({"name": "x", "shape": [-1, 2]})
    assert one(JSON, b"[1, 2]", free, manifest).shape == (1, 2)
    with pytest.raises(BadInputError, match=r"takes shape \[any, 2\]"):
        one(JSON, b"[1, 2, 3]", free, manifest)


def test_a_model_without_inputs_needs_no_content():
    assert tensors_from_content(JSON, b"", takes(), Manifest()) == {}

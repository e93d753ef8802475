"""Rows that a user gives, and what two answers are to each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from appliance.core.errors import RefusedError
from appliance.core.tensors import Signature, TensorSpec
from benchmarks import conversions
from converters.comparison import compare
from converters.samples import read_sample

TABLE = Signature((TensorSpec("x", "FP32", (-1, 3)),), ())
MIXED = Signature((TensorSpec("age", "FP64", (-1, 1)), TensorSpec("sex", "BYTES", (-1, 1))), ())
PICTURE = Signature((TensorSpec("image", "FP32", (-1, 3, 4, 5)),), ())


def test_a_csv_goes_to_one_input_in_order_or_by_the_declared_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("c,a,b\n1,2,3\n4,,6\n")
    (feed,) = read_sample(path, TABLE, {})
    np.testing.assert_array_equal(feed["x"], np.array([[1, 2, 3], [4, np.nan, 6]], np.float32))
    declared = {"input": [{"name": "x", "as": "columns", "columns": ["a", "b", "c"]}]}
    (feed,) = read_sample(path, TABLE, declared)
    assert feed["x"][0].tolist() == [2, 3, 1]
    path.write_text("1,2,3\n4,5,6\n")
    assert read_sample(path, TABLE, {})[0]["x"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_columns_go_to_inputs_of_their_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("sex,age\nweiblich \u00fc \U0001f642,31\n,\n")
    (feed,) = read_sample(path, MIXED, {})
    assert feed["sex"].tolist() == [["weiblich \u00fc \U0001f642"], [""]]
    assert (feed["age"][0, 0], bool(np.isnan(feed["age"][1, 0]))) == (31, True)


def test_arrays_and_pictures_are_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3)))
    assert read_sample(tmp_path / "a.npz", TABLE, {})[0]["x"].dtype == np.float32
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    assert read_sample(tmp_path / "a.npy", TABLE, {})[0]["x"].shape == (2, 3)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.new("RGB", (9, 7), (255, 0, 0)).save(folder / name)
    scaled = {"input": [{"name": "image", "as": "image", "scale": 1 / 255}]}
    feeds = read_sample(folder, PICTURE, scaled)
    assert [feed["image"].shape for feed in feeds] == [(1, 3, 4, 5)] * 2
    assert feeds[0]["image"][0, :, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"a,b\n1,2\n", "does not fit|no column"),
        ("a.csv", b"a,b,c\n1,2\n", "no table"),
        ("a.csv", b"a,b,c\nx,y,z\n", "does not fit"),
        ("a.npz", b"PK\x03\x04 broken", "does not fit"),
        ("a.npy", b"\x93NUMPY broken", "does not fit"),
        ("a.png", b"\x89PNG broken", "does not fit|takes no picture"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RefusedError, match=sentence):
        read_sample(tmp_path / name, TABLE, {})


@pytest.mark.parametrize(
    ("dtype", "original", "converted", "differ"),
    [
        ("FP32", [[1.0], [2.0]], [[1.00001], [2.0]], 0),
        ("FP32", [[1.0], [2.0]], [[1.001], [2.0]], 1),
        ("FP32", [[100.0, 1e-9]], [[100.0, 1e-3]], 0),  # as near as the row's largest number lets it be
        ("FP32", [[np.nan], [np.inf], [1.0]], [[np.nan], [np.inf], [1.0]], 0),
        ("FP32", [[np.nan], [np.inf], [1.0]], [[0.0], [-np.inf], [np.nan]], 3),
        ("INT64", [1, 2, 3], [1, 2, 4], 1),
        ("BYTES", ["a", "\u00fc"], [b"a", "\u00fc"], 0),
        ("BYTES", ["a", "\u00fc"], ["a", "u"], 1),
    ],
)
def test_rows_that_differ_are_counted(dtype: str, original: list[Any], converted: list[Any], differ: int) -> None:
    one, other = (np.array(rows, object if dtype == "BYTES" else None) for rows in (original, converted))
    found = compare("y", dtype, one, other)
    assert (found.rows_differ, found.rows) == (differ, len(original))
    assert found.labels_differ == (0 if dtype == "FP32" else differ)


def test_another_shape_is_a_fault_and_not_a_difference() -> None:
    assert "shape" in compare("y", "FP32", np.zeros((2, 3)), np.zeros((2, 1))).fault


def test_the_table_of_conversions_says_what_became_of_each(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(20))
    outcomes = [conversions.convert(path) for path in (conversions.ORIGINALS / "c_svc_two.svm", tmp_path / "m.gguf")]
    assert [outcome.converted for outcome in outcomes] == [True, False]
    assert "llama.cpp" in conversions.table(outcomes)

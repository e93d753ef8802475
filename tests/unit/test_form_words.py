"""How what callers send becomes an input is told to them, what is taken for granted of a picture above all."""

from typing import Any

import pytest
from plain_cases import declares, takes

from appliance.core.tensors import Signature
from appliance.workers.plain.form_words import form_words

PICTURE = takes(("x", "FP32", (-1, 3, 8, 8)))
ROWS = takes(("x", "FP32", (-1, 2)))


@pytest.mark.parametrize(
    ("signature", "declaration", "words"),
    [
        (PICTURE, {}, "picture: RGB, stretched; a value is 0-255, as nothing is declared"),
        (takes(("x", "FP32", (-1, 3, 8, 8)), ("y", "FP32", (1,))), {}, ""),
        (PICTURE, {"as": "image", "colour": "BGR", "resize": "crop", "scale": 0.5},
         "picture: BGR, its middle; a value is 0-255 x 0.5"),
        (PICTURE, {"as": "image", "mean": [1, 2, 3], "std": [4, 5, 6]},
         "picture: RGB, stretched; a value is (0-255 - (1, 2, 3)) / (4, 5, 6)"),
        (ROWS, {}, ""),
        (ROWS, {"as": "columns", "columns": ["a", "b"]}, "columns: a, b"),
        (takes(("x", "FP32", (-1, 22))), {"as": "columns", "columns": list("abcdefghijklmnopqrstuv")},
         "columns: a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t and 2 more"),
        (takes(("x", "FP32", (-1, -1))), {"as": "audio", "rate": 8000}, "recording: 8000 Hz, 1 channel"),
        (takes(("x", "BYTES", (-1,))), {"as": "text"}, "text"),
        (takes(("x", "INT32", (-1, 8))), {"as": "bytes", "head": 8}, "file: its bytes"),
    ],
)  # fmt: skip
def test_an_input_is_told_as_it_is_declared_or_taken(
    signature: Signature, declaration: dict[str, Any], words: str
) -> None:
    manifest = declares({"name": "x", **declaration}) if declaration else declares()
    assert form_words(signature.inputs[0], signature, manifest) == words


def test_a_state_is_told_to_be_one() -> None:
    manifest = declares(state=[{"input": "x", "output": "y"}])
    assert form_words(ROWS.inputs[0], ROWS, manifest) == "the sequence's state, from call to call"

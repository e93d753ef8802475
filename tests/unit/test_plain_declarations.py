"""A manifest that does not go with its model is refused at the deploy."""

import pytest
from plain_cases import declares, takes

from appliance.core.errors import RefusedError
from appliance.workers.plain.declarations import check_declarations

PICTURE = takes(("x", "FP32", (-1, 3, 8, 8)))
ROWS = takes(("x", "FP32", (-1, 4)))


@pytest.mark.parametrize(
    ("signature", "declaration"),
    [
        (PICTURE, {"as": "image", "size": [8, 8], "mean": [1, 2, 3]}),
        (PICTURE, {"shape": [1, 3, 8, 8]}),
        (PICTURE, {"shape": [3, 8, 8]}),
        (takes(("x", "FP32", (-1, -1))), {"as": "audio", "rate": 8000}),
        (takes(("x", "BYTES", (-1,))), {"as": "text"}),
        (takes(("x", "INT32", (-1, 8))), {"as": "bytes", "head": 4, "tail": 4, "padding": 256}),
        (takes(("x", "INT32", (-1, -1))), {"as": "bytes"}),
        (takes(("x", "INT32", (-1, 3))), {"as": "bytes"}),
        (takes(("x", "BYTES", (-1,))), {"as": "bytes"}),
        (ROWS, {"as": "columns", "columns": ["a", "b", "c", "d"]}),
        (takes(("x", "FP32", (2, 4))), {"as": "columns", "columns": ["a", "b", "c", "d"]}),
        (takes(("x", "FP32", (-1, -1))), {"as": "columns", "columns": ["a", "b"]}),
    ],
)
def test_a_declaration_that_fits_is_taken(signature, declaration):
    check_declarations(signature, declares({"name": "x", **declaration}))


@pytest.mark.parametrize(
    ("signature", "declaration", "says"),
    [
        (ROWS, {"name": "y"}, "input 'y' that the model does not have: It takes 'x' (FP32 [any, 4])"),
        (ROWS, {"shape": [-1, 5]}, "declared with shape [-1, 5], but is [-1, 4]"),
        (ROWS, {"shape": [1, 1, 4]}, "declared with shape"),
        (PICTURE, {"as": "image", "size": [9, 9]}, "one picture becomes [3, 9, 9]"),
        (ROWS, {"as": "image"}, "picture"),
        (ROWS, {"as": "audio", "channels": 2}, "no place for 2 channels"),
        (ROWS, {"as": "text"}, "declared as text, but is FP32 [-1, 4]"),
        (ROWS, {"as": "bytes", "head": 5}, "takes shape [any, 4], but 5 numbers"),
        (ROWS, {"as": "bytes", "head": -1}, "numbers of bytes"),
        (takes(("x", "UINT8", (-1, 20))), {"as": "bytes", "head": 20, "padding": 256}, "cannot hold"),
        (takes(("x", "BOOL", (-1, 4))), {"as": "bytes"}, "which bytes cannot fill"),
        (ROWS, {"as": "columns", "columns": ["a", "b"]}, "2 columns, but its shape is [-1, 4]"),
        (ROWS, {"as": "columns", "columns": ["a", "b", "c", "a"]}, "each once"),
        (ROWS, {"as": "columns", "columns": []}, "at least one"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused_with_a_sentence(signature, declaration, says):
    with pytest.raises(RefusedError) as refused:
        check_declarations(signature, declares({"name": "x", **declaration}))
    assert says in refused.value.sentence


def test_an_input_declared_twice_is_refused():
    with pytest.raises(RefusedError, match="'x' twice"):
        check_declarations(ROWS, declares({"name": "x"}, {"name": "x"}))

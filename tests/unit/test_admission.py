"""Which calls go on to a model, as a table over its signature."""

import pytest

from appliance.core.errors import BadInputError
from appliance.core.frames import Encoding, OutputWish, TensorHead
from appliance.core.tensors import Signature, TensorSpec
from appliance.routing.admission import Admission

SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 4)), TensorSpec("k", "INT64", ()), TensorSpec("w", "FP32", (2,), (), True)),
    (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("z", "BYTES", (-1,))),
)


def json(name: str, dtype: str, *shape: int) -> TensorHead:
    return TensorHead(name, dtype, list(shape), Encoding.JSON, 10)


X, K = json("x", "FP32", 3, 4), json("k", "INT64")


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param([X, K], id="all that is needed"),
        pytest.param([K, X], id="in any order"),
        pytest.param([X, K, json("w", "FP32", 2)], id="with what may be left out"),
        pytest.param([json("x", "FP32", 0, 4), K], id="no rows at all"),
        pytest.param([X, json("k", "INT64", 5, 5)], id="any shape where the model does not say one"),
        pytest.param([TensorHead("x", "FP32", [1, 4], Encoding.RAW, 16), K], id="binary of the right size"),
    ],
)
def test_a_call_that_fits_goes_on_each_time(tensors: list[TensorHead]) -> None:
    admission = Admission(SIGNATURE)
    for _ in range(2):
        admission.check(tensors, [OutputWish("z"), OutputWish("y")])


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ([X], "lacks the input 'k'"),
        ([X, K, json("v", "FP32", 1)], "no input 'v'"),
        ([X, X, K], "given twice"),
        ([json("x", "FP64", 3, 4), K], "is FP32, but FP64 came"),
        ([json("x", "FLOAT", 3, 4), K], "no V2 data type"),
        ([json("x", "FP32", 3, 5), K], "has shape"),
        ([json("x", "FP32", 4), K], "is the batch axis missing"),
        ([json("x", "FP32", -1, 4), K], "between 0 and"),
        ([json("x", "FP32", 2**41, 4), K], "between 0 and"),
        ([X, json("k", "INT64", *[2**20] * 3)], "more elements"),
        ([X, json("k", "INT64", *[1] * 17)], "dimensions"),
        ([TensorHead("x", "FP32", [1, 4], Encoding.RAW, 15), K], "takes 16 bytes"),
    ],
)
def test_a_call_that_does_not_fit_is_told_why_each_time(tensors: list[TensorHead], sentence: str) -> None:
    admission = Admission(SIGNATURE)
    admission.check([X, K], None)
    for _ in range(2):
        with pytest.raises(BadInputError, match=sentence):
            admission.check(tensors, None)


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [([OutputWish("q")], "no output 'q'"), ([OutputWish("y"), OutputWish("y")], "asked for twice")],
)
def test_outputs_are_asked_of_those_there_are(wishes: list[OutputWish], sentence: str) -> None:
    with pytest.raises(BadInputError, match=sentence):
        Admission(SIGNATURE).check([X, K], wishes)

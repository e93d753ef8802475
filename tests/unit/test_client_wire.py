"""What the Python client may ask again, and what it makes of arrays."""

import array
from typing import Any

import numpy as np
import pytest

from appliance.client_tensors import Tensor, array_of, tensor_of
from appliance.client_wire import (
    BrokenError,
    Infer,
    NotReachedError,
    is_asked_elsewhere,
    retry_wait_s,
    what_is_left,
)
from appliance.core.errors import BadInputError, BusyError, IngleError, UnavailableError, WorkerFailedError


@pytest.mark.parametrize(
    ("error", "ends_s", "wait_s"),
    [
        (BusyError("busy", retry_after_s=2.0), 110.0, 2.0),
        (UnavailableError("draining", retry_after_s=5.0), 110.0, 5.0),
        (BusyError("busy", retry_after_s=20.0), 110.0, None),  # past the deadline
        (BusyError("busy", retry_after_s=2.0), None, None),  # nobody said until when
        (BusyError("busy"), 110.0, None),
        (UnavailableError("the connection broke"), 110.0, None),  # it may have run
        (WorkerFailedError("died", retry_after_s=2.0), 110.0, None),
    ],
)
def test_only_what_was_not_run_is_asked_again_and_within_the_deadline(
    error: IngleError, ends_s: float | None, wait_s: float | None
) -> None:
    assert retry_wait_s(error, 100.0, ends_s) == wait_s


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        *((np.zeros((2, 3), kind), dtype, [2, 3]) for kind, dtype in (
            ("?", "BOOL"), ("i1", "INT8"), ("i2", "INT16"), ("i4", "INT32"), ("i8", "INT64"), ("u1", "UINT8"),
            ("u2", "UINT16"), ("u4", "UINT32"), ("u8", "UINT64"), ("f2", "FP16"), ("f4", "FP32"), ("f8", "FP64"),
        )),
        (np.float32(1.5), "FP32", []),
        (np.array(7), "INT64", []),
        (np.empty((0, 4), "f4"), "FP32", [0, 4]),
        (array.array("d", [1, 2]), "FP64", [2]),
        (b"abc", "UINT8", [3]),
        (["a", "β"], "BYTES", [2]),
        (np.array([["a"], ["bc"]]), "BYTES", [2, 1]),
        (np.array([b"a", "b"], object), "BYTES", [2]),
        ([], "BYTES", [0]),
    ],
)  # fmt: skip
def test_a_value_is_sent_as_what_it_is_and_comes_back_the_same(value: Any, dtype: str, shape: list[int]) -> None:
    tensor = tensor_of("x", value)
    assert (tensor.dtype, list(tensor.shape)) == (dtype, shape)
    back = array_of(tensor)
    assert back.shape == tuple(shape)
    if dtype != "BYTES":
        assert np.array_equal(back, value if not isinstance(value, bytes) else np.frombuffer(value, "u1"))
    else:
        texts = [v if isinstance(v, bytes) else str(v).encode() for v in np.array(value, object).reshape(-1)]
        assert list(back.reshape(-1)) == texts


def test_a_transposed_array_is_sent_in_c_order() -> None:
    value = np.arange(6, dtype=np.int32).reshape(2, 3).T
    assert np.array_equal(array_of(tensor_of("x", value)), value)


@pytest.mark.parametrize("value", [1.5, [1, 2], None, {"a": 1}, np.zeros(2, ">f4"), np.zeros(2, "c8")])
def test_what_has_no_dtype_here_is_refused_with_a_sentence(value: Any) -> None:
    with pytest.raises(BadInputError, match="input 'x'"):
        tensor_of("x", value)


def test_bf16_comes_as_its_bits() -> None:
    assert array_of(Tensor("BF16", [1], b"\x80\x3f")).tolist() == [0x3F80]


@pytest.mark.parametrize(
    ("error", "elsewhere"),
    [
        (NotReachedError("nobody there"), True),
        (BrokenError("it ended"), True),
        (UnavailableError("it drains", retry_after_s=1.0), True),
        (UnavailableError("it took too long"), False),  # so would another, perhaps
        (BusyError("come back", retry_after_s=1.0), False),
        (BadInputError("no"), False),
    ],
)
def test_another_node_is_asked_where_this_one_is_gone_or_takes_no_calls(error: IngleError, elsewhere: bool) -> None:
    assert is_asked_elsewhere(error) is elsewhere


@pytest.mark.parametrize(
    ("now_s", "ends_s", "left_s"), [(100.0, 130.0, 30.0), (131.0, 130.0, 0.001), (100.0, None, 9.0)]
)
def test_who_is_asked_later_is_told_what_is_left_of_the_deadline(
    now_s: float, ends_s: float | None, left_s: float
) -> None:
    asked = Infer("m", "", {}, None, 9.0, 0)
    assert what_is_left(asked, now_s, ends_s) == asked._replace(deadline_s=left_s)

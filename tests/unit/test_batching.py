"""Which calls share a run, as a table."""

from typing import NamedTuple

import pytest

from appliance.workers.batching import Form, next_batch

A: Form = (("x", "FP32", (4,)),)
B: Form = (("x", "FP32", (5,)),)


class Waiting(NamedTuple):
    form: Form | None
    rows: int


@pytest.mark.parametrize(
    ("calls", "max_rows", "run", "wait"),
    [
        pytest.param([Waiting(A, 1)], 8, [0], [], id="a call alone runs at once"),
        pytest.param([Waiting(A, 1), Waiting(A, 1), Waiting(A, 1)], 8, [0, 1, 2], [], id="like calls run together"),
        pytest.param([Waiting(A, 1), Waiting(B, 1), Waiting(A, 1)], 8, [0, 2], [1], id="other shapes wait in order"),
        pytest.param([Waiting(A, 3), Waiting(A, 3), Waiting(A, 2)], 5, [0, 2], [1], id="rows stay within the bound"),
        pytest.param([Waiting(A, 9), Waiting(A, 1)], 8, [0], [1], id="a call larger than the bound runs alone"),
        pytest.param([Waiting(None, 1), Waiting(None, 1)], 8, [0], [1], id="what cannot be batched runs alone"),
        pytest.param([Waiting(A, 1), Waiting(None, 1)], 8, [0], [1], id="a batch leaves out what must run alone"),
        pytest.param([Waiting(A, 1), Waiting(A, 1)], 1, [0], [1], id="a bound of one row turns batching off"),
    ],
)
def test_the_next_batch_is_greedy_and_fair(
    calls: list[Waiting], max_rows: int, run: list[int], wait: list[int]
) -> None:
    assert next_batch(calls, max_rows) == (run, wait)


def test_no_call_waits_for_ever_behind_calls_of_another_form() -> None:
    calls = [Waiting(A, 1), Waiting(B, 1)]
    for _ in range(3):  # A arrives again and again; B comes first as soon as it is the oldest
        batch = next_batch(calls, 8)
        calls = [*(calls[index] for index in batch.wait), Waiting(A, 1)]
        if batch.run == [0] and calls[0].form == A:
            return
    assert calls[0].form == A

"""Batches gathered in memory that stays."""

import numpy as np

from appliance.workers.steady_inputs import MOST_KEPT_BYTES, SteadyInputs


def rows(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1)


def test_rows_are_gathered_in_order_and_filled_up_with_rows_that_were_there() -> None:
    inputs = SteadyInputs()
    first = inputs.gathered("x", [rows(1, 2), rows(3)], 5)
    assert first.ravel().tolist() == [1, 2, 3, 3, 3]
    again = inputs.gathered("x", [rows(7)], 5)
    assert again.ravel().tolist() == [7, 2, 3, 3, 3]
    assert again is first


def test_another_shape_or_dtype_or_name_has_memory_of_its_own() -> None:
    inputs = SteadyInputs()
    kept = inputs.gathered("x", [rows(1)], 2)
    assert inputs.gathered("y", [rows(5)], 2).ravel().tolist() == [5, 5]
    assert kept.ravel().tolist() == [1, 1]
    assert inputs.gathered("x", [rows(1)], 3).shape == (3, 1)
    assert inputs.gathered("x", [rows(1).astype(np.int64)], 3).dtype == np.int64
    texts = np.array([["a"], ["b"]], object)
    assert inputs.gathered("x", [texts], 3).ravel().tolist() == ["a", "b", "b"]


def test_a_very_large_batch_is_not_kept_nor_what_was_before_it() -> None:
    inputs = SteadyInputs()
    small = inputs.gathered("x", [rows(1)], 2)
    row = np.zeros((1, MOST_KEPT_BYTES // 4), np.float32)
    large = inputs.gathered("x", [row], 2)
    assert inputs.gathered("x", [row], 2) is not large
    assert inputs.gathered("x", [rows(1)], 2) is not small

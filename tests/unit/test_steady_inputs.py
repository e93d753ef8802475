"""Batches gathered in memory that stays."""

import numpy as np

from appliance.workers.steady_inputs import SteadyInputs


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

"""Texts of like length run together: none is lost, none twice, and little of a run is filling."""

import numpy as np
import pytest

from appliance.workers.text_runs import by_length


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([], []),
        ([5], [[0]]),
        ([5, 5, 5], [[0, 1, 2]]),
        ([5, 256, 6, 4], [[1], [2, 0, 3]]),
        ([10, 9, 8], [[0, 1, 2]]),
        ([100, 40], [[0], [1]]),
        ([3, 3, 3, 3, 3], [[0, 1], [2, 3], [4]]),
    ],
)
def test_texts_run_with_those_of_like_length(lengths: list[int], groups: list[list[int]]) -> None:
    assert by_length(lengths, 2 if len(lengths) == 5 else 64) == groups


@pytest.mark.parametrize("seed", range(5))
def test_every_text_runs_once_and_a_quarter_is_filling_at_most(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 512, 200).tolist()
    groups = by_length(lengths, 16)
    assert sorted(index for group in groups for index in group) == list(range(200))
    for group in groups:
        assert len(group) <= 16
        assert sum(lengths[index] for index in group) >= 0.75 * len(group) * max(lengths[index] for index in group)

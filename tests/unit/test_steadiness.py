"""Which rows say something of a conversion, and errors that a report can hold, as tables."""

import math

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from appliance.core.tensors import TensorSpec
from converters.comparison import compare
from converters.converter import Feed
from converters.steadiness import steady_rows

NUMBER, LABEL = TensorSpec("y", "FP32", (-1, -1)), TensorSpec("label", "INT64", (-1,))


def steady(rows: list[list[float]], answer: object) -> list[bool]:
    feed = {"x": np.array(rows, np.float32)}
    return steady_rows(answer, feed, (NUMBER, LABEL), np.random.default_rng(0)).tolist()  # type: ignore[arg-type]


def test_a_row_whose_numbers_cancel_says_nothing() -> None:
    def answer(feed: Feed) -> Feed:
        return {"y": feed["x"].sum(1, keepdims=True)}

    assert steady([[1.0, 2.0], [1000.0, -999.9999], [0.0, 0.0]], answer) == [True, False, True]


def test_a_row_of_equal_scores_says_nothing_of_the_best_one() -> None:
    def answer(feed: Feed) -> Feed:
        return {"label": feed["x"].argmax(1)}

    assert steady([[1.0, 2.0], [3.0, 3.0], [0.0, 0.0], [0.5, 0.4]], answer) == [True, False, False, True]


def test_an_answer_of_another_shape_says_nothing_of_any_row() -> None:
    def answer(feed: Feed) -> Feed:
        return {"y": feed["x"][feed["x"] > 1.0][:, None]}

    assert steady([[1.0, 1.0], [2.0, 3.0]], answer) == [False, False]


def test_rows_that_are_refused_once_they_change_say_nothing() -> None:
    asked: list[Feed] = []

    def answer(feed: Feed) -> Feed:
        asked.append(feed)
        if len(asked) > 1:
            raise RefusedError("no row has a score")
        return {"y": feed["x"]}

    assert steady([[1.0, 1.0], [2.0, 3.0]], answer) == [False, False]


def test_an_answer_without_rows_goes_for_all() -> None:
    def answer(feed: Feed) -> Feed:
        return {"y": feed["x"].mean(keepdims=True)}

    assert steady([[1.0, 2.0], [3.0, 3.0]], answer) == [True, True]


@pytest.mark.parametrize(
    ("original", "converted", "absolute", "relative", "differ"),
    [
        ([[0.0, 0.0]], [[1e-9, 0.0]], 1e-9, 0.0, 0),  # nothing to be relative to
        ([[1.0, math.inf]], [[1.0, math.inf]], 0.0, 0.0, 0),
        ([[1.0, 2.0]], [[1.0, math.nan]], np.finfo(np.float64).max, np.finfo(np.float64).max, 1),
    ],
)
def test_errors_are_numbers_that_json_has(
    original: list[list[float]], converted: list[list[float]], absolute: float, relative: float, differ: int
) -> None:
    found = compare("y", "FP32", np.array(original), np.array(converted))
    assert found.max_absolute == pytest.approx(absolute)
    assert found.max_relative == pytest.approx(relative)
    assert found.rows_differ == differ


def test_an_answer_without_any_row_is_the_same() -> None:
    empty = np.zeros((0, 4), np.float32)
    assert not compare("y", "FP32", empty, empty).fault

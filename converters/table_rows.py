"""Rows of numbers that reach all of a table's model: both sides of its thresholds, missing values, categories. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING_SHARE = 0.08


def rows_around(
    count: int,
    random: np.random.Generator,
    columns: int,
    dtype: Any,
    *,
    thresholds: Mapping[int, Iterable[float]],
    categories: Mapping[int, int] | None = None,
    missing: bool = True,
) -> NDArray[Any]:
    """`thresholds` by column: values lie on them, on the next numbers, between and beyond. `categories`: how many
    a column knows; it gets these, unknown ones, negative ones. `missing`: NaN in some cells of every column, and
    rows of nothing else; the first row is all zeros."""
    rows = random.normal(size=(count, columns)).astype(dtype)
    for column, values in thresholds.items():
        known = np.unique(np.asarray(list(values), np.float64))
        known = known[np.isfinite(known)]
        if len(known):
            rows[:, column] = _near(known, count, random, dtype)
    for column, size in (categories or {}).items():
        codes = random.integers(0, max(1, size), count).astype(np.float64)
        strange = random.random(count)
        codes[strange < 0.1] = size + 7
        codes[strange < 0.05] = -3
        rows[:, column] = codes.astype(dtype)
    rows[0] = 0
    if missing:
        rows[random.random(rows.shape) < MISSING_SHARE] = np.nan
        rows[-1] = np.nan
    return rows


def _near(known: NDArray[np.float64], count: int, random: np.random.Generator, dtype: Any) -> NDArray[Any]:
    low, high = known[0], known[-1]
    span = max(high - low, abs(low), 1e-3)
    between = random.uniform(low - span / 4, high + span / 4, count).astype(dtype)
    at = random.choice(known, count).astype(dtype)
    infinity = np.array(np.inf, dtype)
    near = np.choose(random.integers(0, 3, count), [at, np.nextafter(at, infinity), np.nextafter(at, -infinity)])
    return np.where(random.random(count) < 0.5, between, near).astype(dtype)

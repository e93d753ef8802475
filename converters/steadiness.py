"""Which made rows say nothing of a conversion: the original itself answers them otherwise once their last bits change.

Of a net's rows there are always some: numbers that nearly cancel, two scores that are equal, of which either may come
first. No two computers agree on them. Pure, but for asking the original.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import RefusedError
from appliance.core.tensors import TensorSpec
from converters.comparison import rows_that_differ
from converters.converter import Array, Feed, row_count

TRIES = 4
CHANGE = 1e-6  # some units in the last place of single precision, as a long sum loses


def steady_rows(
    answer: Callable[[Feed], Feed], feed: Feed, outputs: tuple[TensorSpec, ...], random: np.random.Generator
) -> NDArray[np.bool_]:
    """Which rows the original answers alike when their real numbers change by CHANGE. All are taken for unsteady where
    one moves the shape of an answer or `answer` raises RefusedError then; a feed or an answer without rows counts as
    one row."""
    count = max(1, row_count(feed))
    steady = np.ones(count, bool)
    first = answer(feed)
    for _ in range(TRIES):
        try:
            other = answer({name: _changed(array, random) for name, array in feed.items()})
        except RefusedError:  # it answers some such rows and others not
            return np.zeros(count, bool)
        for spec in outputs:
            if spec.name not in first:
                continue
            before, after = np.asarray(first[spec.name]), np.asarray(other[spec.name])
            if before.shape != after.shape:
                return np.zeros(count, bool)
            differs = rows_that_differ(spec.dtype, before, after)
            steady &= ~differs if len(differs) == count else not differs.any()
    return steady


def _changed(array: Array, random: np.random.Generator) -> Array:
    if array.dtype.kind != "f" or not array.size:
        return array
    finite = np.where(np.isfinite(array), np.abs(array), 0)
    most = finite.max(axis=tuple(range(1, array.ndim)), keepdims=True) if array.ndim else finite
    # What is 0 moves too, or rows of nothing else would seem steady.
    size = np.where(array == 0, np.where(most == 0, 1, most), np.abs(array))
    return (array + CHANGE * random.uniform(-1, 1, array.shape) * size).astype(array.dtype)

"""The inputs of runs on a device, gathered in memory that stays while shapes do: in a worker's own process.

A large batch made anew for each run costs its pages each time; a very large one is made anew all the same, since a
model that idles would keep it. Rows that nobody wants are what was there before: of other calls, whose answers were
given, and to models of which it is known that rows do not see each other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MOST_KEPT_BYTES = 64 * 1024 * 1024  # of one input


class SteadyInputs:
    """One array for each input by name; what gathered() returns is good until it is asked for the same name again."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def gathered(self, name: str, parts: Sequence[Array], rows: int) -> Array:
        """The parts' rows one after the other, and others to make so many. The parts are of one dtype and, but for
        their rows, one shape; together they have at least one row and at most `rows`."""
        shape, dtype = (rows, *parts[0].shape[1:]), parts[0].dtype
        kept = self._arrays.get(name)
        is_new = kept is None or kept.shape != shape or kept.dtype != dtype
        if kept is None or is_new:
            self._arrays.pop(name, None)
            kept = np.empty(shape, dtype)
            if kept.nbytes <= MOST_KEPT_BYTES:
                self._arrays[name] = kept
        end = 0
        for part in parts:
            kept[end : end + len(part)] = part
            end += len(part)
        if is_new:
            kept[end:] = kept[end - 1]
        return kept

"""How many rows a run on a device should have, where a change of shapes is dear. Pure; in the worker of a device.

cuDNN plans every convolution anew when its shapes are others than in the run before: on an H200 that took 12 to 70 ms
for nets whose run takes 0.3 to 4, and 8 rows took as long as one. So a run is filled up to the rows of the one before
(with copies, whose answers nobody gets), grows to powers of two, and shrinks once what the copies have cost comes to
what a change costs: at most twice what the best choice would have paid in hindsight, as who rents skis until the rent
has come to their price. What a change costs is measured all along; where it is little, runs have no copies.
"""

from appliance.workers.batching import Form

# Below this a change is no matter: the noise of a run, and what an MLP's change was seen to take.
LITTLE_S = 0.5e-3
_WEIGHT = (
    0.5  # of the newest change in the mean: some, as the first of a kernel's kind, cost what they never will again
)
_RUN_WEIGHT = 0.2


def _size(rows: int) -> int:
    """The power of two that holds the rows."""
    return 1 << (rows - 1).bit_length()


class SteadyRows:
    """rows() before each run that could have more rows than are wanted, and ran() after it."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._shape: tuple[Form, int] | None = None  # of the last run
        self._change_s: float | None = None
        self._fresh_s: float | None = None  # what the last run took, where it changed shapes
        self._run_s: dict[int, float] = {}  # means of runs that changed none, by their rows
        self._copies_s = 0.0  # what copies have cost since it was last decided whether to shrink
        self._most_wanted = 0  # since the first of those

    def rows(self, form: Form, wanted: int) -> int:
        """How many rows to run where `wanted` are there, never fewer."""
        if wanted > self._max_rows or (self._change_s is not None and self._change_s < LITTLE_S):
            return wanted
        size = min(_size(wanted), self._max_rows)
        if self._shape is None or self._shape[0] != form or self._shape[1] > self._max_rows:
            return size
        kept = self._shape[1]
        if size >= kept or self._change_s is None or self._copies_s < self._change_s:
            return max(size, kept)
        size = min(_size(max(wanted, self._most_wanted)), kept)
        self._copies_s, self._most_wanted = 0.0, 0
        return size

    def ran(self, form: Form, rows: int, wanted: int, run_s: float) -> bool:
        """A run of so many rows took so many seconds, `wanted` of them no copies. Whether it changed no shape, so that
        its time says something of the next."""
        if (form, rows) != self._shape:
            # The very first also made the session ready, which says nothing of changes.
            self._fresh_s = None if self._shape is None else run_s
            if self._shape is not None and self._shape[0] != form:
                self._run_s.clear()
            self._shape = (form, rows)
            self._copies_s, self._most_wanted = 0.0, 0
            return False
        before_s = self._run_s.get(rows, run_s)
        self._run_s[rows] = before_s + _RUN_WEIGHT * (run_s - before_s)
        if self._fresh_s is not None:
            change_s = max(0.0, self._fresh_s - run_s)
            mean_s = change_s if self._change_s is None else self._change_s
            self._change_s = mean_s + _WEIGHT * (change_s - mean_s)
            self._fresh_s = None
        if _size(wanted) < rows:
            self._copies_s += max(0.0, run_s - self._run_s.get(_size(wanted), 0.0))
        if self._copies_s:
            self._most_wanted = max(self._most_wanted, wanted)
        return True

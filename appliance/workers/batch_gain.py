"""Whether running rows together pays for this model on this machine, from the runs themselves. Pure; in a worker.

Joining costs a copy of every input and makes the first caller wait for the last. For a small model that is nothing
against what each run costs by itself; for one whose run is all arithmetic, as a convolution on one core, it gains
nothing, and calls are better run one by one, the next one ready.
"""

LONG_ROW_S = 1e-3  # below this, what a run costs by itself outweighs everything: rows are always joined
WORTHWHILE = 0.9  # joined rows must take at most this share of a single row's time
_WEIGHT = 0.2  # of the newest run in the running mean
# Runs after which what was given up is tried once more: twice as many each time it fails again, since the callers who
# are answered together also come back together, and the worker has nothing to do until then.
_FIRST_TRY_AGAIN = 64
_LAST_TRY_AGAIN = 1024


class BatchGain:
    """A running mean of seconds for each row, by the power of two that holds the run's rows."""

    def __init__(self) -> None:
        self._row_s: dict[int, float] = {}
        self._given_up_for = 0
        self._try_again = _FIRST_TRY_AGAIN

    def record(self, rows: int, run_s: float) -> None:
        """One run of so many rows took so many seconds."""
        size = 1 << (rows - 1).bit_length()
        row_s = run_s / rows
        before_s = self._row_s.get(size, row_s)
        self._row_s[size] = before_s + _WEIGHT * (row_s - before_s)

    def useful_rows(self, max_rows: int) -> int:
        """How many rows the next run should take at most: `max_rows`, or 1 where joining was seen not to pay."""
        single_s = self._row_s.get(1)
        joined_s = min((row_s for size, row_s in self._row_s.items() if size > 1), default=None)
        if joined_s is None:
            return max_rows
        if single_s is None:
            return 1 if joined_s >= LONG_ROW_S else max_rows
        if single_s < LONG_ROW_S or joined_s <= WORTHWHILE * single_s:
            self._given_up_for, self._try_again = 0, _FIRST_TRY_AGAIN
            return max_rows
        self._given_up_for += 1
        if self._given_up_for < self._try_again:
            return 1
        self._given_up_for, self._try_again = 0, min(2 * self._try_again, _LAST_TRY_AGAIN)
        return max_rows

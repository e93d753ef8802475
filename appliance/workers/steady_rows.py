"""How many rows a run on a device should have, where a change of shapes is dear. Pure; in the worker of a device.

cuDNN plans every convolution anew when its shapes are others than in the run before: on an H200 that took 12 to 70 ms
for nets whose run takes 0.3 to 4, and 8 rows took as long as one. So a run is filled up to the rows of the one before
(with rows whose answers nobody gets), grows to powers of two, and shrinks once what was run for nobody has cost what a
change costs, as who rents skis until the rent has come to their price: at most twice what would have been best in
hindsight. Where it grows again sooner than it had waited to shrink, it waits twice as long the next time, since callers
who come in waves would have it change for ever. What a change costs is measured all along; where it is little, runs
have the rows that there are.
"""

from appliance.workers.batching import Form

# Below this a change is no matter: the noise of a run, and what an MLP's change was seen to take.
LITTLE_S = 0.5e-3
# Of the newest change in the mean: some, as the first of a kernel's kind, cost what they never will again.
_WEIGHT = 0.5
_RUN_WEIGHT = 0.2
_MOST_PATIENCE = 64


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
        self._in_vain_s = 0.0  # what rows for nobody have cost, since it was last decided whether to shrink
        self._most_wanted = 0  # since the first of those
        self._since_s = 0.0  # how long was run in this shape
        self._waited_s = 0.0  # how long before the last time that it shrank, if nothing changed since
        self._patience = 1

    def rows(self, form: Form, wanted: int) -> int:
        """How many rows to run where `wanted` are there, never fewer."""
        if wanted > self._max_rows or (self._change_s is not None and self._change_s < LITTLE_S):
            return wanted
        size = min(_size(wanted), self._max_rows)
        if self._shape is None or self._shape[0] != form or self._shape[1] > self._max_rows:
            return size
        kept = self._shape[1]
        if size >= kept or self._change_s is None or self._in_vain_s < self._patience * self._change_s:
            return max(size, kept)
        size = min(_size(max(wanted, self._most_wanted)), kept)
        self._in_vain_s, self._most_wanted = 0.0, 0
        return size

    def ran(self, form: Form, rows: int, wanted: int, run_s: float) -> bool:
        """A run of so many rows took so many seconds, `wanted` of them for somebody. Whether it changed no shape, so
        that its time says something of the next."""
        if (form, rows) != self._shape:
            self._changed(form, rows, run_s)
            return False
        self._since_s += run_s
        before_s = self._run_s.get(rows, run_s)
        self._run_s[rows] = before_s + _RUN_WEIGHT * (run_s - before_s)
        if self._fresh_s is not None:
            change_s = max(0.0, self._fresh_s - run_s)
            mean_s = change_s if self._change_s is None else self._change_s
            self._change_s = mean_s + _WEIGHT * (change_s - mean_s)
            self._fresh_s = None
        if _size(wanted) < rows:
            self._in_vain_s += max(0.0, run_s - self._run_s.get(_size(wanted), 0.0))
        if self._in_vain_s:
            self._most_wanted = max(self._most_wanted, wanted)
        return True

    def _changed(self, form: Form, rows: int, run_s: float) -> None:
        before, self._shape = self._shape, (form, rows)
        if before is None:
            return  # the very first also made the session ready, which says nothing of changes
        if before[0] != form:
            self._run_s.clear()
        elif rows < before[1]:
            self._waited_s = self._since_s
        elif self._waited_s:
            sooner = self._since_s < self._waited_s
            self._patience = min(2 * self._patience, _MOST_PATIENCE) if sooner else max(1, self._patience // 2)
            self._waited_s = 0.0
        self._fresh_s = run_s
        if self._change_s is not None:
            # It may not come to a second run in this shape.
            self._run_s.setdefault(rows, max(0.0, run_s - self._change_s))
        self._in_vain_s, self._most_wanted, self._since_s = 0.0, 0, 0.0

"""A hybrid logical clock: stamps near the wall clock that never run backwards past what was seen. No I/O: the wall
clock is given. Source: Kulkarni et al., "Logical Physical Clocks", 2014.

A clock that is wildly ahead drags nobody: a stamp further ahead of this node's wall clock than MAX_AHEAD_MS does not
move this clock. A register written over such a stamp gets one just above it, so whoever saw a value can always
replace it.
"""

from collections.abc import Callable

from federation.messages import Stamp

MAX_AHEAD_MS = 60_000
# Stamps beyond this (the year 2248) are not taken from peers: there is room above for whoever writes over one.
MAX_MS = 2**43
MAX_COUNTER = 2**31


class HybridClock:
    """The clock of one node. Not thread-safe."""

    def __init__(self, node_id: str, unix_s: Callable[[], float]) -> None:
        self._node_id = node_id
        self._unix_s = unix_s
        self._ms = 0
        self._counter = 0

    def saw(self, stamp: Stamp) -> None:
        """Later stamps of this clock are above `stamp`, unless it is too far ahead."""
        if stamp.ms <= self._wall_ms() + MAX_AHEAD_MS and (stamp.ms, stamp.counter) > (self._ms, self._counter):
            self._ms, self._counter = stamp.ms, stamp.counter

    def stamp(self, over: Stamp | None = None, *, least_ms: int = 0) -> Stamp:
        """A stamp above all that this clock gave or saw, above `over`, and not before `least_ms`, however far ahead
        of the wall clock that is; neither moves the clock."""
        wall_ms = self._wall_ms()
        if wall_ms > self._ms or self._ms > wall_ms + MAX_AHEAD_MS:  # the latter: the wall clock was put back
            self._ms, self._counter = wall_ms, 0
        else:
            self._advance()
        ms, counter = max((self._ms, self._counter), (least_ms, 0))
        if over is not None and (ms, counter) <= (over.ms, over.counter):
            ms, counter = (over.ms, over.counter + 1) if over.counter < MAX_COUNTER else (over.ms + 1, 0)
        return Stamp(ms, counter, self._node_id)

    def _advance(self) -> None:
        self._counter += 1
        if self._counter > MAX_COUNTER:
            self._ms, self._counter = self._ms + 1, 0

    def _wall_ms(self) -> int:
        return max(0, int(self._unix_s() * 1000))

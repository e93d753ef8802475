"""When one model was called, and how soon it is to be expected again. Pure; runs in the gateway.

All times are seconds of one monotonic clock that the caller reads.
"""

import math

from appliance.routing.idle_histogram import SHORTEST_S, IdleHistogram, next_edge_s

UNKNOWN_IDLE_S = 600.0  # until its second call, this is how long a model is expected to idle
_REPRESENTATIVE = 4  # idle times at which the histogram counts as much as the plain rate


class CallHistory:
    """Some hundred bytes, and a histogram from the second call on."""

    __slots__ = ("_first_s", "_idle", "_last_s", "_rate_per_s", "_rate_until_s")

    def __init__(self, now_s: float) -> None:
        """It is called for the first time."""
        self._first_s = self._last_s = now_s
        self._idle: IdleHistogram | None = None
        self._rate_per_s = 0.0
        self._rate_until_s = -math.inf

    def called(self, now_s: float) -> bool:
        """A call arrived, or several at once. Whether it ended an idle time: calls closer than SHORTEST_S do not."""
        idle_s = now_s - self._last_s
        self._last_s = now_s
        if idle_s < SHORTEST_S:
            return False
        if self._idle is None:
            self._idle = IdleHistogram()
        self._idle.add(idle_s)
        self._rate_until_s = -math.inf
        return True

    def rate_per_s(self, now_s: float) -> float:
        """Calls a second to expect. Reckoned anew after each idle time and when the outlook changes."""
        if now_s >= self._rate_until_s:
            self._rate_per_s = self._reckoned_per_s(now_s)
            self._rate_until_s = self.next_change_s(now_s)
        return self._rate_per_s

    def _reckoned_per_s(self, now_s: float) -> float:
        """The histogram's, as far as it is representative, and else the plain rate since the first call."""
        observed = self._idle.total if self._idle else 0
        plain = (observed + 1) / (now_s - self._first_s + UNKNOWN_IDLE_S)
        if self._idle is None:
            return plain
        own = self._idle.call_rate(now_s - self._last_s)
        return (observed * own + _REPRESENTATIVE * plain) / (observed + _REPRESENTATIVE)

    def chance(self, within_s: float, now_s: float) -> float:
        """The probability of a call within so many seconds, as far as idle times tell; 0 before the second call."""
        return self._idle.chance(now_s - self._last_s, within_s) if self._idle else 0.0

    def next_change_s(self, now_s: float) -> float:
        """When the outlook changes if no call comes: ever later; infinite when all that is known has passed."""
        return self._last_s + next_edge_s(now_s - self._last_s)

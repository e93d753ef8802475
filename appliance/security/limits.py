"""How often a key may call: a rate with a burst, and a quota by calendar window. Pure: all is told the time.

A rate is kept on a monotonic clock, where nothing jumps. A quota follows the wall clock, in UTC: set back, it takes the
count with it; set forward, it begins a new window. So neither grants nor refuses for longer than one window.
"""

import calendar
import math
import re
import time
from typing import NamedTuple

import msgspec

from appliance.core.errors import BadInputError, BusyError

_SECONDS_BY_UNIT = {"s": 1, "min": 60, "hour": 3600, "day": 86400}
_PERIODS = ("min", "hour", "day", "month")
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)/(s|min|hour|day)", re.ASCII)
_QUOTA = re.compile(r"(\d{1,12})/(min|hour|day|month)", re.ASCII)
MAX_BURST = 1_000_000


class Limits(msgspec.Struct, frozen=True):
    """What a key is held to, as it was written: `rate` such as `50/s`, `burst` calls at once, `quota` such as
    `100000/day`. Empty and 0: no limit; a `burst` of 0: one second's worth. Without a rate it
    means nothing."""

    rate: str = ""
    burst: int = 0
    quota: str = ""

    @property
    def per_s(self) -> float:
        """The rate in calls a second; 0: unlimited. Raises BadInputError."""
        if not self.rate:
            return 0.0
        match = _RATE.fullmatch(self.rate)
        per_s = float(match[1]) / _SECONDS_BY_UNIT[match[2]] if match else 0.0
        if not per_s:
            raise BadInputError(
                f"'{self.rate[:40]}' is no rate: expected a number above 0 and s, min, hour or day, such as 50/s"
            )
        return per_s

    @property
    def burst_calls(self) -> int:
        """How many calls may come at once. Raises BadInputError."""
        if not 0 <= self.burst <= MAX_BURST:
            raise BadInputError(f"a burst is a whole number up to {MAX_BURST}")
        return self.burst or max(1, min(MAX_BURST, math.ceil(self.per_s)))

    @property
    def calls_by_period(self) -> tuple[int, str]:
        """The quota's calls and its period; (0, ""): unlimited. Raises BadInputError."""
        if not self.quota:
            return 0, ""
        match = _QUOTA.fullmatch(self.quota)
        if match is None or not int(match[1]):
            raise BadInputError(
                f"'{self.quota[:40]}' is no quota: expected a whole number above 0 and min, hour, day or month, such "
                "as 100000/day"
            )
        return int(match[1]), match[2]

    def check(self) -> "Limits":
        """Itself. Raises BadInputError where a limit cannot be read."""
        _ = self.per_s, self.burst_calls, self.calls_by_period
        return self

    def __bool__(self) -> bool:
        return bool(self.rate or self.quota)


def next_free_s(free_s: float, now_s: float, per_s: float, burst: int) -> tuple[float, float]:
    """Takes one call from a rate: the state after it, and the seconds to wait, 0 where the call may go.

    `free_s` is when the rate would be unused again: the virtual schedule of ITU-T I.371's generic cell rate algorithm,
    which is a token bucket in one number. A refused call takes nothing.
    """
    interval_s = 1 / per_s
    ahead_s = burst * interval_s
    free_s = min(max(free_s, now_s), now_s + ahead_s)
    wait_s = free_s + interval_s - ahead_s - now_s
    # A part in a billion: n/r must be n times 1/r, whatever the rounding.
    return (free_s, wait_s) if wait_s > 1e-9 * ahead_s else (free_s + interval_s, 0.0)


class Window(NamedTuple):
    """One calendar window of a quota, in Unix seconds, its end not within."""

    start_s: int
    end_s: int


def window_of(period: str, now_s: float) -> Window:
    """The window, in UTC, that this moment is in. `period`: min, hour, day or month."""
    if period != "month":
        length_s = _SECONDS_BY_UNIT[period]
        start_s = int(now_s // length_s) * length_s
        return Window(start_s, start_s + length_s)
    then = time.gmtime(now_s)
    following = (then.tm_year + then.tm_mon // 12, then.tm_mon % 12 + 1)
    return Window(
        *(calendar.timegm((year, month, 1, 0, 0, 0)) for year, month in ((then.tm_year, then.tm_mon), following))
    )


class Used(NamedTuple):
    """How much of a quota is used, in the window that begins at `window_s`."""

    window_s: int = 0
    calls: int = 0


_NOTHING_USED = Used()


def used_now(used: Used, window: Window) -> Used:
    """The same as of this window: a later one begins at nothing, an earlier one (the clock went back) keeps the
    count."""
    return (
        used
        if used.window_s == window.start_s
        else Used(window.start_s, 0 if window.start_s > used.window_s else used.calls)
    )


class Meter:
    """One key's limits and what is used of them. take() is a few operations on numbers, whatever the limits."""

    def __init__(self, limits: Limits, used: Used = _NOTHING_USED) -> None:
        self.limits = limits
        self.used = used
        self._per_s, self._burst = limits.per_s, limits.burst_calls
        self._quota, self._period = limits.calls_by_period
        self._free_s = -math.inf
        self._window = Window(0, 0)

    def take(self, monotonic_s: float, now_s: float) -> None:
        """Counts one call. Raises BusyError, which says when to come again, and then counts nothing."""
        if self._quota and self._used_calls(now_s) >= self._quota:
            raise BusyError(
                f"this key's quota of {self.limits.quota} is used up: the next {self._period} begins anew, in UTC",
                retry_after_s=max(1.0, self._window.end_s - now_s),
            )
        if self._per_s:
            self._free_s, wait_s = next_free_s(self._free_s, monotonic_s, self._per_s, self._burst)
            if wait_s:
                raise BusyError(
                    f"this key may call {self.limits.rate}, {self._burst} at once: come back a little later",
                    retry_after_s=wait_s,
                )
        if self._quota:
            self.used = Used(self.used.window_s, self.used.calls + 1)

    def give_back(self) -> None:
        """The call that was counted was not taken up: it is not held against the quota."""
        if self._quota and self.used.calls:
            self.used = Used(self.used.window_s, self.used.calls - 1)

    def used_calls(self, now_s: float) -> int:
        """The calls that count against the quota in the window of this moment; 0 where there is no quota."""
        return used_now(self.used, window_of(self._period, now_s)).calls if self._quota else 0

    def _used_calls(self, now_s: float) -> int:
        if not self._window.start_s <= now_s < self._window.end_s:
            self._window = window_of(self._period, now_s)
            self.used = used_now(self.used, self._window)
        return self.used.calls

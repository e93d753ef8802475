"""Many alarms of one event loop, of which nearly all are cancelled: deadlines and hedges of calls.

Runs in the gateway's event loop, which has one timer for all of them. A timer of uvloop's costs as much as routing the
call that it watches over; here an alarm is an entry of a heap, and a cancelled one stays there until it is due or most
are cancelled (asyncio's own loop does the same).
"""

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable

_LEAST_CLEARED = 512
_GRAIN_S = 0.0005  # uvloop counts in milliseconds: what it wakes for may be as much later
_LONGEST_S = 365 * 24 * 3600.0  # what is no number would never be due, nor whatever is behind it in the heap

_log = logging.getLogger("ingle")


class Alarm:
    """As asyncio.TimerHandle, as far as cancelling goes."""

    __slots__ = ("_alarms", "what")

    def __init__(self, alarms: "Alarms", what: Callable[[], None]) -> None:
        self._alarms = alarms
        self.what: Callable[[], None] | None = what

    def cancel(self) -> None:
        """It does not go off any more; may be called twice, and after it went off."""
        if self.what is not None:
            self.what = None
            self._alarms.one_was_cancelled()


class Alarms:
    """Made in the loop it runs in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at_s = 0.0

    def __len__(self) -> int:
        """How many are kept, cancelled ones among them."""
        return len(self._heap)

    def call_later(self, after_s: float, what: Callable[[], None]) -> Alarm:
        """As the loop's: `what` is called about so long from now, in the order of the times that were asked for; in a
        year, where that is later or no number."""
        at_s = self._loop.time() + min(_LONGEST_S, after_s)  # of NaN and another, min() takes the first
        alarm = Alarm(self, what)
        heapq.heappush(self._heap, (at_s, next(self._numbers), alarm))
        if self._timer is None or at_s < self._wakes_at_s:
            self._wake_at(self._heap[0][0])
        return alarm

    def one_was_cancelled(self) -> None:
        """For Alarm alone."""
        self._cancelled += 1
        if self._cancelled >= _LEAST_CLEARED and 2 * self._cancelled > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].what is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def _wake_at(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at_s = at_s
        self._timer = self._loop.call_at(at_s, self._woken)

    def _woken(self) -> None:
        self._timer = None
        now_s = self._loop.time() + _GRAIN_S
        due: list[Alarm] = []
        while self._heap and self._heap[0][0] <= now_s:
            due.append(heapq.heappop(self._heap)[2])
        for alarm in due:
            what, alarm.what = alarm.what, None
            if what is None:
                self._cancelled -= 1
                continue
            try:
                what()
            except Exception:  # of one alarm; the others are others'
                _log.exception("an alarm's work was not done")
        if self._heap:
            self._wake_at(self._heap[0][0])

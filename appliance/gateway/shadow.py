"""Copies of calls for a version that nobody's answer depends on yet, and how its answers compare.

Runs in the gateway's event loop; what is compared is compared in a thread. A copy goes behind everybody's calls, and is
dropped where it could cost anybody anything: when the shadow's queue is long, or too much waits to be compared.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from appliance.core.errors import IngleError
from appliance.core.frames import Answer, Invoke
from appliance.core.requests import Part
from appliance.gateway.comparison import Difference, compare
from appliance.routing.traffic import Share
from appliance.workers.pool import Pool
from appliance.workers.work import Outcome, Work

_LAST = 1000  # priority: behind every caller's
_MAX_WAITING = 32
_MAX_OPEN = 64
# Two runs of one model on one machine may differ in the last bits where their batches did.
_CLOSE = 1e-3


class ShadowReport(msgspec.Struct):
    """What became of the copies. `close` differ by at most a thousandth, `different` by more, or in words or shapes.

    `skipped` were not made or not compared, so as to cost nobody anything. Seconds are sums of runs.
    """

    same: int = 0
    close: int = 0
    different: int = 0
    failed: int = 0
    skipped: int = 0
    largest_difference: float = 0.0
    largest_relative_difference: float = 0.0
    run_s: float = 0.0  # of the shadow, over the calls that were compared
    own_run_s: float = 0.0  # of the version that answered them
    last_failure: str = ""


class Pair:
    """A call and its copy; compared when both are answered. It stands in for who waits for the copy."""

    __slots__ = ("_done", "_other", "_own", "_shadow", "form")

    def __init__(self, shadow: "Shadow", form: int) -> None:
        self._shadow = shadow
        self._own: Outcome | None = None
        self._other: Outcome | None = None
        self._done = False
        self.form = form

    def own(self, answer: Answer, body: bytes) -> None:
        """The caller's own answer has come."""
        self._own = (answer, body)
        self._compare_if_both()

    def abandon(self) -> None:
        """The caller's call failed, or it has gone: there is nothing to compare with."""
        self._done = True
        self._shadow.over(self)

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Outcome, /) -> None:
        self._done = True
        self._other = result
        self._compare_if_both()

    def set_exception(self, exception: IngleError, /) -> None:
        self._done = True
        self._shadow.failed(self, exception)

    def _compare_if_both(self) -> None:
        if self._own is not None and self._other is not None:
            self._shadow.both(self, self._own, self._other)


class Shadow:
    """One version that gets copies."""

    def __init__(self, version: str, pool: Pool, share: float) -> None:
        self.version = version
        self.report = ShadowReport()
        self.pool = pool
        self._share = Share(share)
        self._open: set[Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def copy(self, invoke: Invoke, parts: Sequence[Part], deadline_s: float, began_ns: int) -> Pair | None:
        """Sends a copy of a call, if it is this one's turn and there is room. `invoke` has a number of its own."""
        if not self._share.take():
            return None
        if self.pool.waiting >= _MAX_WAITING or len(self._open) >= _MAX_OPEN:
            self.report.skipped += 1
            return None
        pair = Pair(self, invoke.form)
        work = Work(invoke, parts, deadline_s, pair, began_ns)
        work.priority = _LAST
        try:
            self.pool.submit(work)
        except IngleError as error:
            self._note_failure(error)
            return None
        self._open.add(pair)
        return pair

    def over(self, pair: Pair) -> None:
        self._open.discard(pair)

    def failed(self, pair: Pair, error: IngleError) -> None:
        self.over(pair)
        self._note_failure(error)

    def _note_failure(self, error: IngleError) -> None:
        self.report.failed += 1
        self.report.last_failure = error.sentence[:500]

    def both(self, pair: Pair, own: Outcome, other: Outcome) -> None:
        self.report.own_run_s += own[0].run_ns / 1e9
        self.report.run_s += other[0].run_ns / 1e9
        if own[1] == other[1]:  # most of the time, and then a thread would cost more than the look
            self.over(pair)
            self.report.same += 1
            return
        task = asyncio.get_running_loop().create_task(self._compare(pair, own, other))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(self, pair: Pair, own: Outcome, other: Outcome) -> None:
        try:
            self._count(await asyncio.to_thread(compare, pair.form, own, other))
        finally:
            self.over(pair)

    def _count(self, found: Difference) -> None:
        report = self.report
        if found.same:
            report.same += 1
            return
        if not found.comparable:
            report.different += 1
            return
        report.largest_difference = max(report.largest_difference, found.absolute)
        report.largest_relative_difference = max(report.largest_relative_difference, found.relative)
        if found.absolute <= _CLOSE or found.relative <= _CLOSE:
            report.close += 1
        else:
            report.different += 1

"""All the workers of one model version, and the calls that wait for them.

Runs in the gateway's event loop. Work waits here, where it can still be cancelled or given to another worker, and is
bound to one as late as its credit allows. When to start, end or set aside is decided in lifecycle.py.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from appliance.core.errors import BusyError, UnavailableError, WorkerFailedError
from appliance.core.models import ModelVersion
from appliance.workers import lifecycle
from appliance.workers.lifecycle import History
from appliance.workers.replica import Replica, Work

LOG_LINES = 1000

State = Literal["asleep", "starting", "warm", "set_aside"]


class Pool:
    """Answers submit()ted work with one worker, started by `start(pool)` when there is none."""

    def __init__(
        self,
        model: ModelVersion,
        *,
        max_batch: int,
        max_waiting: int,
        run_limit_s: float,
        start: Callable[["Pool"], Replica],
    ) -> None:
        self.model = model
        self.max_batch = max_batch
        self.run_limit_s = run_limit_s
        self.replicas: list[Replica] = []
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.last_used_s = time.monotonic()
        self.closed = False
        self._max_waiting = max_waiting
        self._start = start
        self._waiting: deque[Work] = deque()
        self._retries: deque[Work] = deque()
        self._history = History()
        self._last_reason = ""
        self._warming: list[asyncio.Future[None]] = []
        self.last_load_s = 0.0
        self._loop = asyncio.get_running_loop()

    # What others may ask.

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._retries)

    @property
    def in_flight(self) -> int:
        return sum(len(replica.in_flight) for replica in self.replicas)

    @property
    def owed(self) -> int:
        """Calls whose callers still wait."""
        held = [work for replica in self.replicas for work in replica.in_flight.values()]
        return sum(not work.future.done() for work in (*self._retries, *self._waiting, *held))

    def state(self) -> tuple[State, str]:
        """The state and, where the model is set aside, the reason."""
        verdict = lifecycle.may_start(self._history, time.monotonic())
        if any(replica.state == "ready" for replica in self.replicas):
            return "warm", ""
        if verdict.verdict == "set_aside":
            return "set_aside", self._set_aside_reason(verdict.at_s)
        if self.waiting or any(replica.state == "starting" for replica in self.replicas):
            return "starting", self._last_reason
        return "asleep", ""

    # Calls.

    def submit(self, work: Work) -> None:
        """Takes one call; its future is answered in time. Raises BusyError past the queue's bound and
        UnavailableError where the model is set aside."""
        if len(self._waiting) >= self._max_waiting:
            raise BusyError(
                f"{self._max_waiting} calls wait for {self.model.name} already: come back in a moment",
                retry_after_s=1.0,
            )
        self.last_used_s = time.monotonic()
        self._waiting.append(work)
        self.pump()

    def pump(self) -> None:
        """Sends what may be sent, and starts a worker where work waits for none."""
        replica = next((r for r in self.replicas if r.state == "ready"), None)
        if replica is None:
            if self.waiting and not any(r.state == "starting" for r in self.replicas):
                self.start_when_allowed()
            return
        if self._retries:
            if not replica.in_flight and (work := self._next(self._retries)) is not None:
                replica.send(work, alone=True)
            return
        if replica.alone:
            return
        for _ in range(lifecycle.credit(self.max_batch, len(replica.in_flight))):
            next_work = self._next(self._waiting)
            if next_work is None:
                return
            replica.send(next_work)

    @staticmethod
    def _next(queue: deque[Work]) -> Work | None:
        """The oldest whose caller still waits for it."""
        while queue:
            work = queue.popleft()
            if not work.future.done():
                return work
        return None

    # Workers.

    def start_when_allowed(self) -> None:
        """Starts a worker now, or later as the backoff says, or refuses what waits for a model that is set aside."""
        if self.closed or any(r.state in ("starting", "ready") for r in self.replicas):
            return
        now_s = time.monotonic()
        verdict = lifecycle.may_start(self._history, now_s)
        if verdict.verdict == "now":
            self.replicas.append(self._start(self))
        elif verdict.verdict == "later":
            self._loop.call_later(verdict.at_s - now_s, self.start_when_allowed)
        else:
            self._refuse_all(self._set_aside_reason(verdict.at_s))

    def _set_aside_reason(self, until_s: float) -> str:
        return (
            f"{self.model} is set aside: its workers died {self._history.consecutive_deaths} times with no answer "
            f"between; {self._last_reason}. It is tried again in {max(0, until_s - time.monotonic()):.0f} s, or now "
            "when it is loaded or deployed anew"
        )

    def _refuse_all(self, sentence: str) -> None:
        for queue in (self._retries, self._waiting):
            while (work := self._next(queue)) is not None:
                work.future.set_exception(UnavailableError(sentence, retry_after_s=lifecycle.SET_ASIDE_S))

    async def warm(self, timeout_s: float) -> None:
        """Has a worker loaded, forgetting past deaths, since somebody asked for the model by name.

        Raises UnavailableError where it does not load, or not in time.
        """
        self._history = History()
        if any(replica.state == "ready" for replica in self.replicas):
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._warming.append(waiter)
        self.start_when_allowed()
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            raise UnavailableError(f"{self.model} was not loaded after {timeout_s:g} s") from None

    def _warmed(self, failure: str = "") -> None:
        """Tells those who wait in warm()."""
        waiters, self._warming = self._warming, []
        for waiter in waiters:
            if not waiter.done():
                if failure:
                    waiter.set_exception(UnavailableError(f"{self.model} does not load: {failure}"))
                else:
                    waiter.set_result(None)

    def on_change(self, replica: Replica) -> None:
        """The replica has room, is loaded, failed to load, or is lost."""
        if replica.load_s:
            self.last_load_s = replica.load_s
        if replica.answered:
            replica.answered = False
            self._history = self._history.succeeded()
            self.last_used_s = time.monotonic()
        if replica.state == "lost":
            self._lost(replica)
        elif replica.load_error:
            replica.end_reason = f"the model does not load: {replica.load_error}"
        elif replica.state == "ready" and self._warming:
            self._warmed()
        elif replica.state == "retiring":
            replica.end_if_done()
        self.pump()

    def _lost(self, replica: Replica) -> None:
        if replica not in self.replicas:
            return
        self.replicas.remove(replica)
        owed = list(replica.in_flight.values())
        replica.in_flight.clear()
        if replica.retired and not owed:
            return
        self._last_reason = replica.end_reason
        self._warmed(replica.end_reason)
        self._history = self._history.died(time.monotonic())
        self.log.append(f"worker {replica.pid} was lost: {self._last_reason}")
        for work in owed:
            work.attempts += 1
            work.spans.clear()
            if work.future.done():
                continue
            if work.attempts < 2:
                self._retries.append(work)
            else:
                work.future.set_exception(
                    WorkerFailedError(
                        f"the worker of {self.model.name} died under this call, and so did the one that it was given "
                        f"to by itself: {self._last_reason}"
                    )
                )
        if not self.closed:
            self.start_when_allowed()

    def sleep(self) -> None:
        """Ends the workers once they owe nothing; the next call starts one."""
        for replica in self.replicas:
            replica.retire()

    def close(self) -> None:
        """No workers any more after those in flight have answered: the version is gone."""
        self.closed = True
        self._refuse_all(f"{self.model} was deleted or replaced while the call waited")
        self.sleep()

    # Time.

    def tick(self, now_s: float, idle_s: float) -> None:
        """Ends calls past their deadline, workers past their run limit, and workers that idle."""
        for replica in self.replicas:
            if lifecycle.loads_too_long(replica.state, replica.started_s, now_s):
                replica.kill(f"the model was not loaded after {lifecycle.LOAD_LIMIT_S:g} s")
            if lifecycle.is_hung(busy_since_s=replica.busy_since_s, run_limit_s=self.run_limit_s, now_s=now_s):
                replica.kill(f"it ran longer than the model's limit of {self.run_limit_s:g} s and was ended")
        for queue in (self._retries, self._waiting):
            for work in queue:
                if now_s >= work.deadline_s:
                    work.expire()
            if queue and queue[0].future.done():
                kept = [work for work in queue if not work.future.done()]
                queue.clear()
                queue.extend(kept)
        for replica in self.replicas:
            for work in replica.in_flight.values():
                if now_s >= work.deadline_s:
                    work.expire()
        if (
            self.replicas
            and idle_s
            and lifecycle.may_sleep(
                in_flight=self.in_flight,
                waiting=self.waiting,
                last_used_s=self.last_used_s,
                idle_s=idle_s,
                now_s=now_s,
            )
        ):
            self.sleep()

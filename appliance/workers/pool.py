"""All the workers of one model version, and the calls that wait for them.

Runs in the gateway's event loop. Work waits here, where it can still be cancelled or given to another worker, and is
bound to one as late as dispatch.py says. How many workers there are to be is not decided here: the pool says that it
needs one, and is told to add or to retire one. What becomes of workers that die is decided in lifecycle.py.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from appliance.core.errors import BusyError, DeadlineError, UnavailableError, WorkerFailedError
from appliance.core.models import ModelVersion
from appliance.workers import lifecycle
from appliance.workers.dispatch import credit, share
from appliance.workers.lifecycle import History
from appliance.workers.measures import Measures
from appliance.workers.replica import Replica
from appliance.workers.sequences import Sequences
from appliance.workers.work import Work, WorkQueue

LOG_LINES = 1000
# Who has a model loaded by name is about to call it: for so long nobody else's need ends its worker.
LEASE_S = 30.0
# Of the wait that is foreseen, how much must lie before the deadline for a call to be taken: the forecast is a mean.
_SURE = 0.8
_KNOWN_RUNS = 3

State = Literal["asleep", "starting", "warm", "set_aside"]


class Pool:
    """Answers submit()ted work. `spawn(pool)` starts a worker; `need(pool)` hears that work waits and none is there."""

    def __init__(
        self,
        model: ModelVersion,
        *,
        max_batch: int,
        max_waiting: int,
        run_limit_s: float,
        most_sequences: int,
        sequence_idle_s: float,
        measures: Measures,
        spawn: Callable[["Pool"], Replica],
        need: Callable[["Pool"], None],
    ) -> None:
        self.model = model
        self.max_batch = max_batch
        self.run_limit_s = run_limit_s
        self.measures = measures
        self.run_times = measures.run_times
        self.replicas: list[Replica] = []
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.last_used_s = time.monotonic()
        self.leased_until_s = 0.0
        self.closed = False
        self.resting = False  # put to sleep by request, until it is called or loaded again
        self.last_load_s = 0.0
        self.waits_because = ""  # why no worker is started for what waits; the scheduler says so
        self._arrived = 0
        self.max_waiting = max_waiting
        self._spawn = spawn
        self._need = need
        self._waiting = WorkQueue()
        self._retries: list[Work] = []  # few: what a lost worker held. An empty deque would take 700 bytes a model
        self.sequences = Sequences(most=most_sequences, idle_s=sequence_idle_s, enqueue=self._waiting.push)
        self._history = History()
        self._last_reason = ""
        self._warming: list[asyncio.Future[None]] = []
        self._start_later: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    # What others may ask.

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._retries) + self.sequences.waiting

    @property
    def in_flight(self) -> int:
        return sum(len(replica.in_flight) for replica in self.replicas)

    @property
    def owed(self) -> int:
        """Calls whose callers still wait."""
        held = [work for replica in self.replicas for work in replica.in_flight.values()]
        steps = [work for sequence in self.sequences.live for work in sequence.steps]
        mine = (*self._retries, *self._waiting, *held, *self.sequences.pinned, *steps)
        return sum(not work.future.done() for work in mine)

    @property
    def active(self) -> bool:
        """Whether time means anything to it: it has workers, work, or somebody who waits for it to be warm."""
        return bool(self.replicas or self._waiting or self._retries or self._warming or self.sequences.live)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a worker, or was promised one."""
        return bool(self._waiting or self._retries or self._warming) or time.monotonic() < self.leased_until_s

    def replicas_that_are(self, *states: str) -> int:
        return sum(replica.state in states for replica in self.replicas)

    def take_arrivals(self) -> int:
        """How many calls have come since this was last asked."""
        arrived, self._arrived = self._arrived, 0
        return arrived

    def state(self) -> tuple[State, str]:
        """The state and, where the model is set aside or waits to be started, the reason."""
        if self.replicas_that_are("ready"):
            return "warm", ""
        verdict = lifecycle.may_start(self._history, time.monotonic())
        if verdict.verdict == "set_aside":
            return "set_aside", self._set_aside_reason(verdict.at_s)
        if self.waiting or self._warming or self.replicas_that_are("starting"):
            return "starting", self.waits_because or self._last_reason
        return "asleep", ""

    # Calls.

    def submit(self, work: Work) -> None:
        """Takes one call; its future is answered in time.

        Raises BusyError past the queue's bound, DeadlineError where those before it leave it no time, and
        UnavailableError where the version is gone.
        """
        if self.closed:
            raise UnavailableError(f"{self.model} was deleted or replaced: call again", retry_after_s=1.0)
        if self._waiting or self.sequences.live:
            self._check_room(work)
        self._arrived += 1
        self.resting = False
        self.last_used_s = time.monotonic()
        if work.sequence is None:
            self._waiting.push(work)
        else:
            self.sequences.submit(work.sequence, work)
        self.pump()

    def _check_room(self, work: Work) -> None:
        ready = self.replicas_that_are("ready")
        if self.waiting >= self.max_waiting:
            wait_s = self.run_times.wait_s(self.waiting, ready)
            raise BusyError(
                f"{self.max_waiting} calls wait for {self.model.name} already: come back in a moment",
                retry_after_s=min(30.0, max(1.0, wait_s)),
            )
        if ready and self.run_times.runs >= _KNOWN_RUNS:
            ahead = self._waiting.ahead_of(work.priority) + self.in_flight
            wait_s = self.run_times.wait_s(ahead, ready)
            left_s = work.deadline_s - time.monotonic()
            if wait_s * _SURE > left_s:
                raise DeadlineError(
                    f"the call cannot be answered within its deadline: the {ahead} calls before it take "
                    f"{self.model.name} about {wait_s:.2g} s, and it has {max(0.0, left_s):.2g} s"
                )

    def hand_over(self, successor: "Pool") -> None:
        """What waits here waits there from now on."""
        while (work := self._next_retry()) is not None:
            successor._retries.append(work)
        while (work := self._waiting.pop()) is not None:
            if work.sequence is not None:
                self.sequences.hand_over(work.sequence, successor.sequences)
            successor._waiting.push(work)
        successor.pump()

    def pump(self) -> None:
        """Sends what may be sent, and says so where work waits and there is no worker."""
        if self.sequences.pinned:
            self._pump_pinned()
        if not self._waiting and not self._retries:
            return
        ready = [replica for replica in self.replicas if replica.state == "ready"]
        if not ready:
            if not self.replicas_that_are("starting"):
                self.start_when_allowed()
            return
        if self._retries:
            # By itself on a worker that holds nothing else; until one is empty, the emptiest is given nothing new.
            chosen = min(ready, key=lambda replica: len(replica.in_flight))
            if not chosen.in_flight and (work := self._next_retry()) is not None:
                chosen.send(work, alone=True)
            if self._retries:
                ready.remove(chosen)
        ready = [replica for replica in ready if not replica.alone]
        if not ready or not self._waiting:
            return
        times = self.run_times
        most = credit(self.max_batch, formed_calls=times.formed_calls, call_s=times.call_s, replicas=len(ready))
        for replica, count in zip(
            ready, share(len(self._waiting), [len(replica.in_flight) for replica in ready], most), strict=True
        ):
            for _ in range(count):
                next_work = self._waiting.pop()
                if next_work is None:
                    return
                replica.send(next_work)

    def _pump_pinned(self) -> None:
        """Sends what one worker alone can run, to each as much as it has room for; also to one that is to end once
        its sequences have."""
        times = self.run_times
        most = credit(self.max_batch, formed_calls=times.formed_calls, call_s=times.call_s, replicas=1)
        for replica in self.replicas:
            if replica.sequences and replica.state in ("ready", "retiring") and not replica.alone:
                for work in self.sequences.take(replica, most - len(replica.in_flight)):
                    replica.send(work)

    def _next_retry(self) -> Work | None:
        while self._retries:
            work = self._retries.pop(0)
            if not work.future.done():
                return work
        return None

    # Workers.

    def start_when_allowed(self) -> None:
        """Says that a worker is needed, now or later as the backoff says, or refuses what waits for a model that is set
        aside."""
        if self.closed or self.replicas_that_are("starting", "ready"):
            return
        now_s = time.monotonic()
        verdict = lifecycle.may_start(self._history, now_s)
        if verdict.verdict == "now":
            self._need(self)
        elif verdict.verdict == "later":
            if self._start_later is None:
                self._start_later = self._loop.call_later(verdict.at_s - now_s, self._backoff_is_over)
        else:
            self._refuse_all(self._set_aside_reason(verdict.at_s), retry_after_s=verdict.at_s - now_s)

    def _backoff_is_over(self) -> None:
        self._start_later = None
        self.start_when_allowed()

    def may_add(self, now_s: float) -> bool:
        """Whether a worker may be started: the version exists, and its workers do not die one after the other."""
        # A device's worker runs one batch at a time: a second tenant of the same model would gain nothing there.
        return (
            not self.closed
            and not any(replica.shares_process for replica in self.replicas)
            and lifecycle.may_start(self._history, now_s).verdict == "now"
        )

    def add_replica(self) -> None:
        """Starts one more worker. Where the system gives no process or descriptors, what waits is told so."""
        self.waits_because = ""
        try:
            self.replicas.append(self._spawn(self))
        except OSError as error:
            self.log.append(f"no worker could be started: {error.strerror}")
            if not self.replicas:
                self.refuse(f"no process could be started for {self.model}: {error.strerror}; try again in a moment")

    def refuse(self, sentence: str) -> None:
        """Answers all that waits with an UnavailableError, since no worker can be had."""
        self._refuse_all(sentence)
        self._warmed(sentence)

    def _set_aside_reason(self, until_s: float) -> str:
        return (
            f"{self.model} is set aside: its workers died {self._history.consecutive_deaths} times with no answer "
            f"between; {self._last_reason}. It is tried again in {max(0, until_s - time.monotonic()):.0f} s, or now "
            "when it is loaded or deployed anew"
        )

    def _refuse_all(self, sentence: str, *, retry_after_s: float | None = None) -> None:
        while (work := self._next_retry() or self._waiting.pop()) is not None:
            # Each caller has an error of its own, for it is told which call it belongs to.
            work.future.set_exception(UnavailableError(sentence, retry_after_s=retry_after_s))

    def prepare(self) -> None:
        """Asks for a worker, since calls are about to come here; for LEASE_S nobody else's need ends it."""
        self.leased_until_s = time.monotonic() + LEASE_S
        self.resting = False
        self.start_when_allowed()

    async def warm(self, timeout_s: float) -> None:
        """Has a worker loaded, forgetting past deaths, since somebody asked for the model by name; it is theirs for
        LEASE_S.

        Raises UnavailableError where it does not load, or not in time, or is put to sleep or deleted meanwhile.
        """
        if self.closed:
            raise UnavailableError(f"{self.model} was deleted or replaced")
        self._history = History()
        self.resting = False
        self.leased_until_s = time.monotonic() + LEASE_S
        if self.replicas_that_are("ready"):
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._warming.append(waiter)
        self.start_when_allowed()
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            because = f": {self.waits_because}" if self.waits_because else ""
            raise UnavailableError(f"{self.model} was not loaded after {timeout_s:g} s{because}") from None
        finally:
            if waiter in self._warming:  # who has gone waits for nothing
                self._warming.remove(waiter)
        self.leased_until_s = time.monotonic() + LEASE_S

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
            self.last_used_s = replica.idle_since_s if replica.busy_since_s is None else replica.busy_since_s
        if replica.state == "lost":
            self._lost(replica)
        elif replica.load_error:
            replica.end_reason = f"the model does not load: {replica.load_error}"
        elif replica.state == "ready" and self._warming:
            self._warmed()
        elif replica.state == "retiring":
            replica.end_if_done()
        self.pump()
        if self.resting and not self.waiting:
            self._retire_all()

    def _lost(self, replica: Replica) -> None:
        if replica not in self.replicas:
            return
        self.replicas.remove(replica)
        owed = [work for work in replica.in_flight.values() if work.sequence is None]
        replica.in_flight.clear()
        for sequence in list(replica.sequences):
            self.sequences.lose(sequence, "was lost with its worker")
        if replica.retired and not owed:
            return
        self._last_reason = replica.end_reason
        if not replica.blameless:
            self._warmed(replica.end_reason)
            self._history = self._history.died(time.monotonic())
        self.log.append(f"worker {replica.pid} was lost: {self._last_reason}")
        for work in owed:
            work.attempts += not replica.blameless
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
        # Also where nothing waits: whoever calls next should find it warm, as it was.
        self.start_when_allowed()

    def retire_idle(self) -> bool:
        """Ends the worker that has been idle longest; False where all have something to do."""
        idle = [replica for replica in self.replicas if replica.idle]
        if idle:
            min(idle, key=lambda replica: replica.idle_since_s).retire()
        return bool(idle)

    def retire_busy(self) -> None:
        """Gives the worker that owes the least no new calls, and ends it when it owes nothing. Not one that keeps
        sequences: these would go on, and hold its memory."""
        ready = [replica for replica in self.replicas if replica.state == "ready" and not replica.sequences]
        if ready:
            min(ready, key=lambda replica: len(replica.in_flight)).retire()

    def sleep(self) -> None:
        """Ends the workers once all that came before is answered; the next call starts one."""
        self.resting = True
        self.leased_until_s = 0.0
        self._warmed("it was put to sleep or deleted before it was loaded")
        if self.closed or not self.waiting:
            self._retire_all()

    def _retire_all(self) -> None:
        for replica in list(self.replicas):
            if replica.state != "retiring":
                replica.retire()

    def close(self) -> None:
        """No workers any more after those in flight have answered: the version is gone."""
        self.closed = True
        self._refuse_all(f"{self.model} was deleted or replaced while the call waited", retry_after_s=1.0)
        self.sequences.lose_all("was lost, since its model's version was deleted or replaced, or the node ends")
        self.sleep()

    # Time.

    def tick(self, now_s: float) -> None:
        """Ends calls past their deadline, and workers past their run limit."""
        for replica in self.replicas:
            if lifecycle.loads_too_long(replica.state, replica.started_s, now_s):
                replica.kill(f"the model was not loaded after {lifecycle.LOAD_LIMIT_S:g} s")
            if lifecycle.is_hung(busy_since_s=replica.busy_since_s, run_limit_s=self.run_limit_s, now_s=now_s):
                replica.kill(f"it ran longer than the model's limit of {self.run_limit_s:g} s and was ended")
            for work in replica.in_flight.values():
                if now_s >= work.deadline_s:
                    work.expire()
        self._waiting.expire(now_s)
        if self.sequences.live:
            self.sequences.tick(now_s)
            self.pump()
        for work in self._retries:
            if now_s >= work.deadline_s:
                work.expire()
        while self._retries and self._retries[0].future.done():
            self._retries.pop(0)

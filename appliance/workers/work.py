"""One call on its way through this node's workers, and the order in which those that wait are taken.

Runs in the gateway's event loop. Knows neither workers nor processes.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from appliance.core.client_memory import MemorySpan
from appliance.core.errors import DeadlineError, IngleError
from appliance.core.frames import Answer, Invoke
from appliance.core.requests import Part
from appliance.workers.alarms import Alarm
from appliance.workers.memory_outputs import PlacedOutput
from appliance.workers.sequences import CallSequence

# V2 counts priorities from 1, the highest; 0 says that the caller has none to state.
DEFAULT_PRIORITY = 5

Outcome = tuple[Answer, bytes]


class Future(Protocol):
    """Who waits for a call: an asyncio.Future, or a front's own object that need not wait for the loop's next turn."""

    def done(self) -> bool: ...
    def set_result(self, result: Outcome, /) -> None: ...
    def set_exception(self, exception: IngleError, /) -> None: ...


class Choice(Protocol):
    """Where a call went, and why."""

    def explanation(self) -> dict[str, object]:
        """The candidates with their terms in seconds, for people and programs."""


class Flight(Protocol):
    """What drives a call that may run on several nodes."""

    def caller_gone(self) -> None:
        """Nobody waits for the answer any more: whoever still works on it may stop."""


class Work:
    """One call on its way to a worker and back. `future` gives (Answer, body) or an IngleError."""

    __slots__ = (
        "attempts",
        "choice",
        "deadline_s",
        "flight",
        "future",
        "invoke",
        "memory_outputs",
        "parts",
        "patience_turns",
        "placed",
        "priority",
        "ran_on",
        "remote_s",
        "sent_ns",
        "sequence",
        "spans",
        "timer",
    )

    def __init__(self, invoke: Invoke, parts: Sequence[Part], deadline_s: float, future: Future, began_ns: int) -> None:
        self.invoke = invoke
        self.parts = parts
        self.deadline_s = deadline_s  # on time.monotonic()'s clock
        self.future = future
        self.priority = DEFAULT_PRIORITY
        self.attempts = 0
        self.sent_ns = began_ns
        self.spans: list[tuple[int, int]] = []  # what it takes up of a worker's region
        self.memory_outputs: Mapping[str, MemorySpan] | None = None
        self.placed: dict[str, PlacedOutput] = {}
        self.patience_turns = 1
        self.sequence: CallSequence | None = None
        self.timer: Alarm | None = None
        self.flight: Flight | None = None  # where it may run on several nodes
        self.ran_on = ""  # the name of the other node that answered it
        self.remote_s = (0.0, 0.0)  # how long it waited there, and for the model to be loaded
        self.choice: Choice | None = None  # why it ran where it did

    def expire(self) -> None:
        """The deadline has passed: the caller is told, and the worker's answer, if one comes, is dropped."""
        if not self.future.done():
            self.future.set_exception(DeadlineError("the call was not answered within its deadline"))


class WorkQueue:
    """Calls by priority (1 before 2), then by deadline, then as they came. A call whose caller has gone is passed over.

    `len()` counts those too until they are passed or expire() is called.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, float, int, Work]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Work]:
        """In no particular order."""
        return (item[3] for item in self._heap)

    def push(self, work: Work) -> None:
        self._number += 1
        heapq.heappush(self._heap, (work.priority, work.deadline_s, self._number, work))

    def pop(self) -> Work | None:
        """The first whose caller still waits for it."""
        while self._heap:
            work = heapq.heappop(self._heap)[3]
            if not work.future.done():
                return work
        return None

    def ahead_of(self, priority: int) -> int:
        """How many calls would be taken before a new one of this priority, if all deadlines were alike."""
        if not self._heap or self._heap[0][0] > priority:
            return 0
        return sum(item[0] <= priority for item in self._heap)

    def expire(self, now_s: float) -> None:
        """Ends the calls whose deadline has passed, and forgets those that nobody waits for."""
        for _, deadline_s, _, work in self._heap:
            if now_s >= deadline_s:
                work.expire()
        if any(item[3].future.done() for item in self._heap):
            self._heap = [item for item in self._heap if not item[3].future.done()]
            heapq.heapify(self._heap)

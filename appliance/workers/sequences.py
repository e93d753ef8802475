"""Sequences of one model version: calls that belong together, whose state one worker keeps between them.

Runs in the gateway's event loop. A sequence is bound to the worker that ran its first call. Its calls run one at a time
and in the order they came; none is given to another worker, and when the worker is lost, so is the sequence, which its
caller is told. How many there may be and for how long without a call is bounded.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.core.errors import BusyError, SequenceLostError

if TYPE_CHECKING:
    from appliance.workers.replica import Replica
    from appliance.workers.work import Work

_numbers = itertools.count(1)


class CallSequence:
    """One sequence. `lost` says, as half a sentence, what became of it; `over` that it takes no more calls."""

    def __init__(self, id: int | str, owner: "Sequences") -> None:  # noqa: A002
        self.id = id
        self.number = next(_numbers)  # what the worker knows it by
        self.owner = owner
        self.replica: Replica | None = None
        self.steps: deque[Work] = deque()  # calls that wait for the one before
        self.current: Work | None = None  # the call that waits for a worker, or is with it
        self.last_used_s = time.monotonic()
        self.lost = ""
        self.over = False

    def bind(self, replica: "Replica") -> None:
        """Its first call goes to this worker."""
        self.replica = replica
        replica.sequences.add(self)

    def done(self, work: "Work") -> None:
        """The worker has nothing to do with this call any more."""
        self.owner.done(self, work)

    def lost_error(self) -> SequenceLostError:
        return SequenceLostError(f"the sequence {self.id!r:.80} {self.lost}: start it anew")


class Sequences:
    """`enqueue` takes a call that any worker may run: a sequence's first."""

    def __init__(self, *, most: int, idle_s: float, enqueue: Callable[["Work"], None]) -> None:
        self.live: set[CallSequence] = set()
        self.pinned: list[Work] = []  # calls whose worker is known, and which wait for room in it
        self._most = most
        self._idle_s = idle_s
        self._enqueue = enqueue

    @property
    def waiting(self) -> int:
        """Calls that wait for the one before them, or for their own worker."""
        return len(self.pinned) + sum(len(sequence.steps) for sequence in self.live)

    def begin(self, id: int | str) -> CallSequence:  # noqa: A002
        """A new sequence. Raises BusyError where there are as many as may be."""
        if len(self.live) >= self._most:
            raise BusyError(
                f"{self._most} sequences of this model are under way already: come back when one has ended",
                retry_after_s=1.0,
            )
        sequence = CallSequence(id, self)
        self.live.add(sequence)
        return sequence

    def submit(self, sequence: CallSequence, work: "Work") -> None:
        """Takes the sequence's next call."""
        sequence.last_used_s = time.monotonic()
        sequence.steps.append(work)
        self._go_on(sequence)

    def done(self, sequence: CallSequence, work: "Work") -> None:
        """A call has ended: the next one's turn has come."""
        if sequence.current is work:
            sequence.current = None
        sequence.last_used_s = time.monotonic()
        if work.invoke.sequence_end:
            self.end(sequence)
        self._go_on(sequence)

    def hand_over(self, sequence: CallSequence, successor: "Sequences") -> None:
        """A sequence that no worker has begun goes on elsewhere."""
        self.live.discard(sequence)
        successor.live.add(sequence)
        sequence.owner = successor

    def take(self, replica: "Replica", room: int) -> list["Work"]:
        """Up to so many calls that wait for this worker."""
        taken: list[Work] = []
        kept: list[Work] = []
        for work in self.pinned:
            if work.future.done():
                continue
            mine = work.sequence is not None and work.sequence.replica is replica and len(taken) < room
            (taken if mine else kept).append(work)
        self.pinned = kept
        return taken

    def end(self, sequence: CallSequence) -> None:
        """Takes no more calls; is forgotten once it has none."""
        sequence.over = True
        self._forget_if_done(sequence)

    def lose(self, sequence: CallSequence, reason: str) -> None:
        """Tells those who wait, and whoever calls next."""
        sequence.lost = sequence.lost or reason
        steps = [*sequence.steps, *([sequence.current] if sequence.current else [])]
        sequence.steps.clear()
        sequence.current = None
        for work in steps:
            if not work.future.done():
                work.future.set_exception(sequence.lost_error())
        self.end(sequence)

    def lose_all(self, reason: str) -> None:
        for sequence in list(self.live):
            self.lose(sequence, reason)

    def tick(self, now_s: float) -> None:
        """Ends calls past their deadline and sequences that nobody calls any more."""
        for sequence in list(self.live):
            for work in (*sequence.steps, *((sequence.current,) if sequence.current else ())):
                if now_s >= work.deadline_s:
                    work.expire()
            self._go_on(sequence)
            idle = sequence.current is None and not sequence.steps
            if idle and now_s - sequence.last_used_s > self._idle_s:
                self.lose(sequence, f"was dropped after {self._idle_s:g} s without a call")

    def _go_on(self, sequence: CallSequence) -> None:
        """Lets the next call go where it must, if none of this sequence waits for a worker or is with one."""
        current, replica = sequence.current, sequence.replica
        if current is not None and current.future.done() and not (replica and current.invoke.call in replica.in_flight):
            current = sequence.current = None  # it was given up before it was sent
        while current is None and sequence.steps:
            work = sequence.steps.popleft()
            if work.future.done():
                continue
            if replica is None and not work.invoke.sequence_start:
                sequence.steps.appendleft(work)
                self.lose(sequence, "never began, since its first call was given up")
                return
            current = sequence.current = work
            if replica is None:
                self._enqueue(work)
            else:
                self.pinned.append(work)
        self._forget_if_done(sequence)

    def _forget_if_done(self, sequence: CallSequence) -> None:
        if sequence.over and sequence.current is None and not sequence.steps and sequence in self.live:
            self.live.discard(sequence)
            if (replica := sequence.replica) is not None:
                replica.let_go(sequence)

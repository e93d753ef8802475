"""One worker process as the gateway sees it: what it was sent, what it still owes, and how it ended.

Runs in the gateway's event loop. It does not decide what it gets: its pool does.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from appliance.core.errors import DeadlineError, IngleError, error_from_code
from appliance.core.frames import Answer, Failure, Invoke, Kind, Loaded, TensorHead, frame_start
from appliance.core.requests import Buffer
from appliance.workers.child import Child
from appliance.workers.link import Link
from appliance.workers.region import SharedRegion

# Below this a copy through the socket costs less than the bookkeeping of shared memory, and fits the socket's buffer.
_REGION_FROM_BYTES = 32 * 1024

Outcome = tuple[Answer, bytes]


class Future(Protocol):
    """Who waits for a call: an asyncio.Future, or a front's own object that need not wait for the loop's next turn."""

    def done(self) -> bool: ...
    def set_result(self, result: Outcome, /) -> None: ...
    def set_exception(self, exception: IngleError, /) -> None: ...


class Work:
    """One call on its way to a worker and back. `future` gives (Answer, body) or an IngleError."""

    __slots__ = (
        "attempts",
        "deadline_s",
        "future",
        "invoke",
        "parts",
        "patience_turns",
        "sent_ns",
        "spans",
        "timer",
    )

    def __init__(
        self, invoke: Invoke, parts: Sequence[Buffer], deadline_s: float, future: Future, began_ns: int
    ) -> None:
        self.invoke = invoke
        self.parts = parts
        self.deadline_s = deadline_s  # on time.monotonic()'s clock
        self.future = future
        self.attempts = 0
        self.sent_ns = began_ns
        self.spans: list[tuple[int, int]] = []
        self.patience_turns = 1
        self.timer: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        """The deadline has passed: the caller is told, and the worker's answer, if one comes, is dropped."""
        if not self.future.done():
            self.future.set_exception(DeadlineError("the call was not answered within its deadline"))


class Replica(Child):
    """A worker from its start to its end. `on_change` is called when it has room, is loaded, or is lost."""

    def __init__(self, number: int, region: SharedRegion, on_change: Callable[["Replica"], None]) -> None:
        super().__init__(number)
        self.state: Literal["starting", "ready", "retiring", "lost"] = "starting"
        self.providers: list[str] = []
        self.load_s = 0.0
        self.load_error = ""
        self.in_flight: dict[int, Work] = {}
        self.alone = False  # it holds a retried call, which must run by itself
        self.started_s = time.monotonic()
        self.busy_since_s: float | None = None
        self.retired = False  # its end was asked for
        self.answered = False  # since this was last read: the worker lived to say something
        self._region = region
        self._on_change = on_change
        self._link: Link | None = None
        self._socket_closed = False

    def attach(self, link: Link) -> None:
        self._link = link
        if self.ended.is_set():
            link.close()
        else:
            self.end_if_done()

    def send(self, work: Work, *, alone: bool = False) -> None:
        """Hands one call over, with the rest of this turn's."""
        invoke, parts = work.invoke, work.parts
        body_size = 0
        inline: list[bytes] = []
        tensors = invoke.tensors
        for index, part in enumerate(parts):
            size = len(part)
            if size >= _REGION_FROM_BYTES and (start := self._region.put(part)) is not None:
                if tensors is invoke.tensors:
                    tensors = list(tensors)
                head = tensors[index]
                tensors[index] = TensorHead(head.name, head.dtype, head.shape, head.encoding, size, start)
                work.spans.append((start, size))
            else:
                inline.append(part)  # type: ignore[arg-type]  # bytes.join takes any buffer
                body_size += size
        if tensors is not invoke.tensors:
            invoke = Invoke(invoke.call, invoke.form, tensors, invoke.outputs, invoke.binary, invoke.content_type)
        assert self._link is not None  # a worker that is ready has spoken through it
        work.sent_ns = time.perf_counter_ns()
        self._link.send((frame_start(Kind.INVOKE, invoke, body_size), *inline), work.patience_turns)
        if not self.in_flight:
            self.busy_since_s = time.monotonic()
        self.alone = alone
        self.in_flight[invoke.call] = work

    def on_frame(self, head: Answer | Failure | Loaded, body: bytes) -> None:
        if isinstance(head, Loaded):
            self.state = "ready" if self.state == "starting" and not head.error else self.state
            self.providers, self.load_s, self.load_error = head.providers, head.load_ns / 1e9, head.error
            self._on_change(self)
            return
        self.answered = True
        work = self.in_flight.pop(head.call)
        self.alone = False
        self.busy_since_s = time.monotonic() if self.in_flight else None
        for start, size in work.spans:
            self._region.give_back(start, size)
        future = work.future
        if not future.done():
            if isinstance(head, Answer):
                future.set_result((head, body))
            else:
                future.set_exception(error_from_code(head.code, head.sentence))
        self._on_change(self)

    def on_socket_closed(self) -> None:
        """The worker has closed its end, or the gateway its own. What still runs of it is ended."""
        self._signal()
        self._socket_closed = True
        self._lost_if_gone()

    def reaped(self, status: int) -> None:
        super().reaped(status)
        self._lost_if_gone()

    def fork_failed(self, reason: str) -> None:
        super().fork_failed(reason)
        if self._link is not None:
            self._link.close()
        self._lost_if_gone()

    def retire(self) -> None:
        """No new calls; the worker is ended once it owes nothing."""
        if self.state != "lost":
            self.retired = True
            self.state = "retiring"
            self.end_if_done()

    def end_if_done(self) -> None:
        if self.state == "retiring" and not self.in_flight and self._link is not None:
            self._link.close()

    def _lost_if_gone(self) -> None:
        """Lost is told once, when the process is reaped and its socket read to the end: only then is it known what
        it answered and what it died of."""
        if self.ended.is_set() and self._socket_closed and self.state != "lost":
            self.state = "lost"
            self._region.close()
            self._on_change(self)

"""One worker process as the gateway sees it: what it was sent, what it still owes, and how it ended.

Runs in the gateway's event loop. It does not decide what it gets: its pool does.
"""

import time
from collections.abc import Callable
from typing import Literal

from appliance.core.errors import error_from_code
from appliance.core.frames import Answer, Failure, Invoke, Kind, Loaded, TensorHead, frame_start
from appliance.workers.child import Child
from appliance.workers.link import Link
from appliance.workers.region import SharedRegion
from appliance.workers.run_times import RunTimes
from appliance.workers.work import Work

# Below this a copy through the socket costs less than the bookkeeping of shared memory, and fits the socket's buffer.
_REGION_FROM_BYTES = 32 * 1024


class Replica(Child):
    """A worker from its start to its end. `on_change` is called when it has room, is loaded, or is lost; `run_times`
    learns from its answers; `memory_bytes` is what it counts for in the memory budget."""

    def __init__(
        self,
        number: int,
        region: SharedRegion,
        on_change: Callable[["Replica"], None],
        *,
        run_times: RunTimes,
        memory_bytes: int,
    ) -> None:
        super().__init__(number)
        self.memory_bytes = memory_bytes
        self.threads = 1
        self.ready_s = 0.0  # on time.monotonic()'s clock, when it was loaded
        self.idle_since_s = 0.0
        self.calls = 0
        self.announced = False  # that it is ready was taken note of
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
        self._run_times = run_times
        self._region = region
        self._on_change = on_change
        self._link: Link | None = None
        self._socket_closed = False

    @property
    def idle(self) -> bool:
        """Loaded, and owing nothing: it can be ended at once and nobody notices."""
        return self.state == "ready" and not self.in_flight

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
            self.ready_s = self.idle_since_s = time.monotonic()
            self._on_change(self)
            return
        self.answered = True
        work = self.in_flight.pop(head.call)
        self.alone = False
        self.calls += 1
        now_s = time.monotonic()
        if self.in_flight:
            self.busy_since_s = now_s
        else:
            self.busy_since_s, self.idle_since_s = None, now_s
        for start, size in work.spans:
            self._region.give_back(start, size)
        future = work.future
        if isinstance(head, Answer):
            self._run_times.answered(head)
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

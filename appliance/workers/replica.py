"""One worker process as the gateway sees it: what it was sent, what it still owes, and how it ended.

Runs in the gateway's event loop. It does not decide what it gets: its pool does.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from appliance.core.client_memory import MemorySpan
from appliance.core.errors import IngleError, WorkerFailedError, error_from_code
from appliance.core.frames import (
    REGION_FROM_BYTES,
    Answer,
    Failure,
    Held,
    Invoke,
    Kind,
    Loaded,
    TensorHead,
    frame_start,
)
from appliance.workers.child import LinkedChild
from appliance.workers.link import Link
from appliance.workers.memory_outputs import deliver, place
from appliance.workers.region import SharedRegion
from appliance.workers.run_times import RunTimes
from appliance.workers.sequences import CallSequence
from appliance.workers.work import Work

_INVOKE = int(Kind.INVOKE)  # bound once: to look up an enum's member costs more than to use it


class Replica(LinkedChild):
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
        self.from_graph = False  # it loaded a cached optimised graph
        self.graph_offered = False
        self.graph_fault = ""
        self.shares_process = False  # it is one of several models in a device's worker
        self.device_bytes = 0  # of a device's memory, as measured
        self.note = ""  # why it does not run where it was asked to
        self.in_flight: dict[int, Work] = {}
        self.alone = False  # it holds a retried call, which must run by itself
        self.started_s = time.monotonic()
        self.busy_since_s: float | None = None
        self.retired = False  # its end was asked for
        self.answered = False  # since this was last read: the worker lived to say something
        self.sequences: set[CallSequence] = set()  # whose states it keeps
        self._forget: list[int] = []
        self._answer_bytes = 0  # what an answer is likely to have at most, where it is large; else 0
        self._run_times = run_times
        self._region = region
        self._on_change = on_change

    @property
    def idle(self) -> bool:
        """Loaded, and owing nothing: it can be ended at once and nobody notices."""
        return self.state == "ready" and not self.in_flight and not self.sequences

    def release_pages(self) -> None:
        """Returns to the system what large tensors took of shared memory, where none is under way."""
        self._region.release_pages()

    def attach(self, link: Link) -> None:
        self.link = link
        if self.ended.is_set():
            link.close()
        else:
            self.end_if_done()

    def send(self, work: Work, *, alone: bool = False) -> None:
        """Hands one call over, with the rest of this turn's. Where the caller's own memory cannot be read, the caller
        is told so, and nothing is sent."""
        if work.sequence is not None and work.sequence.replica is None:
            work.sequence.bind(self)
        try:
            invoke, inline = self._laid_out(work)
        except IngleError as error:
            self._give_back(work)
            if not work.future.done():
                work.future.set_exception(error)
            if work.sequence is not None:
                work.sequence.done(work)
            asyncio.get_running_loop().call_soon(self._on_change, self)  # the room it did not take is another's
            return
        assert self.link is not None  # a worker that is ready has spoken through it
        work.sent_ns = time.perf_counter_ns()
        body_size = sum(map(len, inline))
        self.link.send((frame_start(_INVOKE, invoke, body_size), *inline), work.patience_turns)
        if not self.in_flight:
            self.busy_since_s = time.monotonic()
        self.alone = alone
        self.in_flight[invoke.call] = work

    def _laid_out(self, work: Work) -> tuple[Invoke, list[bytes]]:
        """The call as this worker is told it, and what goes through the socket; the rest is in the region."""
        invoke = work.invoke
        inline: list[bytes] = []
        tensors, outputs = invoke.tensors, invoke.outputs
        for index, part in enumerate(work.parts):
            size = len(part)
            if size >= REGION_FROM_BYTES and (start := self._region.put(part)) is not None:
                if tensors is invoke.tensors:
                    tensors = list(tensors)
                head = tensors[index]
                tensors[index] = TensorHead(head.name, head.dtype, head.shape, head.encoding, size, start)
                work.spans.append((start, size))
            else:
                # bytes.join takes any buffer
                inline.append(part.read() if isinstance(part, MemorySpan) else part)  # type: ignore[arg-type]
        if work.memory_outputs and outputs:
            outputs, work.placed = place(outputs, work.memory_outputs, self._region)
            work.spans.extend((start, len(span)) for start, span in work.placed.values() if start >= 0)
        answer_at = self._place_for_answer(work)
        if tensors is not invoke.tensors or outputs is not invoke.outputs or self._forget or answer_at >= 0:
            invoke = Invoke(
                invoke.call,
                invoke.form,
                tensors,
                outputs,
                invoke.binary,
                invoke.content_type,
                invoke.sequence,
                invoke.sequence_start,
                invoke.sequence_end,
                self._forget,
                answer_at=answer_at,
                answer_bytes=self._answer_bytes if answer_at >= 0 else 0,
            )
            self._forget = []
        return invoke, inline

    def _place_for_answer(self, work: Work) -> int:
        """Where in the region the answer may be put, if it is as large as those before; -1 where none is needed."""
        if not self._answer_bytes:
            return -1
        start = self._region.take(self._answer_bytes)
        if start is None:
            return -1
        work.spans.append((start, self._answer_bytes))
        return start

    def _take_body(self, work: Work, head: Answer, body: bytes) -> bytes:
        """The answer's body, wherever it lies. Raises WorkerFailedError where that is none of the call's places."""
        if head.body_at >= 0:
            sizes = [size for start, size in work.spans if start == head.body_at]
            if not sizes or not 0 <= head.body_bytes <= sizes[0]:
                raise WorkerFailedError("the worker's answer does not lie where it was to be put")
            with self._region.view(head.body_at, head.body_bytes) as content:
                body = bytes(content)
        # What an answer is likely to have: the largest of late, fading.
        expected = max(len(body), self._answer_bytes - (self._answer_bytes >> 3))
        self._answer_bytes = expected if expected >= REGION_FROM_BYTES else 0
        return body

    def _give_back(self, work: Work) -> None:
        for start, size in work.spans:
            self._region.give_back(start, size)
        work.spans.clear()

    def on_frame(self, head: Answer | Failure | Loaded | Held, body: bytes) -> None:
        if isinstance(head, Held):  # what a device's worker says of a tenant is read by its host
            return
        if isinstance(head, Loaded):
            self.state = "ready" if self.state == "starting" and not head.error else self.state
            self.providers, self.load_s, self.load_error = head.providers, head.load_ns / 1e9, head.error
            self.ready_s = self.idle_since_s = time.monotonic()
            self.from_graph, self.graph_fault = head.from_graph, head.graph_fault
            self.pid = self.pid or head.pid
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
        future = work.future
        if isinstance(head, Answer):
            self._run_times.answered(head)
        if not future.done():
            if isinstance(head, Answer):
                self._answer(work, head, body)
            else:
                future.set_exception(error_from_code(head.code, head.sentence))
        self._give_back(work)
        if work.sequence is not None:
            work.sequence.done(work)
        self._on_change(self)

    def _answer(self, work: Work, head: Answer, body: bytes) -> None:
        try:
            body = self._take_body(work, head, body)
            if work.placed:
                body = deliver(head, body, work.placed, self._region)
        except IngleError as error:
            work.future.set_exception(error)
            return
        work.future.set_result((head, body))

    def retire(self) -> None:
        """No new calls; the worker is ended once it owes nothing."""
        if self.state != "lost":
            self.retired = True
            self.state = "retiring"
            self.end_if_done()

    def end_if_done(self) -> None:
        if self.state == "retiring" and not self.in_flight and not self.sequences and self.link is not None:
            self.link.close()

    def let_go(self, sequence: CallSequence) -> None:
        """The sequence is over: its state is dropped with the next call."""
        self.sequences.discard(sequence)
        self._forget.append(sequence.number)
        self.end_if_done()

    def _when_lost(self) -> None:
        self.state = "lost"
        self._region.close()
        self._on_change(self)

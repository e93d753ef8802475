"""An open loop of callers: calls leave when they are due, whether or not earlier ones were answered.

A closed loop waits for a slow server and so hides how slow it was; here a call's time counts from when it was due. Runs
in the benchmark's process on uvloop, over kept-alive connections, of which more are opened when all are waiting.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

from benchmarks.closed_loop import Check
from benchmarks.measured import LoadError

MAX_CONNECTIONS = 2000
_PATIENCE_S = 60.0  # for the last answers
_CHECK_EVERY = 64


@dataclass
class Answers:
    """What became of the calls. `calls` holds when each was due, counted from the start, and how long it took."""

    calls: list[tuple[float, float]] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)  # by HTTP status
    unanswered: int = 0
    checked: int = 0

    @property
    def failed(self) -> int:
        return sum(self.refused.values()) + self.unanswered

    def centile_s(self, centile: float, *, after_s: float = 0.0) -> float:
        """Of the calls that were due `after_s` or later. Raises LoadError where there are none."""
        took = sorted(took_s for due_s, took_s in self.calls if due_s >= after_s)
        if not took:
            raise LoadError("no call was answered")
        return took[min(len(took) - 1, int(len(took) * centile / 100))]

    def median_s(self) -> float:
        return statistics.median(took_s for _, took_s in self.calls)


class _Connection(asyncio.Protocol):
    """One call at a time; back on the pile of idle ones when it is answered."""

    def __init__(self, loop: "OpenLoop") -> None:
        self._loop = loop
        self._data = b""
        self._due_s = -1.0
        self.transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def call(self, request: bytes, due_s: float) -> None:
        self._due_s = due_s
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._data[:end].lower() + b"\r\n"
        at = head.find(b"\r\ncontent-length:")
        size = int(head[at + 17 : head.index(b"\r\n", at + 2)]) if at >= 0 else 0
        if len(self._data) < end + 4 + size:
            return
        status, body, self._data = int(self._data[9:12]), self._data[end + 4 :], b""
        due_s, self._due_s = self._due_s, -1.0
        self._loop.answered(due_s, status, body)
        if b"\r\nconnection: close" in head:
            self.transport.close()
        else:
            self._loop.idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._due_s >= 0:
            self._loop.answers.unanswered += 1
            self._loop.open_calls -= 1
        if self in self._loop.idle:
            self._loop.idle.remove(self)


class OpenLoop:
    """The calls of one stream to one address; several run side by side in run_open()."""

    def __init__(self, address: str, request: bytes, check: Check, due_s: Sequence[float]) -> None:
        """`due_s`: when calls leave, seconds from the start, ascending."""
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self.answers = Answers()
        self.patience_s = _PATIENCE_S
        self.idle: list[_Connection] = []
        self.open_calls = 0
        self._opened = 0
        self._request, self._check, self._due_s = request, check, list(due_s)
        self._started_s = 0.0

    def answered(self, due_s: float, status: int, body: bytes) -> None:
        self.open_calls -= 1
        if status != 200:
            self.answers.refused[status] += 1
            return
        self.answers.calls.append((due_s, time.perf_counter() - self._started_s - due_s))
        if len(self.answers.calls) % _CHECK_EVERY == 1:
            self._check(body)
            self.answers.checked += 1

    async def run(self, started_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._started_s = started_s
        opening: set[asyncio.Task[None]] = set()
        for due_s in self._due_s:
            wait_s = started_s + due_s - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self.open_calls += 1
            if self.idle:
                self.idle.pop().call(self._request, due_s)
            elif self._opened < MAX_CONNECTIONS:
                self._opened += 1
                task = loop.create_task(self._call_on_a_new_one(due_s))
                opening.add(task)
                task.add_done_callback(opening.discard)
            else:
                self.open_calls -= 1
                self.answers.unanswered += 1
        ends_s = time.perf_counter() + self.patience_s
        while self.open_calls and time.perf_counter() < ends_s:
            await asyncio.sleep(0.01)
        self.answers.unanswered += self.open_calls
        for connection in list(self.idle):
            connection.transport.abort()

    async def _call_on_a_new_one(self, due_s: float) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self.host, self.port
            )
        except OSError:
            self.open_calls -= 1
            self.answers.unanswered += 1
        else:
            connection.call(self._request, due_s)


async def _together(streams: Sequence[OpenLoop]) -> None:
    started_s = time.perf_counter() + 0.05
    await asyncio.gather(*(stream.run(started_s) for stream in streams))


def run_open(*streams: OpenLoop) -> list[Answers]:
    """Runs the streams at once; what became of the calls of each."""
    uvloop.run(_together(streams))
    return [stream.answers for stream in streams]


def evenly(rate_per_s: float, seconds: float) -> list[float]:
    """When calls are due at a steady rate."""
    return [index / rate_per_s for index in range(int(rate_per_s * seconds))]

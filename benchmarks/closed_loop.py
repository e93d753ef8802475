"""A closed loop of callers: who has its answer calls again. What the load generators for HTTP and gRPC share.

Runs in the benchmark's process on uvloop, because it must cost little beside the servers that are measured.
Knows nothing of protocols and models.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import uvloop

from benchmarks.measured import WARM_UP_S, LoadError, Measured

Check = Callable[[bytes], None]  # takes an answer's content; raises where it is wrong
_CHECK_EVERY = 256


class Run:
    """What the connections of one round share: how long calls took, and the first fault."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._answers = 0
        self.durations_s: list[float] = []
        self.stopped = False
        self.fault: asyncio.Future[None]

    def fail(self, sentence: str) -> None:
        """Ends the round with a LoadError; the first fault is the one that is told."""
        if not self.fault.done():
            self.fault.set_exception(LoadError(sentence))

    def answered(self, duration_s: float, answer: bytes, content_at: int) -> None:
        """Counts an answer. The first and every 256th are checked, for a check costs more than a call."""
        self.durations_s.append(duration_s)
        if self._answers % _CHECK_EVERY == 0:
            try:
                self._check(answer[content_at:])
            except Exception as error:
                self.fail(f"a wrong answer, {error}: {answer[:600]!r}")
        self._answers += 1


class Connection(asyncio.Protocol):
    """One connection of a run. Whoever inherits it sends in `begin` and answers in `data_received`."""

    transport: Any  # uvloop's transports are no asyncio.Transport

    def __init__(self, run: Run) -> None:
        self.run = run

    def begin(self) -> None:
        raise NotImplementedError

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.begin()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.run.stopped:
            self.run.fail(f"the server closed the connection: {error}")


async def _drive(address: str, run: Run, connections: Iterable[Callable[[], Connection]], seconds: float) -> Measured:
    loop = asyncio.get_running_loop()
    run.fault = loop.create_future()
    host, port = address.rsplit(":", 1)
    opened = [(await loop.create_connection(make, host, int(port)))[1] for make in connections]
    await asyncio.wait({run.fault}, timeout=WARM_UP_S)
    run.durations_s.clear()
    started_s = time.perf_counter()
    await asyncio.wait({run.fault}, timeout=seconds)
    elapsed_s = time.perf_counter() - started_s
    run.stopped = True
    for connection in opened:
        connection.transport.abort()
    await asyncio.sleep(0)  # lets the transports close before the loop does
    if run.fault.done():
        run.fault.result()
    return Measured.of(run.durations_s, elapsed_s)


def drive(address: str, run: Run, connections: Iterable[Callable[[], Connection]], seconds: float) -> Measured:
    """Calls for `seconds` after a warm-up, then hangs up. Raises LoadError at the first fault."""
    return uvloop.run(_drive(address, run, connections, seconds))

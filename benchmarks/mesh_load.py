"""The load generator for meshes: calls that leave when they are due, whatever became of earlier ones, each remembered.

A process of its own, on the host of the LAN where its callers are: `python -m benchmarks.mesh_load`, with a Plan on its
standard input; it says when it begins, and at the end what became of each call. A call that was not answered rightly by
its deadline is lost. Knows HTTP and the Python client, no models.
"""

import asyncio
import math
import random
import signal
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

import aiohttp
import msgspec
import numpy as np
import uvloop

from appliance.client import AsyncClient
from benchmarks.calls import Call
from benchmarks.measured import LoadError
from benchmarks.processes import ROOT
from tests.mesh.lan import Host

_HEADER_SIZE = "Inference-Header-Content-Length"
_MAX_CONNECTIONS = 500
_GRACE_S = 1.0  # a node may use all of a call's deadline, and its refusal has its way to come


class Plan(msgspec.Struct, kw_only=True):
    """What is called. `urls`: of HTTP; the one is called by itself, several through the Python client that knows them.

    `due_s` counts from the start and is ascending; `pins` are taken in turn (X-Ingle-Pin)."""

    urls: list[str]
    model: str
    row: list[float]
    expected: list[float]
    due_s: list[float]
    deadline_s: float = 10.0
    pins: list[str] = []
    warm_up_calls: int = 20
    key: str = ""


class CallOutcome(msgspec.Struct, array_like=True):
    """One call: when it was due, counted from the start, how long it took from then, which node ran it, and what was
    wrong with it, in words; empty where nothing was."""

    due_s: float
    took_s: float
    node: str
    fault: str


class LoadReport(msgspec.Struct):
    """All calls of a plan, by when they were due."""

    calls: list[CallOutcome]

    @property
    def lost(self) -> list[CallOutcome]:
        return [call for call in self.calls if call.fault]

    def centile_s(self, centile: float, *, after_s: float = 0.0, before_s: float = math.inf) -> float:
        """Of the answered calls that were due then. Raises LoadError where there are none."""
        took = sorted(call.took_s for call in self.calls if not call.fault and after_s <= call.due_s < before_s)
        if not took:
            raise LoadError("no call was answered")
        return took[min(len(took) - 1, int(len(took) * centile / 100))]

    def mean_s(self) -> float:
        took = [call.took_s for call in self.calls if not call.fault]
        if not took:
            raise LoadError("no call was answered")
        return sum(took) / len(took)

    def answered_by(self) -> Counter[str]:
        return Counter(call.node for call in self.calls if not call.fault)


def evenly(rate_per_s: float, seconds: float) -> list[float]:
    """When calls are due at a steady rate."""
    return [index / rate_per_s for index in range(int(rate_per_s * seconds))]


def at_random(rate_per_s: float, seconds: float, seed: int) -> list[float]:
    """When calls are due that know nothing of each other (a Poisson process)."""
    source = random.Random(seed)
    due_s = [source.expovariate(rate_per_s)]
    while due_s[-1] < seconds:
        due_s.append(due_s[-1] + source.expovariate(rate_per_s))
    return due_s[:-1]


def plan_of(urls: Sequence[str], call: Call, due_s: Sequence[float], *, deadline_s: float = 10.0) -> Plan:
    """The calls of one row of a model with one input `x` and one output `y`, both FP32."""
    row, expected = call.row.ravel().tolist(), call.expected.ravel().tolist()
    return Plan(urls=list(urls), model=call.name, row=row, expected=expected, due_s=list(due_s), deadline_s=deadline_s)


class MeshLoad:
    """A plan that is carried out on a host: entered when its first call is about to leave, and ended with the block."""

    def __init__(self, host: Host, plan: Plan) -> None:
        self._host = host
        self._plan = plan
        self.began_s = 0.0  # on time.monotonic()'s clock

    def __enter__(self) -> Self:
        with self._host.entered():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.mesh_load"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(self._plan))
        self._process.stdin.close()
        try:
            self.began_s = float(self._process.stdout.readline() or "nan")
        except BaseException:
            self._end()
            raise
        if math.isnan(self.began_s):
            self._end()
            raise LoadError("the load generator ended before its first call")
        return self

    def wait_s(self, into_s: float) -> None:
        """Sleeps until the load has run for so long."""
        time.sleep(max(0.0, self.began_s + into_s - time.monotonic()))

    def finish(self) -> LoadReport:
        """Has no further call leave, and reports."""
        self._process.terminate()
        return self.report()

    def report(self) -> LoadReport:
        """When all calls are done. Raises LoadError where the generator failed."""
        assert self._process.stdout is not None
        said = self._process.stdout.read()
        if self._process.wait() or not said:
            raise LoadError(f"the load generator ended with status {self._process.returncode}")
        return msgspec.json.decode(said, type=LoadReport)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


# The process of its own.

# Calls once, pinned so; the node that ran it. Raises whatever went wrong, and ValueError for a wrong answer.
Caller = Callable[[str], Awaitable[str]]


def _compare(plan: Plan, values: Iterable[float]) -> None:
    got = list(values)
    close = len(got) == len(plan.expected)
    if not close or not all(map(lambda a, b: math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-5), got, plan.expected)):
        raise ValueError(f"a wrong answer: {got[:4]}, expected {plan.expected[:4]}")


def _by_http(plan: Plan, session: aiohttp.ClientSession) -> Caller:
    row = array("f", plan.row).tobytes()
    sizes = {"binary_data_size": len(row)}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(plan.row)], "parameters": sizes}
    head = msgspec.json.encode({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    url, body = f"{plan.urls[0]}/v2/models/{plan.model}/infer", head + row
    headers = {_HEADER_SIZE: str(len(head)), "X-Ingle-Deadline-Ms": str(int(plan.deadline_s * 1000))}
    if plan.key:
        headers["Authorization"] = f"Bearer {plan.key}"

    async def call(pin: str) -> str:
        given = {**headers, "X-Ingle-Pin": pin} if pin else headers
        async with session.post(url, data=body, headers=given) as answer:
            content = await answer.read()
            if answer.status != 200:
                raise ValueError(f"status {answer.status}: {content[:200]!r}")
            _compare(plan, np.frombuffer(content, np.float32, offset=len(content) - 4 * len(plan.expected)).tolist())
            return answer.headers["X-Ingle-Node"]

    return call


def _by_client(plan: Plan, client: AsyncClient) -> Caller:
    row = np.asarray([plan.row], np.float32)

    async def call(_pin: str) -> str:
        answer = await client.infer(plan.model, {"x": row}, deadline_s=plan.deadline_s)
        _compare(plan, answer.outputs["y"].ravel().tolist())
        return answer.node

    return call


async def _carry_out(plan: Plan, began: Callable[[float], None]) -> LoadReport:
    async with AsyncExitStack() as opened:
        if len(plan.urls) == 1:
            connector = aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, keepalive_timeout=60)
            patience = aiohttp.ClientTimeout(total=plan.deadline_s + _GRACE_S)
            session = aiohttp.ClientSession(connector=connector, timeout=patience)
            caller = _by_http(plan, await opened.enter_async_context(session))
        else:
            client = AsyncClient(plan.urls, plan.key, timeout_s=plan.deadline_s)
            caller = _by_client(plan, await opened.enter_async_context(client))
        for number in range(plan.warm_up_calls):
            await caller(plan.pins[number % len(plan.pins)] if plan.pins else "")
        started_s = time.monotonic() + 0.05
        began(started_s)
        report = LoadReport([])
        finish = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, finish.set)

        async def call(due_s: float, pin: str) -> None:
            node = fault = ""
            try:
                node = await caller(pin)
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
            took_s = time.monotonic() - started_s - due_s
            if not fault and took_s > plan.deadline_s + _GRACE_S:
                fault = "answered after its deadline"
            report.calls.append(CallOutcome(due_s, took_s, node, fault))

        async with asyncio.TaskGroup() as calls:
            for number, due_s in enumerate(plan.due_s):
                with suppress(TimeoutError):
                    await asyncio.wait_for(finish.wait(), max(0.0, started_s + due_s - time.monotonic()))
                if finish.is_set():
                    break
                calls.create_task(call(due_s, plan.pins[number % len(plan.pins)] if plan.pins else ""))
        report.calls.sort(key=lambda outcome: outcome.due_s)
        return report


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)

    def began(started_s: float) -> None:
        sys.stdout.write(f"{started_s}\n")
        sys.stdout.flush()

    report = uvloop.run(_carry_out(plan, began))
    sys.stdout.buffer.write(msgspec.json.encode(report))


if __name__ == "__main__":
    main()

"""A closed loop of callers: each sends one request over its own connection, waits for the answer, sends it again.

One thread drives all of them on an event loop, so that on a small box most of the time is left to the node that is
measured. It reads of an answer only what it needs: its status and its length.
"""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from appliance.core.errors import BadInputError, IngleError, UnavailableError

_CONNECT_S = 10.0
_PAUSE_S = 0.05  # before a caller that was refused, or whose connection broke, calls again
_ANSWER_BYTES = 1024 * 1024
MAX_KEPT_ERROR = 500


class Endpoint(NamedTuple):
    """Where the node is, and whom to believe there. `context` is None for plain HTTP."""

    host: str
    port: int
    context: ssl.SSLContext | None
    fingerprint: str = ""


class Answers(NamedTuple):
    """What became of one step. `answered_ns` are the times of the calls that were answered with success, sorted."""

    seconds: float
    answered_ns: list[int]
    failed: int
    first_error: str  # what the first failed call was told

    def centile_s(self, centile: float) -> float:
        """The time that so many of a hundred calls took at most; 0 without calls."""
        if not self.answered_ns:
            return 0.0
        rank = min(len(self.answered_ns) - 1, int(len(self.answered_ns) * centile / 100))
        return self.answered_ns[rank] / 1e9


def endpoint(url: str, ca_file: Path | None, fingerprint: str) -> Endpoint:
    """The place that a URL names. Raises BadInputError."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in ("http", "https") or not host:
        raise BadInputError(f"'{url}' is no URL: expected one such as http://HOST:8000")
    if scheme == "http":
        return Endpoint(host, port or 80, None)
    if fingerprint:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the fingerprint is looked at instead
    else:
        context = ssl.create_default_context(cafile=ca_file)
    return Endpoint(host, port or 443, context, fingerprint.replace(":", "").lower())


def request_bytes(place: Endpoint, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    head = {"Host": f"{host}:{place.port}", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


class _Step:
    """What the callers of one step share."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.times_ns: list[int] = []
        self.failed = 0
        self.first_error = ""
        self.counting = False
        self.running = True

    def answered(self, took_ns: int, status: bytes, body: bytes) -> None:
        if not self.counting:
            return
        if status == b"200":
            self.times_ns.append(took_ns)
        else:
            self.fail(body[:MAX_KEPT_ERROR].decode("utf-8", "replace"))

    def fail(self, sentence: str) -> None:
        if self.counting:
            self.failed += 1
            self.first_error = self.first_error or sentence


class _Caller(asyncio.Protocol):
    """One connection; from call() on it goes on by itself until the step ends. `ended` is set once it is closed."""

    def __init__(self, step: _Step) -> None:
        self._step = step
        self._transport: asyncio.Transport
        self._buffer = b""
        self._pieces: list[bytes] = []
        self._missing_bytes = 0  # of a body that has begun
        self._status = b""
        self._closes = False
        self._began_ns = 0
        self.waits = False
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def call(self) -> None:
        self.waits = True
        self._began_ns = time.perf_counter_ns()
        self._transport.write(self._step.request)

    def data_received(self, data: bytes) -> None:
        if self._missing_bytes:
            self._body(data)
            return
        data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            if len(data) > _ANSWER_BYTES:
                self._transport.abort()
            return
        self._buffer = b""
        head = data[:end].lower()
        self._status = data[9:12]
        self._closes = b"\r\nconnection: close" in head
        start = head.find(b"\r\ncontent-length:")
        if start < 0:
            self._step.fail("what answers sends no Content-Length: is it a node?")
            self._transport.abort()
            return
        self._missing_bytes = int(head[start + 17 :].split(b"\r\n", 1)[0])
        self._pieces = []
        self._body(data[end + 4 :])

    def _body(self, data: bytes) -> None:
        self._missing_bytes -= len(data)
        if self._status != b"200":
            self._pieces.append(data[:MAX_KEPT_ERROR])
        if self._missing_bytes <= 0:
            self._missing_bytes = 0
            self._done()

    def _done(self) -> None:
        self.waits = False
        self._step.answered(time.perf_counter_ns() - self._began_ns, self._status, b"".join(self._pieces))
        if self._status == b"200":
            self._again()
        else:
            asyncio.get_running_loop().call_later(_PAUSE_S, self._again)

    def _again(self) -> None:
        if self._closes or not self._step.running:
            self._transport.close()
        elif not self._transport.is_closing():
            self.call()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waits and self._step.running:
            self._step.fail(f"the connection broke before the answer{f' ({exc})' if exc else ''}")
        self.ended.set()

    def abort(self) -> None:
        self._transport.abort()

    def certificate(self) -> bytes:
        tls = self._transport.get_extra_info("ssl_object")
        return tls.getpeercert(binary_form=True) or b"" if tls else b""


class Timing(NamedTuple):
    """`warm_s` that do not count, then `seconds` that do. Calls that are not answered `patience_s` after the end are
    given up, and counted as failed. `counting` is told when the counting begins and ends, `on_time` how much more time
    has passed."""

    warm_s: float
    seconds: float
    patience_s: float
    counting: Callable[[bool], object] = lambda _: None
    on_time: Callable[[float], object] = lambda _: None


async def run_step(place: Endpoint, request: bytes, callers: int, timing: Timing) -> Answers:
    """Runs so many callers, each over a connection of its own. Raises UnavailableError where none can be made."""
    step = _Step(request)
    connections = [await _connected(place, step) for _ in range(callers)]
    return await _timed(step, [_keep_calling(place, step, one) for one in connections], timing)


async def run_asking(ask: Callable[[], Awaitable[object]], callers: int, timing: Timing) -> Answers:
    """The same with calls that `ask` makes, over whatever it makes them; an IngleError of its is a failed call."""
    step = _Step(b"")
    return await _timed(step, [_keep_asking(step, ask) for _ in range(callers)], timing)


async def _timed(step: _Step, loops: Iterable[Coroutine[Any, Any, None]], timing: Timing) -> Answers:
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        await _pass(timing.warm_s, timing.on_time)
        await asyncio.to_thread(timing.counting, True)
        step.counting, began_s = True, time.perf_counter()
        await _pass(timing.seconds, timing.on_time)
        took_s = time.perf_counter() - began_s
        step.running = False
        await asyncio.to_thread(timing.counting, False)
        _, late = await asyncio.wait(tasks, timeout=timing.patience_s)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if late:
        step.failed += len(late)
        step.first_error = step.first_error or f"no answer within {timing.patience_s:g} seconds"
    return Answers(took_s, sorted(step.times_ns), step.failed, step.first_error)


async def _keep_asking(step: _Step, ask: Callable[[], Awaitable[object]]) -> None:
    while step.running:
        began_ns = time.perf_counter_ns()
        try:
            await ask()
        except IngleError as error:
            step.fail(error.sentence)
            await asyncio.sleep(_PAUSE_S)
        else:
            step.answered(time.perf_counter_ns() - began_ns, b"200", b"")


async def _keep_calling(place: Endpoint, step: _Step, caller: _Caller | None) -> None:
    """Has one caller call until the step ends, over a new connection where the old one broke."""
    try:
        while step.running:
            if caller is None:
                await asyncio.sleep(_PAUSE_S)
                try:
                    caller = await _connected(place, step)
                except UnavailableError as error:
                    step.fail(error.sentence)
                    continue
            caller.call()
            await caller.ended.wait()
            caller = None
    finally:
        if caller is not None:
            caller.abort()


async def _connected(place: Endpoint, step: _Step) -> _Caller:
    """Raises UnavailableError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, caller = await loop.create_connection(lambda: _Caller(step), place.host, place.port, ssl=place.context)
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it took too long"
        raise UnavailableError(f"no connection to {place.host}:{place.port} could be made ({reason})") from None
    if place.fingerprint and hashlib.sha256(caller.certificate()).hexdigest() != place.fingerprint:
        caller.abort()
        raise UnavailableError(f"{place.host} shows another certificate than the one whose fingerprint was given")
    return caller


async def _pass(seconds: float, on_time: Callable[[float], object]) -> None:
    """Lets time pass, and tells of it ten times a second."""
    began_s = told_s = time.monotonic()
    while (now_s := time.monotonic()) - began_s < seconds:
        await asyncio.sleep(min(0.1, seconds - (now_s - began_s)))
        now_s = time.monotonic()
        on_time(now_s - told_s)
        told_s = now_s

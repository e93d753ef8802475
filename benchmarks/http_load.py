"""The load generator for HTTP: pre-built requests over kept-alive connections, the same for every server.

A raw protocol, no client library: a few microseconds a call. The request is bytes and the check a function of the
answer's body, so nothing here knows models. Runs in the benchmark's process.
"""

import functools
import time

from benchmarks.closed_loop import Check, Connection, Run, drive
from benchmarks.measured import Measured


def http_request(address: str, path: str, body: bytes, **headers: str) -> bytes:
    """A whole POST request. Underscores in header names become dashes; `Content-Type` is JSON where not given."""
    headers = {"Content_Type": "application/json"} | headers
    lines = [f"POST {path} HTTP/1.1", f"Host: {address}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _HttpConnection(Connection):
    """Sends the request, waits for the whole answer, sends it again."""

    def __init__(self, run: Run, request: bytes) -> None:
        super().__init__(run)
        self._request = request
        self._pieces: list[bytes] = []
        self._missing = 0
        self._content_at = 0

    def begin(self) -> None:
        self._sent_s = time.perf_counter()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._pieces.append(data)
            self._missing -= len(data)
        else:
            if self._pieces:
                data = b"".join((*self._pieces, data))
            self._pieces = [data]
            if not self._read_head(data):
                return
        if self._missing <= 0:
            answer = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces, self._missing = [], 0
            self.run.answered(time.perf_counter() - self._sent_s, answer, self._content_at)
            if not self.run.stopped:
                self.begin()

    def _read_head(self, data: bytes) -> bool:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = data[:end].lower() + b"\r\n"
        at = head.find(b"\r\ncontent-length:")
        if data[9:12] != b"200" or at < 0:
            self.run.fail(f"expected status 200 and a Content-Length, but the server answered: {data[:600]!r}")
            self.transport.abort()
            return False
        self._content_at = end + 4
        self._missing = end + 4 + int(head[at + 17 : head.index(b"\r\n", at + 2)]) - len(data)
        return True


def http_load(address: str, request: bytes, check: Check, *, concurrency: int, seconds: float) -> Measured:
    """Calls in a closed loop for `seconds` after a warm-up. Raises LoadError at the first wrong answer."""
    run = Run(check)
    return drive(address, run, [functools.partial(_HttpConnection, run, request)] * concurrency, seconds)

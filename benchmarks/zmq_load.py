"""The load generator for ZeroMQ: one message over and over on connections of ZMTP 3.0, written by hand.

No ZeroMQ library, whose own thread would cost more than the generator for HTTP. Knows no models.
Source: rfc.zeromq.org/spec/23.
"""

import functools
import time

from benchmarks.closed_loop import Check, Connection, Run, drive
from benchmarks.measured import Measured

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_READY = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
_MORE, _LONG, _COMMAND = 1, 2, 4


class _ZmqConnection(Connection):
    """Shakes hands, then sends the message, waits for the whole answer, sends it again."""

    def __init__(self, run: Run, message: bytes) -> None:
        super().__init__(run)
        self._frame = bytes((_LONG,)) + len(message).to_bytes(8, "big") + message
        self._data = b""
        self._greeted = False
        self._parts: list[bytes] = []
        self._sent_s = 0.0

    def begin(self) -> None:
        self.transport.write(_GREETING + _READY)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._greeted and len(self._data) >= len(_GREETING):
            self._data, self._greeted = self._data[len(_GREETING) :], True
        while self._greeted and (frame := self._next()) is not None:
            flags, body = frame
            if not flags & _COMMAND:
                self._parts.append(body)
                if flags & _MORE:
                    continue
                self.run.answered(time.perf_counter() - self._sent_s, b"".join(self._parts), 0)
                self._parts = []
            if not self.run.stopped:
                self._sent_s = time.perf_counter()
                self.transport.write(self._frame)

    def _next(self) -> tuple[int, bytes] | None:
        """The flags and body of a whole frame at the data's beginning, taken away from it."""
        data = self._data
        start = 9 if data and data[0] & _LONG else 2
        if len(data) < start:
            return None
        end = start + int.from_bytes(data[1:start], "big")
        if len(data) < end:
            return None
        self._data = data[end:]
        return data[0], data[start:end]


def zmq_load(address: str, message: bytes, check: Check, *, concurrency: int, seconds: float) -> Measured:
    """Calls in a closed loop for `seconds` after a warm-up. Raises LoadError at the first wrong answer."""
    run = Run(check)
    return drive(address, run, [functools.partial(_ZmqConnection, run, message)] * concurrency, seconds)

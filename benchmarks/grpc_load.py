"""The load generator for gRPC: HTTP/2 frames written by hand, the same for every server.

Python's gRPC client costs more than the servers that are measured, so this speaks just enough HTTP/2 for one unary
call repeated: fixed headers, one message, and counting the streams that end. An answer counts only if it carried a
message, which a gRPC error never does. Runs in the benchmark's process; knows nothing of models.
"""

import functools
import struct
import time

from benchmarks.closed_loop import Check, Connection, Run, drive
from benchmarks.measured import Measured

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _END_HEADERS, _PADDED, _ACK = 0x1, 0x4, 0x8, 0x1
_GREATEST_WINDOW = 2**31 - 1
_FIRST_WINDOW = 65535
_GREATEST_FRAME = 16384
_STREAMS_PER_CONNECTION = 4  # tritonclient's C++ client shares a connection among up to 6


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!IBI", len(payload) << 8 | kind, flags, stream) + payload


def _text(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 126:
        raise ValueError(f"'{text}' is too long for this encoder: expected at most 126 bytes")
    return bytes([len(encoded)]) + encoded


def _header_block(address: str, path: str) -> bytes:
    """The request's headers in HPACK, without the dynamic table: `:method` and `:scheme` by their static index."""
    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + _text(path),  # :path
            b"\x01" + _text(address),  # :authority
            b"\x0f\x10" + _text("application/grpc"),  # content-type
            b"\x00" + _text("te") + _text("trailers"),
        )
    )


class _Call:
    """The bytes of one call, but for its stream's number."""

    def __init__(self, header_block: bytes, message: bytes) -> None:
        self.body = b"\x00" + struct.pack("!I", len(message)) + message
        if len(self.body) > _GREATEST_FRAME:
            raise ValueError(f"the message has {len(message)} bytes, which does not fit into one frame of 16 KiB")
        self.before_stream = _frame(_HEADERS, _END_HEADERS, 0, header_block)[:5]
        self.between = header_block + _frame(_DATA, _END_STREAM, 0, self.body)[:5]


class _GrpcConnection(Connection):
    """Keeps `streams` calls open on one connection."""

    def __init__(self, run: Run, call: _Call, streams: int) -> None:
        super().__init__(run)
        self._call = call
        self._streams = streams
        self._next_stream = 1
        self._sent_s: dict[int, float] = {}
        self._messages: dict[int, bytes] = {}
        self._received = b""
        self._send_window = _FIRST_WINDOW
        self._waiting = 0
        self._unacknowledged = 0
        self._out: list[bytes] = []

    def begin(self) -> None:
        settings = struct.pack("!HIHI", 0x2, 0, 0x4, _GREATEST_WINDOW)  # no push; initial window of a stream
        window = struct.pack("!I", _GREATEST_WINDOW - _FIRST_WINDOW)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self._out += [preface, _frame(_SETTINGS, 0, 0, settings), _frame(_WINDOW_UPDATE, 0, 0, window)]
        for _ in range(self._streams):
            self._send_call()
        self._flush()

    def _send_call(self) -> None:
        call = self._call
        if self._send_window < len(call.body):
            self._waiting += 1
            return
        self._send_window -= len(call.body)
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        named = stream.to_bytes(4, "big")
        self._out += [call.before_stream, named, call.between, named, call.body]
        self._sent_s[stream] = time.perf_counter()
        self._messages[stream] = b""

    def _flush(self) -> None:
        if self._out:
            self.transport.write(b"".join(self._out))
            self._out.clear()

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        at, size = 0, len(data)
        while size - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            end = at + 9 + length
            if end > size:
                break
            self._frame_received(
                data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), data[at + 9 : end]
            )
            at = end
        self._received = data[at:]
        self._flush()

    def _frame_received(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA and not flags & _PADDED:
            self._messages[stream] += payload
            self._unacknowledged += len(payload)
            if self._unacknowledged > 2**29:
                self._out.append(_frame(_WINDOW_UPDATE, 0, 0, struct.pack("!I", self._unacknowledged)))
                self._unacknowledged = 0
        elif kind == _HEADERS:
            if flags & _END_STREAM:
                self._answered(stream, payload)
        elif kind in (_SETTINGS, _PING):
            if not flags & _ACK:
                self._out.append(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _WINDOW_UPDATE:
            if stream == 0:
                self._send_window += int.from_bytes(payload, "big")
                waiting, self._waiting = self._waiting, 0
                for _ in range(waiting):
                    self._send_call()
        elif kind in (_DATA, _RST_STREAM, _GOAWAY, _CONTINUATION):
            self.run.fail(f"the server sent frame {kind} with {payload[:300]!r} on stream {stream}")

    def _answered(self, stream: int, trailers: bytes) -> None:
        duration_s = time.perf_counter() - self._sent_s.pop(stream)
        message = self._messages.pop(stream)
        if len(message) < 5:
            self.run.fail(f"the server answered with no message; its trailers: {trailers[:300]!r}")
            return
        self.run.answered(duration_s, message, 5)
        if not self.run.stopped:
            self._send_call()


def grpc_load(
    address: str,
    message: bytes,
    check: Check,
    *,
    concurrency: int,
    seconds: float,
    path: str = "/inference.GRPCInferenceService/ModelInfer",
) -> Measured:
    """Unary calls in a closed loop for `seconds` after a warm-up. Raises LoadError at the first wrong answer."""
    run, call = Run(check), _Call(_header_block(address, path), message)
    streams = [min(_STREAMS_PER_CONNECTION, concurrency - i) for i in range(0, concurrency, _STREAMS_PER_CONNECTION)]
    return drive(address, run, [functools.partial(_GrpcConnection, run, call, count) for count in streams], seconds)

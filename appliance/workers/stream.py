"""Frames out of a Unix stream socket, as a synchronous worker reads them: all that has arrived at once.

Runs in a worker process. Knows the frame layout and nothing of what frames mean.
"""

import socket
from typing import NamedTuple

from appliance.core.frames import MAX_HEAD_BYTES, PREFIX, PREFIX_SIZE

_READ_BYTES = 256 * 1024


class Frame(NamedTuple):
    kind: int
    head: memoryview
    body: memoryview


class FrameStream:
    """Reads frames. A frame's buffers stay valid for as long as they are held: what was read is copied out of the one
    buffer that all reads use, which costs less than a large buffer for each."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._scratch = memoryview(bytearray(_READ_BYTES))
        self._rest = b""

    def read(self, *, wait: bool) -> list[Frame]:
        """Every complete frame that has arrived; with `wait`, at least one. Raises EOFError when the peer has gone."""
        frames: list[Frame] = []
        while True:
            try:
                size = self._socket.recv_into(self._scratch, 0, 0 if wait and not frames else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return frames
            if not size:
                raise EOFError
            data = bytes(self._scratch[:size])
            frames.extend(self._split(self._rest + data if self._rest else data))
            if frames and size < _READ_BYTES:
                return frames

    def _split(self, data: bytes) -> list[Frame]:
        frames, position = [], 0
        view = memoryview(data)
        while len(data) - position >= PREFIX_SIZE:
            _, kind, _, head_size, body_size = PREFIX.unpack_from(data, position)
            if head_size > MAX_HEAD_BYTES:
                raise EOFError
            end = position + PREFIX_SIZE + head_size + body_size
            if end > len(data):
                view = memoryview(self._complete(view[position:], end - position))
                data, position, end = b"", 0, len(view)
            body = position + PREFIX_SIZE + head_size
            frames.append(Frame(kind, view[position + PREFIX_SIZE : body], view[body:end]))
            if not data:
                self._rest = b""
                return frames
            position = end
        self._rest = data[position:]
        return frames

    def _complete(self, start: memoryview, size_bytes: int) -> bytearray:
        """The rest of a frame whose size is known, read straight into its place."""
        frame = bytearray(size_bytes)
        frame[: len(start)] = start
        target = memoryview(frame)[len(start) :]
        while target:
            count = self._socket.recv_into(target, 0)
            if not count:
                raise EOFError
            target = target[count:]
        return frame

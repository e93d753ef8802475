"""The gateway's end of one worker's socket: frames out, frames in. Runs in the gateway's event loop.

Knows the frame layout and who waits for which call; it does not decide what is sent.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from appliance.core.frames import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    PREFIX,
    PREFIX_SIZE,
    Answer,
    Failure,
    Held,
    Kind,
    Loaded,
    decode_answer,
    decode_failure,
    decode_held,
    decode_loaded,
)

_BUFFER_BYTES = 256 * 1024
_ANSWER = int(Kind.ANSWER)  # bound once: to look up an enum's member costs more than to compare it

OnMade = Callable[["Link"], None]
OnFrame = Callable[[Answer | Failure | Loaded | Held, bytes], None]


class Link(asyncio.BufferedProtocol):
    """Calls `on_made` before anything is read, `on_frame` with each head and body, `on_lost` once the worker has gone.

    What is sent in one turn of the event loop leaves in one system call at its end, also to an idle worker: a turn
    costs less than waking the worker twice. A front whose calls come one in a turn may ask for patience of more turns.
    """

    def __init__(self, on_made: OnMade, on_frame: OnFrame, on_lost: Callable[[], None]) -> None:
        self._on_made = on_made
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._outgoing: list[bytes] = []
        self._turns_left = 0
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._on_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        position, filled, view = 0, self._filled, self._view
        while filled - position >= PREFIX_SIZE:
            _, kind, _, head_size, body_size = PREFIX.unpack_from(view, position)
            if head_size > MAX_HEAD_BYTES or body_size > MAX_BODY_BYTES:
                raise ValueError("a worker announced a frame beyond all measure")  # ends the connection, and it
            end = position + PREFIX_SIZE + head_size + body_size
            if end > filled:
                self._make_room(position, end - position)
                return
            body = position + PREFIX_SIZE + head_size
            head = view[position + PREFIX_SIZE : body]
            self._dispatch(kind, head, bytes(view[body:end]))
            position = end
        self._make_room(position, PREFIX_SIZE)

    def _make_room(self, position: int, frame_bytes: int) -> None:
        """Moves what is left to the front, in a buffer that holds the frame that has begun."""
        left = self._filled - position
        size = max(_BUFFER_BYTES, frame_bytes)
        if len(self._buffer) != size and (size > len(self._buffer) or left <= _BUFFER_BYTES):
            buffer = bytearray(size)
            buffer[:left] = self._view[position : self._filled]
            self._buffer, self._view = buffer, memoryview(buffer)
        elif position and left:
            self._buffer[:left] = bytes(self._view[position : self._filled])
        self._filled = left

    def _dispatch(self, kind: int, head: memoryview, body: bytes) -> None:
        if kind == _ANSWER:
            self._on_frame(decode_answer(head), body)
        elif kind == Kind.FAILURE:
            self._on_frame(decode_failure(head), body)
        elif kind == Kind.LOADED:
            self._on_frame(decode_loaded(head), body)
        elif kind == Kind.HELD:
            self._on_frame(decode_held(head), body)

    def send(self, parts: Sequence[bytes], patience_turns: int) -> None:
        """Queues the parts of one frame; they leave after so many turns of the loop, or with what was queued before."""
        if not self._outgoing:
            self._turns_left = patience_turns
            self._loop.call_soon(self._turn)
        self._outgoing.extend(parts)

    def _turn(self) -> None:
        self._turns_left -= 1
        if self._turns_left > 0:
            self._loop.call_soon(self._turn)
        else:
            self._flush()

    def _flush(self) -> None:
        if self._outgoing and self._transport is not None:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def close(self) -> None:
        """Ends the link; the worker reads the end of its stream and leaves."""
        if self._transport is not None:
            self._transport.close()

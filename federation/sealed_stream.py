"""One TCP connection between two nodes whose every record is sealed: whole messages in, whole messages out.

Runs in the gateway's event loop, with no thread between it and the wire. Knows the mesh's frames as far as their sizes
go, and no heads. How it begins, its two ends know (stream_ends.py). Then both say messages: a record of the head and a
small body, and as many more as a large body takes. A record is the four bytes of its size and what was sealed.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from appliance.core.frames import MAX_HEAD_BYTES, PREFIX, PREFIX_SIZE
from appliance.core.requests import Buffer
from federation.frames import PART_FROM_BYTES
from federation.record_buffer import SIZE, RecordBuffer
from federation.sealing import TAG_BYTES, BrokenStreamError, Sealed

# Each record costs some 25 µs besides its bytes; one of a large body is opened there while the next is sealed here.
RECORD_BYTES = 512 * 1024
_SEAL_BYTES = SIZE.size + TAG_BYTES  # of a record, besides what is said in it
_MAX_RECORD_BYTES = PREFIX_SIZE + MAX_HEAD_BYTES + PART_FROM_BYTES + TAG_BYTES
# More than a record, or what came behind a head would be moved before it is opened.
_LARGE_BUFFER_BYTES = RECORD_BYTES + 128 * 1024
_AHEAD_BYTES = RECORD_BYTES  # of what is sealed and has not left: more is sealed when it has
_SMALL_BYTES = RECORD_BYTES // 2  # for what is smaller no room is kept
_REST_S = 5.0
# After so much the loop sees to others: some 0.6 ms of opening or of sealing, or 128 small messages, as many calls.
_TURN_BYTES, _RECORD_COSTS_BYTES = 1024 * 1024, 8 * 1024
_KEEP_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class StreamTuning(msgspec.Struct, frozen=True, kw_only=True):
    """How streams of one purpose are kept. `unsent_bytes` bounds what one peer may leave unread, `give_up_s` for how
    long nothing of what was sent may come to it, or it may read nothing while more waits than its system takes: its
    link may live while a stream is lost on the way (tcp(7), TCP_USER_TIMEOUT)."""

    purpose: int
    max_message_bytes: int
    unsent_bytes: int
    type_of_service: int  # ip(7), IP_TOS
    give_up_s: float


_UNKNOWN = StreamTuning(purpose=0, max_message_bytes=0, unsent_bytes=0, type_of_service=0, give_up_s=0.0)


class StreamEvents(msgspec.Struct, frozen=True):
    """`on_begun(stream)` once the other end has proved who it is, `on_message(stream, parts, size_bytes)`, and once
    `on_end(stream, reason)`. The parts of a message are those of frames.message_parts(), but for a large body, which is
    one."""

    on_begun: "Callable[[SealedStream], None]"
    on_message: "Callable[[SealedStream, list[Buffer], int], None]"
    on_end: "Callable[[SealedStream, str], None]"


class SealedStream(asyncio.BufferedProtocol):
    """A Wire, once it has begun. How that comes about, DialledStream and AcceptedStream say (stream_ends.py)."""

    dialled: bool

    def __init__(self, tuning: StreamTuning | None, events: StreamEvents, *, preamble_bytes: int) -> None:
        """`preamble_bytes`: how much comes before the first record. `tuning`: None where that tells."""
        self.node_id = ""  # the other end's, once it is known
        self.ticket_id = b""
        self.begun = False
        self.ended = False
        self._tuning = tuning or _UNKNOWN
        self._events = events
        self._preamble_bytes = preamble_bytes
        self._out: Sealed | None = None
        self._in: Sealed | None = None
        self._transport: asyncio.Transport | None = None
        self._reason = "the connection ended"
        self._came = RecordBuffer(_LARGE_BUFFER_BYTES)
        self._rest: asyncio.TimerHandle | None = None
        self._first: bytes | None = None  # of a message whose body has not all come
        self._body = memoryview(b"")
        self._body_at = 0
        self._waits = False
        self._turn_bytes = 0  # what was read since the loop last saw to others
        self._unsealed: deque[Buffer] = deque()
        self._unsealed_bytes = 0
        self._sealed_bytes = 0  # in all, with their seals
        self._spare: bytearray | None = None  # where a large record was sealed that has left
        self._paused = False
        self._seals_soon = False

    # What comes.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_AHEAD_BYTES)
        self._say_preamble(self._transport)

    @property
    def purpose(self) -> int:
        """What it is for; 0 until that is known."""
        return self._tuning.purpose

    def _tune(self, tuning: StreamTuning) -> None:
        self._tuning = tuning
        assert self._transport is not None
        _set_options(self._transport.get_extra_info("socket"), tuning)

    def _say_preamble(self, transport: asyncio.Transport) -> None:
        raise NotImplementedError

    def _hear_preamble(self, preamble: Buffer) -> None:
        """Raises BrokenStreamError."""
        raise NotImplementedError

    def _hear_proof(self) -> None:
        """The other end knows the keys."""
        raise NotImplementedError

    def _begin(self) -> None:
        self.begun = True
        self._events.on_begun(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._came.room()

    def buffer_updated(self, nbytes: int) -> None:
        self._came.came(nbytes)
        self._turn_bytes += nbytes
        self._hear()

    def _hear(self) -> None:
        """Deals with what has come, as far as that is for this turn of the loop."""
        try:
            while self._turn_bytes < _TURN_BYTES and not self._waits and not self.ended and self._hear_next():
                pass
        except BrokenStreamError as error:
            self.end(error.sentence)
        if self._came.is_large and self._rest is None and not self.ended:
            self._rest = asyncio.get_running_loop().call_later(_REST_S, self._let_go)
        if self._turn_bytes >= _TURN_BYTES:
            self._turn_bytes = 0
            self._read_soon()

    def _hear_next(self) -> bool:
        """The next piece of what has come; whether there was a whole one. Raises BrokenStreamError."""
        if self._in is None:
            if (piece := self._came.piece(self._preamble_bytes)) is None:
                return False
            self._hear_preamble(piece)
        else:
            if (record := self._came.record(_MAX_RECORD_BYTES if self.begun else TAG_BYTES)) is None:
                return False
            self._turn_bytes += _RECORD_COSTS_BYTES
            self._hear_record(self._in, record)
        return True

    def _hear_record(self, sealed: Sealed, record: memoryview) -> None:
        if not self.begun:
            sealed.open(record)
            self._hear_proof()
        elif self._first is None:
            self._hear_first(sealed.open(record))
        else:
            end = self._body_at + len(record) - TAG_BYTES
            if not self._body_at < end <= len(self._body):
                raise BrokenStreamError("a body has more bytes than its head says")
            sealed.open_into(record, self._body[self._body_at : end])
            self._body_at = end
            if end == len(self._body):
                first, body = self._first, self._body
                self._first, self._body = None, memoryview(b"")
                self._events.on_message(self, [first, body], len(first) + len(body))

    def _hear_first(self, first: bytes) -> None:
        if len(first) < PREFIX_SIZE:
            raise BrokenStreamError(f"a message has {len(first)} bytes: a frame begins with {PREFIX_SIZE}")
        _, _, _, head_bytes, body_bytes = PREFIX.unpack_from(first)
        due_bytes = PREFIX_SIZE + head_bytes + body_bytes - len(first)
        if due_bytes <= 0:  # more than its sizes say is for whoever reads it to refuse
            self._events.on_message(self, [first], len(first))
        elif len(first) + due_bytes > self._tuning.max_message_bytes:
            raise BrokenStreamError(
                f"a message has {len(first) + due_bytes} bytes: at most {self._tuning.max_message_bytes} are taken"
            )
        else:
            self._first, self._body, self._body_at = first, memoryview(bytearray(due_bytes)), 0

    def wait(self, *, waits: bool) -> None:
        """Whether what comes is left unread for now."""
        self._waits = waits
        self._read_soon()

    def _read_soon(self) -> None:
        """Nothing more is read in this turn of the loop, and in the next only where nobody has it wait."""
        if self._transport is not None and not self.ended:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._waits and not self.ended:
            self._transport.resume_reading()
            self._hear()

    def _let_go(self) -> None:
        self._rest, self._spare = None, None
        if not self._came.rest():
            self._rest = asyncio.get_running_loop().call_later(_REST_S, self._let_go)

    # What leaves.

    def has_room(self, size_bytes: int) -> bool:
        """As Wire.has_room()."""
        if self.ended or not self.begun or self._transport is None:
            return False
        unsent_bytes = self._unsealed_bytes + self._transport.get_write_buffer_size()
        return not unsent_bytes or unsent_bytes + size_bytes <= self._tuning.unsent_bytes

    def send(self, parts: Sequence[Buffer]) -> bool:
        """As Wire.send(). The parts are read when their turn comes: they are not to change."""
        size_bytes = sum(map(len, parts))
        if not self.has_room(size_bytes):
            return False
        self._unsealed.append(parts[0])
        for part in parts[1:]:
            view = memoryview(part)
            self._unsealed += (view[at : at + RECORD_BYTES] for at in range(0, len(view), RECORD_BYTES))
        self._unsealed_bytes += size_bytes
        self._seal()
        return True

    @property
    def said_bytes(self) -> int:
        """How much leaves, or has left, for all that was said."""
        return self._sealed_bytes + self._unsealed_bytes + _SEAL_BYTES * len(self._unsealed)

    def taken_bytes(self) -> int:
        """How much of `said_bytes` the other end's system, or whatever answers in its place, has acknowledged; 0 where
        this system does not tell (tcp(7), SIOCOUTQ)."""
        if self.ended or self._transport is None:
            return 0
        try:
            sock = self._transport.get_extra_info("socket")
            (unacknowledged,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
        except OSError:
            return 0
        return max(0, self._sealed_bytes - self._transport.get_write_buffer_size() - int(unacknowledged))

    def _seal(self) -> None:
        """What the connection takes, as far as that is for this turn of the loop."""
        transport, out, left_bytes = self._transport, self._out, _TURN_BYTES
        assert transport is not None
        assert out is not None
        while self._unsealed and not (self._paused or self._seals_soon or self.ended):
            if left_bytes <= 0:
                self._seals_soon = True
                asyncio.get_running_loop().call_soon(self._seal_on)
                return
            plain = self._unsealed.popleft()
            self._unsealed_bytes -= len(plain)
            self._sealed_bytes += len(plain) + _SEAL_BYTES
            left_bytes -= len(plain)
            if len(plain) >= _SMALL_BYTES:
                self._write_large(transport, out, plain)
            else:
                sealed = out.seal(plain)
                transport.writelines((SIZE.pack(len(sealed)), sealed))

    def _write_large(self, transport: asyncio.Transport, out: Sealed, plain: Buffer) -> None:
        """Where the last such record was, if it has left: memory that is fresh would be cleared, and is in no cache."""
        size_bytes = len(plain) + TAG_BYTES
        spare, self._spare = self._spare, None
        if spare is None or len(spare) < SIZE.size + size_bytes:
            spare = bytearray(SIZE.size + max(size_bytes, RECORD_BYTES + TAG_BYTES))
        record = memoryview(spare)[: SIZE.size + size_bytes]
        SIZE.pack_into(record, 0, size_bytes)
        out.seal_into(plain, record[SIZE.size :])
        transport.write(record)
        if not transport.get_write_buffer_size():
            self._spare = spare

    def _seal_on(self) -> None:
        self._seals_soon = False
        self._seal()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._seal()

    # Its end.

    def end(self, reason: str) -> None:
        """As Wire.end()."""
        if not self.ended:
            self.ended = True
            self._reason = reason
            if self._transport is not None:
                self._transport.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended:
            self.ended = True
            self._reason = f"the connection ended: {exc}" if exc is not None else self._reason
        if self._rest is not None:
            self._rest.cancel()
        self._unsealed.clear()
        self._unsealed_bytes = 0
        self._events.on_end(self, self._reason)


def _set_options(sock: socket.socket, tuning: StreamTuning) -> None:
    with contextlib.suppress(OSError):  # it has ended again
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tuning.type_of_service)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tuning.type_of_service)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (*_KEEP_ALIVE, ("TCP_USER_TIMEOUT", round(tuning.give_up_s * 1000))):
            if (number := getattr(socket, option, None)) is not None:  # not all are everywhere
                sock.setsockopt(socket.IPPROTO_TCP, number, value)

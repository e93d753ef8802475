"""What a front process does with a connection that is not a plain call's: bytes to the main process, bytes back.

Runs in a front process's event loop. It reads only as much of an answer as tells where it ends, so that the next plain
call on the connection can take the quick way again; where that is in doubt, the connection is the main process's until
it ends.
"""

import asyncio
from typing import Any, cast

from appliance.gateway.introduction import write_introduction

_MAX_ANSWER_HEAD_BYTES = 64 * 1024


class AnswerEnd:
    """Follows one answer of the main process. `whole` once all of it has passed; never where it does not say how
    long it is."""

    def __init__(self) -> None:
        self._head = b""
        self._left: int | None = None
        self._lost_track = False

    @property
    def whole(self) -> bool:
        return self._left == 0 and not self._lost_track

    def give_up(self) -> None:
        """What follows is not to be told apart."""
        self._lost_track = True

    def passed(self, data: bytes) -> None:
        """So much more of the answer."""
        if self._lost_track:
            return
        if self._left is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                self._lost_track = len(self._head) > _MAX_ANSWER_HEAD_BYTES
                return
            length = _length(self._head[:end].lower())
            data, self._head = self._head[end + 4 :], b""
            if length is None:
                self._lost_track = True
                return
            self._left = length
        self._left -= len(data)
        self._lost_track = self._left < 0


def _length(head: bytes) -> int | None:
    """How long the body is that follows this head, in lower case; None where that is not plain to see."""
    first, *lines = head.split(b"\r\n")
    status = first.split(b" ")[1:2]
    fields = dict(line.split(b":", 1) for line in lines if b":" in line)
    length = fields.get(b"content-length", b"").strip()
    if not status or status[0][:1] == b"1" or b"transfer-encoding" in fields or not length.isdigit():
        return None
    return int(length)


class HttpRelay:
    """Takes the place of aiohttp's connection in a front process: asyncio.Protocol's methods, and `idle`."""

    def __init__(self, path: str) -> None:
        """`path` is the main process's private socket."""
        self._path = path
        self._client: asyncio.Transport
        self._upstream: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._ended = False
        self._gone = False
        self._answer = AnswerEnd()
        self._asked = 0
        self._task: asyncio.Task[None]

    @property
    def idle(self) -> bool:
        """Whether the one request that passed was answered in full."""
        return self._asked == 1 and self._answer.whole

    def follow(self, *, plain: bool) -> None:
        """A request follows; `plain`: it is whole, and its answer has a body if it says so."""
        if self.idle and plain:
            self._asked, self._answer = 0, AnswerEnd()
        self._asked += 1
        if not plain or self._asked > 1:
            self._answer.give_up()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client = cast("asyncio.Transport", transport)
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            transport, _ = await asyncio.get_running_loop().create_unix_connection(
                lambda: _Upstream(self, self._client), self._path
            )
        except OSError:
            self._client.close()
            return
        upstream = transport
        if self._gone:
            upstream.abort()
            return
        self._upstream = upstream
        names = (self._client.get_extra_info("peername"), self._client.get_extra_info("sockname"))
        upstream.write(b"".join((write_introduction(*names), *self._early)))
        self._early.clear()
        if self._ended:
            upstream.write_eof()
        self._client.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._upstream is None:
            self._early.append(data)
            self._client.pause_reading()
        else:
            self._upstream.write(data)

    def eof_received(self) -> None:
        self._ended = True
        if self._upstream is not None and self._upstream.can_write_eof():
            self._upstream.write_eof()

    def answered(self, data: bytes) -> None:
        """Bytes of the main process."""
        self._answer.passed(data)
        self._client.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """The caller has gone, or the connection is taken back."""
        self._gone = True
        if self._upstream is not None:
            self._upstream.abort()

    def pause_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.resume_reading()


class _Upstream(asyncio.Protocol):
    """The main process's end of a relay."""

    def __init__(self, relay: HttpRelay, client: Any) -> None:
        self._relay = relay
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._relay.answered(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()

    def pause_writing(self) -> None:
        self._client.pause_reading()

    def resume_writing(self) -> None:
        self._client.resume_reading()

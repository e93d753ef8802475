"""The connection of the HTTP front: V2 inference calls of the plainest form are answered here, all else by aiohttp.

Runs in the gateway's event loop. Each connection looks at the head of each request. A POST to a model's `/infer` goes
to the data plane at once and its answer is written in the turn of the loop in which the worker's arrives: no task, no
router, no middleware, no header objects. Any other request, and any whose head is not plain, is handed to a connection
of aiohttp's with its bytes untouched. Both give the same answers; the tests ask both.

aiohttp's connection sees the transport through a view that can be taken away, so that a connection can go back to the
quick way once aiohttp has answered. That is done only where the request it was given was whole, by its length, so that
both always agree on where the next one begins.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from appliance.core.errors import BadInputError, IngleError, UnavailableError
from appliance.core.frames import Answer
from appliance.core.requests import Buffer, CallAnswer
from appliance.gateway import body_reader
from appliance.gateway.http_answer import COMPRESS_FROM_BYTES, error_bytes, v2_answer_parts
from appliance.gateway.http_head import Head, read_head
from appliance.gateway.peers import NOBODY, peer_of_socket
from appliance.gateway.progress import Progress, looked
from appliance.gateway.v2_infer import HEADER_LENGTH, read_infer
from appliance.gateway.waiter import Waiter

if TYPE_CHECKING:  # a front process has neither
    from aiohttp.web_protocol import RequestHandler

    from appliance.gateway.dataplane import DataPlane

_PREFIX = b"/v2/models/"
_SUFFIX = b"/infer"
# Answers that would be compressed, and headers that ask for more than an answer, go the long way.
_LONG_WAY = (b"x-ingle-pin", b"x-ingle-explain", b"x-ingle-deadline-ms")
_LINGER_S = 2.0
_MAX_PENDING_BYTES = 256 * 1024
_MAX_TARGETS = 10_000
_MAX_TARGET_BYTES = 512  # of one that is remembered

_log = logging.getLogger("ingle.http")

MakeHandler = Callable[[], "RequestHandler"]


class FastFront:
    """What all connections share."""

    def __init__(
        self, dataplane: "DataPlane", make_handler: MakeHandler, max_body_bytes: int, max_connections: int
    ) -> None:
        self.dataplane = dataplane
        self.make_handler = make_handler
        self.max_body_bytes = max_body_bytes
        self.max_connections = max_connections
        self.refused_connections = 0
        self.connections: set[Connection] = set()
        self._targets: dict[bytes, tuple[str, str] | None] = {}

    def __call__(self) -> "Connection":
        return Connection(self)

    def model_of(self, target: bytes) -> tuple[str, str] | None:
        """The model and version that a path calls, or None where it is no plain call's path."""
        if len(target) > _MAX_TARGET_BYTES:
            return _model_of(target)
        if target not in self._targets:
            if len(self._targets) >= _MAX_TARGETS:
                self._targets.clear()
            self._targets[target] = _model_of(target)
        return self._targets[target]

    def look(self, before_s: float) -> None:
        """Closes connections that have sent nothing since then and wait for nothing, and those whose request or answer
        does not move. To be called every progress.LOOK_S."""
        for connection in list(self.connections):
            connection.look(before_s)

    def close(self) -> None:
        for connection in list(self.connections):
            connection.abandon()


def _model_of(target: bytes) -> tuple[str, str] | None:
    if not (target.startswith(_PREFIX) and target.endswith(_SUFFIX)) or not target.isascii():
        return None
    path = target[len(_PREFIX) : -len(_SUFFIX)].decode()
    model, found, version = path.partition("/versions/")
    if any(character in path for character in "%?#") or (found and not version) or "/" in version:
        return None
    if not model or model.count("/") > 1:
        return None
    return model, version


class _View:
    """A transport as aiohttp's connection sees it, until it is taken away."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.taken_away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        if not self.taken_away:
            self._transport.close()

    def abort(self) -> None:
        if not self.taken_away:
            self._transport.abort()


class Connection(asyncio.Protocol):
    """One client's connection: reads a request, has it answered, reads the next."""

    def __init__(self, front: FastFront) -> None:
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._peer = NOBODY
        self._buffer = b""
        self._head: Head | None = None  # of a call whose body is still coming
        self._body: bytearray | memoryview | None = None
        self._filled = 0
        self._call: _Call | None = None  # in flight
        self._delegate: Any = None  # aiohttp's connection, while it has this one
        self._view: _View | None = None
        self._for_good = False  # aiohttp's until the connection ends
        self._last_read_s = self._loop.time()
        self._read_bytes = 0
        self._held_bytes = 0  # of the call's body, in the gateway's ledger
        self._unwanted = False  # what comes is thrown away until the connection ends
        self._writing_paused = False
        self._progress = Progress()

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._front.connections) >= self._front.max_connections:
            self._refuse_connection()
            return
        self._peer = peer_of_socket(transport.get_extra_info("peername"))
        self._front.connections.add(self)

    def _refuse_connection(self) -> None:
        """Says so in a few bytes; what the caller sends is not read."""
        front = self._front
        front.refused_connections += 1
        sentence = f"the node has {front.max_connections} connections open and takes no more: come back in a moment"
        self._transport.pause_reading()
        self._transport.write(error_bytes(UnavailableError(sentence, retry_after_s=1.0), front.dataplane.node_name))
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.connections.discard(self)
        self._give_back()
        if self._call is not None:
            if self._call.abandon():
                assert self._call.begun is not None
                self._front.dataplane.dropped(self._call.begun)
            self._call = None
        if self._delegate is not None:
            self._delegate.connection_lost(exc)
            self._delegate = None

    def eof_received(self) -> bool:
        if self._delegate is not None:
            self._delegate.eof_received()
        # Who ends its side has gone: whether it only ended its side and waits cannot be told before it is written to,
        # and a call that nobody waits for should not be run. aiohttp, TLS and proxies see it so too.
        return False

    def pause_writing(self) -> None:
        self._writing_paused = True
        if self._delegate is not None:
            self._delegate.pause_writing()

    def resume_writing(self) -> None:
        if self._delegate is not None:
            self._delegate.resume_writing()
        self._writing_paused = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        if self._unwanted:
            return
        self._last_read_s = self._loop.time()
        self._read_bytes += len(data)
        if self._for_good:
            assert self._delegate is not None
            self._delegate.data_received(data)
        elif self._body is not None:
            self._more_body(data)
        elif self._call is not None or (self._writing_paused and self._delegate is None):
            self._buffer += data
            if len(self._buffer) > _MAX_PENDING_BYTES:
                self._transport.pause_reading()
        else:
            self._next(self._buffer + data if self._buffer else data)

    # Reading requests.

    def _next(self, data: bytes) -> None:
        """Decides what becomes of the bytes at a request's beginning."""
        self._buffer = b""
        head = read_head(data)
        if self._delegate is not None and not self._delegate_is_idle():
            self._hand_over(data, for_good=True)  # a second request before the first is answered
        elif isinstance(head, Head):
            model = self._front.model_of(head.target) if head.method == b"POST" else None
            if model is None or not self._is_plain(head):
                whole = len(data) == head.size_bytes + max(0, head.body_bytes)
                self._hand_over(data, for_good=not whole)
            else:
                self._take_back()
                self._begin_body(head, data)
        elif head == "incomplete" and data.startswith(b"POST /v2/models/"):
            self._buffer = data
        else:
            self._hand_over(data, for_good=True)

    def _is_plain(self, head: Head) -> bool:
        headers = head.headers
        return 0 <= head.body_bytes <= self._front.max_body_bytes and not any(name in headers for name in _LONG_WAY)

    def _delegate_is_idle(self) -> bool:
        """Whether aiohttp's connection has answered all that it was given and waits for the next request."""
        delegate = self._delegate
        return (
            delegate is not None
            and delegate._waiter is not None
            and not delegate._waiter.done()
            and not delegate._messages
        )

    def _hand_over(self, data: bytes, *, for_good: bool) -> None:
        self._for_good = for_good
        if self._delegate is None:
            self._delegate = self._front.make_handler()
            self._view = _View(self._transport)
            self._delegate.connection_made(cast("asyncio.Transport", self._view))
        self._delegate.data_received(data)

    def _take_back(self) -> None:
        if self._delegate is not None and self._view is not None:
            self._view.taken_away = True
            self._delegate.connection_lost(None)
            self._delegate = self._view = None

    def _begin_body(self, head: Head, data: bytes) -> None:
        end = head.size_bytes + head.body_bytes
        whole = len(data) >= end
        try:
            if not whole:
                # A stranger's body is not waited for.
                authorization = head.headers.get(b"authorization")
                self._front.dataplane.principal(None if authorization is None else authorization.decode("latin-1"))
            self._front.dataplane.held.take(head.body_bytes)
        except IngleError as error:
            self._buffer = data[end:]
            self._failed(error)
            if not whole:
                self._end_unread()
            return
        self._held_bytes = head.body_bytes
        if whole:
            self._buffer = data[end:]
            self._answer(head, data[head.size_bytes : end])
            return
        self._head, self._body, self._filled = head, self._place(head.body_bytes), 0
        self._more_body(data[head.size_bytes :])
        if head.body_bytes - self._filled >= body_reader.FROM_BYTES:
            place = memoryview(self._body)[self._filled :]
            body_reader.exchange(self._transport, body_reader.BodyReader(self, place))

    def _end_unread(self) -> None:
        """Ends a connection whose body is on its way and not wanted. Closed at once, TCP would reset it, and the answer
        that says why be lost: what still comes is thrown away for a moment."""
        self._unwanted = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(_LINGER_S, self._transport.close)

    def _place(self, size_bytes: int) -> bytearray | memoryview:
        """Where a body is to be read to."""
        return bytearray(size_bytes)

    def _more_body(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        take = min(len(data), len(body) - self._filled)
        body[self._filled : self._filled + take] = data if take == len(data) else data[:take]
        self._filled += take
        if self._filled == len(body):
            self._buffer = data[take:]
            self._body_complete()

    def body_read(self, size_bytes: int) -> None:
        """A BodyReader has put so many bytes into the body."""
        self._last_read_s = self._loop.time()
        self._read_bytes += size_bytes
        self._filled += size_bytes
        if self._body is not None and self._filled == len(self._body):
            body_reader.exchange(self._transport, self)
            self._body_complete()

    def _body_complete(self) -> None:
        head, body = self._head, self._body
        assert head is not None
        assert body is not None
        self._head = self._body = None
        self._answer(head, body)

    # Answering.

    def _answer(self, head: Head, body: bytes | bytearray | memoryview) -> None:
        model = self._front.model_of(head.target)
        assert model is not None
        headers, dataplane = head.headers, self._front.dataplane
        try:
            authorization = headers.get(b"authorization")
            principal = dataplane.principal(None if authorization is None else authorization.decode("latin-1"))
            length = headers.get(HEADER_LENGTH)
            try:
                memory = dataplane.shared_memory.of(principal, self._peer)
                asked = read_infer(body, None if length is None else length.decode("latin-1"), *model, memory)
            except BadInputError:
                # That a model is not here is the first thing to say, whatever else is wrong.
                dataplane.catalogue.resolve(*model, by_ordinal=True)
                raise
            call = _Call(self, model[0], asked.id, headers.get(b"accept-encoding"))
            self._call = call
            call.begun = dataplane.begin(asked.call, principal, call)
        except IngleError as error:
            self._failed(error)
        except Exception as error:
            self._fault(error)

    def answered(self, call: "_Call", answer: Answer, body: bytes) -> None:
        """The worker's answer has come; called from the link's read, so that it leaves in the same turn."""
        assert call.begun is not None
        try:
            self._deliver(call, self._front.dataplane.finished(call.begun, answer, body))
        except Exception as error:
            self._fault(error)

    def failed(self, call: "_Call", error: IngleError) -> None:
        if self._call is call:
            assert call.begun is not None
            self._front.dataplane.failed(call.begun, error)
            self._failed(error)

    def _deliver(self, call: "_Call", done: CallAnswer) -> None:
        if call.accepts and len(done.body) >= COMPRESS_FROM_BYTES:
            self._spawn_compressed(call, done)
        else:
            self._write(*v2_answer_parts(done, call.model, call.id))

    def _spawn_compressed(self, call: "_Call", done: CallAnswer) -> None:
        async def write() -> None:
            content = await asyncio.to_thread(v2_answer_parts, done, call.model, call.id, call.accepts)
            if self._call is call:
                self._write(*content)

        call.task = self._loop.create_task(write())

    def _failed(self, error: IngleError) -> None:
        self._write(error_bytes(error, self._front.dataplane.node_name))

    def _fault(self, error: Exception) -> None:
        _log.error("a fault of ours in a call", exc_info=error)
        self._failed(IngleError("the node failed on this request, and has logged why"))

    def _write(self, *parts: Buffer) -> None:
        self._call = None
        self._give_back()
        if len(parts) == 1:
            self._transport.write(parts[0])
        else:
            self._transport.writelines(parts)
        if self._buffer and not self._writing_paused:
            # Not at once: a thousand requests that are refused one after the other would nest.
            self._loop.call_soon(self._go_on)

    def _give_back(self) -> None:
        self._front.dataplane.held.give_back(self._held_bytes)
        self._held_bytes = 0

    def _go_on(self) -> None:
        """Takes up what came while a call was answered, or while its answer was not taken."""
        if self._buffer and self._call is None and self._body is None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._next(self._buffer)

    # The connection's end.

    def look(self, before_s: float) -> None:
        """Ends a connection that is in the middle of nothing but waiting, or of a request that does not come, or of an
        answer that nobody reads."""
        self._progress = looked(
            self._progress,
            read_bytes=self._read_bytes,
            unwritten_bytes=self._transport.get_write_buffer_size(),
            receiving=self._is_receiving(),
        )
        if self._progress.stuck:
            self._transport.abort()
        elif self._call is None and self._delegate is None and self._last_read_s < before_s:
            self._transport.close()

    def _is_receiving(self) -> bool:
        """Whether a request has begun and is not complete, and it is not we who make it wait."""
        delegate = self._delegate
        if delegate is None:
            return self._call is None and not self._writing_paused and bool(self._buffer or self._body is not None)
        request = delegate._current_request
        if request is None:
            # aiohttp's own timer ends a connection between two requests; before the first it has none.
            return delegate._keepalive_handle is None and self._delegate_is_idle()
        return not request.content.is_eof() and not delegate._reading_paused

    def abandon(self) -> None:
        if self._delegate is None:
            self._transport.close()


class _Call(Waiter):
    """One call of a connection's."""

    __slots__ = ("accepts", "id", "model", "task")

    def __init__(self, connection: Connection, model: str, request_id: str, accepts: bytes | None) -> None:
        super().__init__(connection)
        self.model = model
        self.id = request_id
        self.accepts = accepts.decode("latin-1") if accepts else ""
        self.task: asyncio.Task[None] | None = None

    def abandon(self) -> bool:
        """The caller has gone: whether there was a call left to drop."""
        waits = not self.done()
        self.gone()
        return waits

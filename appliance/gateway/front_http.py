"""The HTTP connections of a front process: plain calls become frames, all else is relayed to the main process.

Runs in a front process's event loop. A request that is wrong in any way is relayed too, so that what is said of it is
said by the main process alone.
"""

import asyncio
from typing import Any, NoReturn, cast

from appliance.core.errors import IngleError, UnsupportedError
from appliance.core.requests import CallAnswer
from appliance.gateway import body_reader
from appliance.gateway.fast_calls import Connection, FastFront, _Call, _View
from appliance.gateway.http_head import Head
from appliance.gateway.http_relay import HttpRelay
from appliance.gateway.remote_plane import RemotePlane
from appliance.gateway.shared_memory import CallerMemory
from appliance.gateway.v2_infer import HEADER_LENGTH, read_infer


class Elsewhere(CallerMemory):
    """In the place of a caller's shared memory: a call that uses it is the main process's."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def span(self, _tensor: str, _parameters: dict[str, Any]) -> NoReturn:
        raise UnsupportedError("memory that a caller shares is known to the main process")


ELSEWHERE = Elsewhere()


class RelayingFront(FastFront):
    """What all connections of a front process share. `main_path` is the main process's private HTTP socket."""

    def __init__(self, plane: RemotePlane, main_path: str, max_body_bytes: int, max_connections: int) -> None:
        relay = cast("Any", lambda: HttpRelay(main_path))
        super().__init__(cast("Any", plane), relay, max_body_bytes, max_connections)
        self.plane = plane

    def __call__(self) -> "RelayingConnection":
        return RelayingConnection(self)


class RelayingConnection(Connection):
    """One client's connection to a front process."""

    def __init__(self, front: RelayingFront) -> None:
        super().__init__(front)
        self._plane = front.plane
        self._head_bytes = b""
        self._span: tuple[int, int] | None = None  # of shared memory that the body is read to

    def connection_lost(self, exc: Exception | None) -> None:
        self._free()
        super().connection_lost(exc)

    # What is not a plain call's.

    def _delegate_is_idle(self) -> bool:
        return self._delegate is not None and bool(self._delegate.idle)

    def _hand_over(self, data: bytes, *, for_good: bool) -> None:
        self._for_good = for_good
        if self._delegate is None:
            self._delegate = self._front.make_handler()
            self._view = _View(self._transport)
            self._delegate.connection_made(cast("asyncio.Transport", self._view))
        # The answer to a HEAD tells of a body that does not follow.
        self._delegate.follow(plain=not for_good and not data.startswith(b"HEAD "))
        self._delegate.data_received(data)

    # Plain calls.

    def _begin_body(self, head: Head, data: bytes) -> None:
        self._head_bytes = data[: head.size_bytes]
        said = head.headers.get(b"authorization")
        authorization = None if said is None else said.decode("latin-1")
        if len(data) >= head.size_bytes + head.body_bytes or self._plane.knows(authorization):
            super()._begin_body(head, data)
            return

        def known(error: IngleError | None) -> None:
            if self._transport.is_closing():
                return
            if error is None:
                self._transport.resume_reading()
                self._take_body(head, data)
            else:
                self._failed(error)
                self._transport.close()  # the body is on its way, and is not wanted

        # A stranger's body is not waited for.
        self._transport.pause_reading()
        self._plane.who(authorization, known)

    def _take_body(self, head: Head, data: bytes) -> None:
        super()._begin_body(head, data)

    def _is_receiving(self) -> bool:
        # What is relayed the main process watches, at its own end.
        return self._delegate is None and super()._is_receiving()

    def _place(self, size_bytes: int) -> bytearray | memoryview:
        if size_bytes >= body_reader.FROM_BYTES and (start := self._plane.region.take(size_bytes)) is not None:
            self._span = start, size_bytes
            return self._plane.region.view(start, size_bytes)
        return bytearray(size_bytes)

    def _free(self) -> None:
        if self._span is not None:
            self._plane.region.give_back(*self._span)
            self._span = None

    def _answer(self, head: Head, body: bytes | bytearray | memoryview) -> None:
        model = self._front.model_of(head.target)
        assert model is not None
        headers = head.headers
        authorization, length = headers.get(b"authorization"), headers.get(HEADER_LENGTH)
        try:
            asked = read_infer(body, None if length is None else length.decode("latin-1"), *model, ELSEWHERE)
            call = _RemoteCall(self, self._plane, model[0], asked.id, headers.get(b"accept-encoding"))
            said = None if authorization is None else authorization.decode("latin-1")
            call.number = self._plane.begin(asked.call, said, call.outcome, self._span)
        except IngleError:
            pipelined, self._buffer = self._buffer, b""
            whole = b"".join((self._head_bytes, body, pipelined))
            self._free()
            self._give_back()
            self._hand_over(whole, for_good=bool(pipelined))
        except Exception as error:
            self._free()
            self._fault(error)
        else:
            self._span = None  # the plane's now
            self._call = call

    def replied(self, call: "_RemoteCall", outcome: CallAnswer | IngleError) -> None:
        """What the main process says of the call."""
        if self._call is not call:
            return
        if isinstance(outcome, IngleError):
            self._failed(outcome)
            return
        try:
            self._deliver(call, outcome)
        except Exception as error:
            self._fault(error)


class _RemoteCall(_Call):
    """A call that the main process answers."""

    __slots__ = ("_front_connection", "_plane", "number")

    def __init__(
        self, connection: RelayingConnection, plane: RemotePlane, model: str, request_id: str, accepts: bytes | None
    ) -> None:
        super().__init__(connection, model, request_id, accepts)
        self._front_connection = connection
        self._plane = plane
        self.number = 0

    def abandon(self) -> bool:
        super().abandon()
        self._plane.abandon(self.number)
        return False  # the main process counts it

    def outcome(self, outcome: CallAnswer | IngleError) -> None:
        self._front_connection.replied(self, outcome)

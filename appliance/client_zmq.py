"""One connection of a client to a node's ZeroMQ front: for a thread, and for an event loop.

Runs in whatever program uses the client. A connection that breaks is not mended behind the caller's back, as ZeroMQ
would: what it had sent may have run, so its calls fail, and the next opens another.
"""

import asyncio
import struct
import time
from collections.abc import Sequence
from typing import Any, cast

import zmq

from appliance.client_wire import Asked, BrokenError, NotReachedError, from_zmq, to_zmq
from appliance.core.client_frames import read_message
from appliance.core.errors import BadInputError, IngleError, UnavailableError
from appliance.core.requests import Buffer

CONNECT_S = 10.0
_OPEN = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_EVENT = struct.Struct("=HI")
_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
)


class _Socket:
    """A DEALER socket that connects once, and its monitor. Raises BadInputError where the URL is none."""

    def __init__(self, url: str) -> None:
        self.context = zmq.Context()
        self.dealer: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        self.monitor: zmq.Socket[bytes] = self.context.socket(zmq.PAIR)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.RECONNECT_IVL, -1),
            (zmq.SNDHWM, 0),
            (zmq.RCVHWM, 0),
            (zmq.IPV6, 1),
        ):
            self.dealer.set(option, value)
        self.dealer.monitor("inproc://monitor", int(_EVENTS))
        self.monitor.connect("inproc://monitor")
        try:
            self.dealer.connect(url)
        except zmq.ZMQError:
            self.close()
            raise BadInputError(f"'{url}' is no URL: expected one such as tcp://HOST:8003") from None

    def event(self) -> int:
        """The next event, which must be there."""
        told, _ = self.monitor.recv_multipart(zmq.NOBLOCK)
        return int(_EVENT.unpack(told)[0])

    def close(self) -> None:
        self.dealer.disable_monitor()
        self.monitor.close(linger=0)
        self.dealer.close(linger=0)
        self.context.term()


class ZmqLink:
    """Asks a node, one thing at a time. Not for several threads at once."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self._url = url
        self._key = key
        self._timeout_s = timeout_s
        self._socket: _Socket | None = None
        self._number = 0

    def ask(self, asked: Asked, timeout_s: float = 0.0) -> Any:
        """The node's answer. Raises the error that it names, NotReachedError where there is none, BrokenError where the
        connection breaks, and UnavailableError where nothing comes in time (0: as the link was made)."""
        ends_s = time.monotonic() + (timeout_s or self._timeout_s)
        sock = self._socket or self._opened(min(ends_s, time.monotonic() + CONNECT_S))
        self._number += 1
        sock.dealer.send_multipart(to_zmq(asked, self._number, self._key), copy=False)
        while True:
            ready = self._poll(sock, ends_s)
            if sock.dealer in ready:
                head, bodies = _read(self._url, sock.dealer)
                if head.call in (self._number, 0):  # not what an earlier call had given up waiting for
                    return from_zmq(self._url, head, bodies)
            elif sock.monitor in ready:
                if sock.event() != _OPEN:
                    self.close()
                    raise broken(self._url)
            else:
                raise late(self._url)

    def _opened(self, ends_s: float) -> _Socket:
        self._socket = sock = _Socket(self._url)
        if sock.monitor not in self._poll(sock, ends_s) or sock.event() != _OPEN:
            self.close()
            raise not_there(self._url)
        return sock

    @staticmethod
    def _poll(sock: _Socket, ends_s: float) -> dict[Any, int]:
        poller = zmq.Poller()
        poller.register(sock.dealer, zmq.POLLIN)
        poller.register(sock.monitor, zmq.POLLIN)
        return dict(poller.poll(round(max(0.0, ends_s - time.monotonic()) * 1000)))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class AsyncZmqLink:
    """As ZmqLink, for an event loop: asks many things at a time. The sockets' descriptors are edge-triggered, and are
    looked at again after each send; zmq.asyncio costs twice as much."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self._url = url
        self._key = key
        self._timeout_s = timeout_s
        self._socket: _Socket | None = None
        self._opening: asyncio.Future[None] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    async def ask(self, asked: Asked, timeout_s: float = 0.0) -> Any:
        """As ZmqLink.ask()."""
        if self._socket is None:
            self._open()
        assert self._opening is not None
        try:
            await asyncio.wait_for(asyncio.shield(self._opening), min(CONNECT_S, timeout_s or self._timeout_s))
        except TimeoutError:
            raise not_there(self._url) from None
        if self._socket is None:
            raise broken(self._url)
        self._number = number = self._number + 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._socket.dealer.send_multipart(to_zmq(asked, number, self._key), copy=False)
            self._look()
            return await asyncio.wait_for(answer, timeout_s or self._timeout_s)
        except TimeoutError:
            raise late(self._url) from None
        finally:
            self._waiting.pop(number, None)

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._socket = sock = _Socket(self._url)
        self._opening = loop.create_future()
        loop.add_reader(sock.dealer.FD, self._look)
        loop.add_reader(sock.monitor.FD, self._look)
        self._look()

    def _look(self) -> None:
        """Reads all that is there."""
        while self._socket is not None and _readable(self._socket.dealer):
            head, bodies = _read(self._url, self._socket.dealer)
            for number in (head.call,) if head.call else tuple(self._waiting):
                answer = self._waiting.pop(number, None)
                if answer is not None and not answer.done():
                    try:
                        answer.set_result(from_zmq(self._url, head, bodies))
                    except IngleError as error:
                        answer.set_exception(error)
        while self._socket is not None and _readable(self._socket.monitor):
            assert self._opening is not None
            if self._socket.event() == _OPEN:
                self._opening.set_result(None)
            elif self._opening.done():
                self._end(broken(self._url))
            else:
                self._end(not_there(self._url))

    def _end(self, error: IngleError) -> None:
        sock, self._socket = self._socket, None
        waiting, self._waiting = self._waiting, {}
        if sock is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.dealer.FD)
        loop.remove_reader(sock.monitor.FD)
        sock.close()
        assert self._opening is not None
        if not self._opening.done():
            self._opening.set_exception(error)
            self._opening.exception()  # told to whoever waits for it; nobody has to
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(error)

    async def close(self) -> None:
        """Ends the connection, and what still waits for it."""
        self._end(UnavailableError(f"the connection to {self._url} was closed while a call was under way"))


def _read(url: str, dealer: zmq.Socket[bytes]) -> tuple[Any, Sequence[Buffer]]:
    try:
        return read_message([frame.buffer for frame in dealer.recv_multipart(zmq.NOBLOCK, copy=False)])
    except BadInputError as error:
        raise IngleError(f"what answers at {url} does not speak as a node of Ingle does: {error}") from None


def _readable(sock: zmq.Socket[bytes]) -> bool:
    return bool(cast(int, sock.get(zmq.EVENTS)) & zmq.POLLIN)


def broken(url: str) -> BrokenError:
    """The connection ended, and it is not known what of the call was done."""
    return BrokenError(f"the connection to {url} broke: the node has ended, or refused what is too large for it")


def not_there(url: str) -> NotReachedError:
    """Nothing answers there."""
    return NotReachedError(f"no node answers at {url}: is it running there, and is that its ZeroMQ port?")


def late(url: str) -> UnavailableError:
    """Nothing came in time."""
    return UnavailableError(f"the node at {url} took too long to answer: try again later")

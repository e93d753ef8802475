"""A ROUTER socket driven by hand from the event loop: messages in, messages out, and who came and went.

Runs in the gateway's event loop; ZeroMQ's own thread does the input and output. Knows no frames. The socket's file
descriptor is edge-triggered: after add_reader, after each send, and while anything can be read, it must be looked at
again, or it stays silent (zmq_getsockopt(3), ZMQ_FD). zmq.asyncio does the same at twice the cost.

A connection is known by the descriptor that ZeroMQ's monitor names when it opens and closes, and by the routing id of
its messages, which carry that descriptor as ZMQ_SRCFD.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import cast

import zmq

from appliance.core.addresses import Address
from appliance.core.beats import until_beat_s
from appliance.core.client_frames import MAX_PARTS, PART_FROM_BYTES, Fault, message_parts
from appliance.core.errors import BadInputError
from appliance.core.requests import Buffer
from appliance.gateway.zmq_peer import MAX_CALLS, Peer

MAX_CONNECTIONS = 4096
_MESSAGES_A_TURN = 64
_WATCH_S = 0.2
_HANDSHAKE_MS = 10_000
_LINGER_MS = 1000
_KEEPALIVE_S = (30, 10, 3)  # idle, between probes, and how many of them
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
_EVENT = struct.Struct("=HI")  # zmq_socket_monitor(3): the event and its value
# linux/tcp.h: tcpi_bytes_received in struct tcp_info.
_BYTES_RECEIVED = struct.Struct("=128xQ")
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, for no time

OnMessage = Callable[[Peer, list[Buffer]], None]

_log = logging.getLogger("ingle.zmq")


class Connection:
    """A descriptor of our own for a connection that ZeroMQ owns: to see how much came over it, and to end it.

    It keeps the number from being given to another connection before close()."""

    def __init__(self, fd: int, make_peer: Callable[[], Peer]) -> None:
        self._make_peer = make_peer
        self.peer = make_peer()
        self._socket = socket.socket(fileno=os.dup(fd))
        self._messages_seen = 0
        self._received_then = 0
        self._ended = False

    def renew(self) -> None:
        """What was taken for this connection's was an earlier one's."""
        self.peer.gone()
        self.peer = self._make_peer()

    def is_of(self, port: int) -> bool:
        """Whether it came in on this port: the descriptor that was named may have been closed and given away."""
        try:
            return bool(self._socket.getsockname()[1] == port)
        except (OSError, IndexError):
            return False

    def unfinished_bytes(self) -> int:
        """What came since a message was last complete, as far as this was looked at before."""
        if self._ended:
            return 0
        told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
        received = int(_BYTES_RECEIVED.unpack(told)[0]) if len(told) == _BYTES_RECEIVED.size else 0
        if self.peer.messages != self._messages_seen:
            self._messages_seen, self._received_then = self.peer.messages, received
        return received - self._received_then

    def end(self, reason: str) -> None:
        """Ends the connection, once; ZeroMQ finds out by itself."""
        if not self._ended:
            self._ended = True
            _log.warning("a ZeroMQ caller was disconnected: %s", reason)
            with contextlib.suppress(OSError):  # it has ended by itself
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()  # what else comes is refused as soon as ZeroMQ has closed its own

    def close(self) -> None:
        self._socket.close()


class RouterSocket:
    """on_message(peer, parts) for every message, on_gone(peer) once a connection has ended."""

    def __init__(self, on_message: OnMessage, on_gone: Callable[[Peer], None], *, max_body_bytes: int) -> None:
        self._on_message = on_message
        self._on_gone = on_gone
        self._max_body_bytes = max_body_bytes
        self._max_message_bytes = 2 * max_body_bytes  # so that a body that is too large can be answered with a sentence
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._monitor: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        self._connections: dict[int, Connection] = {}
        self._peers: dict[bytes, Connection] = {}
        self._port = 0
        self._pump_is_due = False
        self._closed = False
        self._watch: asyncio.TimerHandle

    def open(self, address: Address) -> int:
        """Listens; the port. Raises OSError where the address cannot be had."""
        self._set_options(ipv6=":" in address.host)
        # A monitor that is not read must never make ZeroMQ's own thread wait: no bound but the connections'.
        self._monitor.set(zmq.RCVHWM, 0)
        self._socket.monitor("inproc://monitor", _EVENTS)
        self._monitor.connect("inproc://monitor")
        try:
            self._socket.bind(f"tcp://{address}")
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"cannot listen for ZeroMQ on {address}: {error.strerror}") from None
        self._port = int(self._socket.get_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])
        self._loop.add_reader(self._monitor.FD, self._read_monitor)
        self._loop.add_reader(self._socket.FD, self._pump)
        self._watch_later()
        self._read_monitor()
        self._pump()
        return self._port

    def _set_options(self, *, ipv6: bool) -> None:
        idle_s, between_s, count = _KEEPALIVE_S
        for option, value in (
            (zmq.IPV6, int(ipv6)),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.MAXMSGSIZE, self._max_message_bytes),
            (zmq.HANDSHAKE_IVL, _HANDSHAKE_MS),
            (zmq.SNDHWM, MAX_CALLS),
            (zmq.RCVHWM, 2 * _MESSAGES_A_TURN),
            (zmq.BACKLOG, 1024),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, idle_s),
            (zmq.TCP_KEEPALIVE_INTVL, between_s),
            (zmq.TCP_KEEPALIVE_CNT, count),
        ):
            self._socket.set(option, value)

    # Reading.

    def _pump(self) -> None:
        """Reads what has come, so much in a turn of the loop; whatever is left is read in the next."""
        self._pump_is_due = False
        if self._closed:
            return
        for _ in range(_MESSAGES_A_TURN):
            if not _readable(self._socket):
                return
            self._receive()
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._pump_is_due:
            self._pump_is_due = True
            self._loop.call_soon(self._pump)

    def _receive(self) -> None:
        """One message: the routing id, and at least one part."""
        identity = self._socket.recv(zmq.NOBLOCK)
        frame = self._socket.recv(zmq.NOBLOCK, copy=False)
        connection = self._peers.get(identity) or self._came_first(identity, frame)
        parts: list[Buffer] = [frame.buffer]
        while frame.more:
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            if len(parts) <= MAX_PARTS:  # one more than is taken: enough to tell that it is too many
                parts.append(frame.buffer)
        if connection is not None:
            connection.peer.messages += 1
            self._on_message(connection.peer, parts)
        elif identity[0]:
            self._refuse_name(identity)

    def _came_first(self, identity: bytes, frame: zmq.Frame) -> Connection | None:
        """The connection of a routing id that is new, or None where it has ended meanwhile.

        What a connection sent may be read after its end, when its descriptor's number means another one. ZeroMQ counts
        its routing ids up (a zero byte and 32 bits), so that the later one is the one that is open.
        """
        self._read_monitor()
        try:
            connection = self._connections.get(frame.get(zmq.SRCFD))
        except zmq.ZMQError:  # of ZMTP 1 or 2: ZeroMQ does not say where the message is from, nor whose it may be
            return None
        if connection is None or identity[0]:
            return None
        if before := connection.peer.identity:
            if not _is_later(identity, before):
                return None
            del self._peers[before]
            connection.renew()
        connection.peer.identity = identity
        self._peers[identity] = connection
        return connection

    # Writing.

    def send(self, peer: Peer, parts: Sequence[Buffer]) -> None:
        """Sends a message, or drops it where the peer has gone. A peer that has left so many answers unread that no
        more have room is disconnected."""
        connection = self._peers.get(peer.identity)
        if connection is None or self._closed:
            return
        size = sum(map(len, parts))
        try:
            self._socket.send(peer.identity, zmq.SNDMORE | zmq.NOBLOCK)
            if size < PART_FROM_BYTES:
                self._socket.send_multipart(parts, zmq.NOBLOCK)
            else:
                message = self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False, track=True)
                peer.sent(cast("zmq.MessageTracker", message), size)
        except zmq.Again:
            connection.end(f"it left {MAX_CALLS} answers unread")
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
        self._pump_soon()

    def _refuse_name(self, identity: bytes) -> None:
        """A caller that named itself could come back as itself while its old calls are still under way."""
        fault = Fault(0, BadInputError.code, "the socket has a routing id of its own (ZMQ_ROUTING_ID): set none")
        with contextlib.suppress(zmq.ZMQError):
            self._socket.send_multipart([identity, *message_parts(fault)], zmq.NOBLOCK)

    # Who is there.

    def _read_monitor(self) -> None:
        while not self._closed and _readable(self._monitor):
            told, _ = self._monitor.recv_multipart(zmq.NOBLOCK)
            event, fd = _EVENT.unpack(told)
            if event == zmq.EVENT_ACCEPTED:
                self._came(fd)
            elif (connection := self._connections.pop(fd, None)) is not None:
                self._went(connection)

    def _came(self, fd: int) -> None:
        try:
            connection = Connection(fd, lambda: Peer(self._max_body_bytes))
        except OSError:
            return  # it has gone again
        if not connection.is_of(self._port):
            connection.close()
            return
        self._connections[fd] = connection
        if len(self._connections) > MAX_CONNECTIONS:
            connection.end(f"{MAX_CONNECTIONS} others are there")

    def _went(self, connection: Connection) -> None:
        self._peers.pop(connection.peer.identity, None)
        connection.close()
        self._on_gone(connection.peer)

    def _end_the_endless(self) -> None:
        """ZeroMQ bounds a message's parts and not how many follow each other, and keeps them until the last has come:
        whoever sends more than any message may have, without end, is disconnected."""
        self._read_monitor()
        for connection in self._connections.values():
            if connection.unfinished_bytes() > self._max_message_bytes:
                connection.end("its message had no end")
        self._watch_later()

    def _watch_later(self) -> None:
        self._watch = self._loop.call_later(until_beat_s(self._loop.time(), _WATCH_S), self._end_the_endless)

    async def close(self) -> None:
        """Ends every connection; answers that were sent have a second to leave."""
        if self._closed:
            return
        self._closed = True
        if self._port:
            self._watch.cancel()
            self._loop.remove_reader(self._socket.FD)
            self._loop.remove_reader(self._monitor.FD)
            self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=_LINGER_MS)
        await asyncio.to_thread(self._context.term)
        for connection in self._connections.values():
            connection.close()


def _readable(sock: zmq.Socket[bytes]) -> bool:
    """Whether something can be read; to ask is what makes the descriptor speak again."""
    return bool(cast(int, sock.get(zmq.EVENTS)) & zmq.POLLIN)


def _is_later(identity: bytes, before: bytes) -> bool:
    """Whether a routing id was given after another; the counter wraps around."""
    return (int.from_bytes(identity[1:], "big") - int.from_bytes(before[1:], "big")) % 2**32 < 2**31

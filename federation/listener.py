"""The port that other nodes dial: who connects, who is let in, and what comes from each.

Runs in the gateway's event loop. ZAP has proved who is at the other end of whatever is read here; until a connection's
first message it is nobody's, and such connections are bounded in number and time.

A connection is known by the descriptor that ZeroMQ's monitor names when it opens and closes, and by the routing id of
its messages, which carry that descriptor as ZMQ_SRCFD.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

import zmq

from appliance.core.addresses import Address
from appliance.core.beats import until_beat_s
from appliance.core.requests import Buffer
from federation.identity import Identity
from federation.sockets import Context, DrivenSocket, Monitor, Unsent
from federation.tcp_end import TcpEnd
from federation.wires import Tuning, secure

MAX_STRANGERS = 256  # connections whose first message has not come yet
STRANGER_S = 10.0
_SWEEP_S = 0.2
_CAME = int(zmq.EVENT_ACCEPTED)
_WENT = int(zmq.EVENT_DISCONNECTED)

_log = logging.getLogger("ingle.mesh")


class AcceptedWire:
    """A Wire, once it has a routing id and a node id. Before, a stranger's connection.

    It keeps a descriptor of its own for the connection, to end it: ZeroMQ cannot."""

    dialled = False

    def __init__(self, router: DrivenSocket, fd: int, unsent_bytes: int) -> None:
        """Raises OSError where the connection has ended already."""
        self.node_id = ""
        self.routing_id = b""
        self.came_s = time.monotonic()
        self._router = router
        self._unsent = Unsent(unsent_bytes)
        self._tcp = TcpEnd(fd)
        self._messages = 0

    @property
    def ended(self) -> bool:
        return self._tcp.ended

    def is_of(self, port: int) -> bool:
        """Whether it came in on this port."""
        return self._tcp.is_of(port)

    def came(self) -> None:
        """A whole message was read."""
        self._messages += 1

    def is_endless(self, max_bytes: int) -> bool:
        """Whether more than so much came without a message being complete, since this was asked last."""
        return self._tcp.unfinished_bytes(self._messages) > max_bytes

    def has_room(self, size_bytes: int) -> bool:
        """As Wire.has_room()."""
        return not (self.ended or self._router.closed) and self._unsent.has_room(size_bytes)

    def send(self, parts: Sequence[Buffer]) -> bool:
        """As Wire.send()."""
        size = sum(map(len, parts))
        if not self.has_room(size):
            return False
        try:
            self._unsent.add(self._router.send([self.routing_id, *parts]), size)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False  # it has ended, and the monitor is about to say so
        return True

    def end(self, reason: str = "") -> None:
        """As Wire.end()."""
        self._tcp.end()

    def release(self) -> None:
        """It has ended by itself, or is not the one that was meant."""
        self._tcp.release()


class Listener:
    """`on_message(wire, frames)` for whatever an allowed node says, `on_end(wire, reason)` once a connection that had
    said something has ended."""

    def __init__(
        self,
        context: Context,
        identity: Identity,
        tuning: Tuning,
        *,
        on_message: Callable[[AcceptedWire, list[zmq.Frame]], None],
        on_end: Callable[[AcceptedWire, str], None],
    ) -> None:
        self._identity = identity
        self._tuning = tuning
        self._on_message = on_message
        self._on_end = on_end
        self._wires_by_fd: dict[int, AcceptedWire] = {}
        self._wires: dict[bytes, AcceptedWire] = {}
        self._strangers: dict[int, AcceptedWire] = {}  # by descriptor, the oldest first
        self._ended_by_fd: dict[int, bytes] = {}  # the routing id of the last connection with that descriptor
        self._early: deque[list[zmq.Frame]] = deque()  # messages whose connection is not known yet
        self._socket = DrivenSocket(context, zmq.ROUTER, self._read)
        self._monitor = Monitor(context, self._socket, _CAME | _WENT, self._heard)
        self._port = 0
        self._sweep: asyncio.TimerHandle | None = None

    def open(self, address: Address) -> int:
        """Listens; the port. Raises OSError where the address cannot be had."""
        sock = self._socket.zmq
        secure(sock, self._identity, self._tuning)
        sock.set(zmq.IPV6, int(":" in address.host))
        sock.set(zmq.ROUTER_MANDATORY, 1)
        sock.set(zmq.BACKLOG, 1024)
        try:
            sock.bind(f"tcp://{address}")
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"cannot listen for other nodes on {address}: {error.strerror}") from None
        self._port = int(sock.get_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])
        self._socket.drive()
        self._look_after_later()
        return self._port

    def _read(self, frames: list[zmq.Frame]) -> None:
        """Whose a message of a new routing id is, can be told once all events of before are known: until then it waits,
        and so does what comes after it."""
        routing_id = frames[0].bytes
        wire = self._wires.get(routing_id)
        if wire is None:
            if self._early or not self._monitor.look():
                if not self._early:
                    asyncio.get_running_loop().call_soon(self._read_early)
                self._early.append(frames)
                return
            wire = self._came_first(routing_id, frames[1])
        self._pass_on(wire, frames)

    def _pass_on(self, wire: AcceptedWire | None, frames: list[zmq.Frame]) -> None:
        if wire is not None and not wire.ended:
            wire.came()
            self._on_message(wire, frames[1:])

    def _read_early(self) -> None:
        if self._socket.closed:
            return
        if not self._monitor.look():
            asyncio.get_running_loop().call_soon(self._read_early)
            return
        while self._early:
            frames = self._early.popleft()
            routing_id = frames[0].bytes
            try:
                self._pass_on(self._wires.get(routing_id) or self._came_first(routing_id, frames[1]), frames)
            except Exception:  # of one message; the others are of other connections
                _log.exception("a message was not dealt with")

    def _came_first(self, routing_id: bytes, frame: zmq.Frame) -> AcceptedWire | None:
        """The connection of a routing id that is new, or None where it has ended meanwhile.

        What a connection sent may be read after its end, when its descriptor's number means another one. ZeroMQ counts
        its routing ids up (a zero byte and 32 bits), so that the later one is the one that is open.
        """
        fd = int(frame.get(zmq.SRCFD))
        wire = self._wires_by_fd.get(fd)
        if wire is None:
            return None
        if routing_id[0]:  # named by itself, which no node does
            wire.end()
            return None
        before = wire.routing_id or self._ended_by_fd.get(fd)
        if before and not _is_later(routing_id, before):
            return None
        if wire.routing_id:
            self._went(fd)  # what was taken for this connection's was an earlier one's
            self._came(fd)
            wire = self._wires_by_fd.get(fd)
            if wire is None:
                return None
        self._strangers.pop(fd, None)
        wire.routing_id = routing_id
        wire.node_id = str(frame.get("User-Id"))
        self._wires[routing_id] = wire
        return wire

    def _heard(self, event: int, fd: int, endpoint: str) -> None:
        if event == _CAME:
            self._came(fd)
            return
        self._socket.look()  # what it said last comes first
        self._went(fd)

    def _came(self, fd: int) -> None:
        try:
            wire = AcceptedWire(self._socket, fd, self._tuning.unsent_bytes)
        except OSError:
            return  # it has gone again
        if not wire.is_of(self._port):
            wire.release()
            return
        self._went(fd)
        self._wires_by_fd[fd] = self._strangers[fd] = wire
        if len(self._strangers) > MAX_STRANGERS:
            self._strangers.pop(next(iter(self._strangers))).end()

    def _went(self, fd: int) -> None:
        wire = self._wires_by_fd.pop(fd, None)
        if wire is None:
            return
        self._strangers.pop(fd, None)
        wire.release()
        if wire.routing_id:
            self._wires.pop(wire.routing_id, None)
            self._ended_by_fd[fd] = wire.routing_id
            self._on_end(wire, "the connection ended")

    def _look_after(self) -> None:
        """Ends connections that have said nothing in all the time that they had for it, or whose message has no end."""
        before_s = time.monotonic() - STRANGER_S
        for fd, wire in tuple(self._strangers.items()):
            if wire.came_s > before_s:
                break
            del self._strangers[fd]
            wire.end()
        for wire in self._wires.values():
            if wire.is_endless(2 * self._tuning.max_message_bytes):
                _log.warning("node %s is disconnected: its message had no end", wire.node_id)
                wire.end()
        self._look_after_later()

    def _look_after_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(until_beat_s(loop.time(), _SWEEP_S), self._look_after)

    def close(self) -> None:
        """Ends every connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        self._monitor.close()
        self._socket.close()
        for wire in self._wires_by_fd.values():
            wire.end()


def _is_later(routing_id: bytes, before: bytes) -> bool:
    """Whether a routing id was given after another; the counter wraps around."""
    return 0 < (int.from_bytes(routing_id[1:], "big") - int.from_bytes(before[1:], "big")) % 2**32 < 2**31

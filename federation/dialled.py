"""One attempt to reach a node at one address, and the connection that comes of it.

Runs in the gateway's event loop. The node must prove that it holds the secret key of the public key that was asked for;
whoever else answers there gets nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import zmq

from appliance.core.addresses import Address
from appliance.core.beats import until_beat_s
from appliance.core.requests import Buffer
from federation.identity import Identity, node_id_of
from federation.sockets import Context, DrivenSocket, Monitor, Unsent
from federation.tcp_end import TcpEnd
from federation.wires import Tuning, secure

_CONNECT_MS = 3000
_LOOK_S = 0.2
_CONNECTED = int(zmq.EVENT_CONNECTED)
_BEGUN = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_ENDED = {
    int(zmq.EVENT_CLOSED): "nothing answers there",
    int(zmq.EVENT_DISCONNECTED): "the connection ended",
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "it broke the handshake off: it does not know this node, or is not it",
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): "what answers there is not this node",
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): "it turned this node away",
}


class DialledWire:
    """A Wire. `on_begun(wire)` once the handshake has succeeded, `on_message(wire, frames)`, and once `on_end(wire,
    reason)`, be it that the handshake failed or that the connection ended later."""

    dialled = True

    def __init__(
        self,
        context: Context,
        identity: Identity,
        tuning: Tuning,
        *,
        public_key: bytes,
        address: Address,
        on_begun: "Callable[[DialledWire], None]",
        on_message: "Callable[[DialledWire, list[zmq.Frame]], None]",
        on_end: "Callable[[DialledWire, str], None]",
    ) -> None:
        """Dials. Raises OSError where the address cannot even be tried."""
        self.node_id = node_id_of(public_key)
        self.address = address
        self.begun = False
        self._on_begun = on_begun
        self._on_message = on_message
        self._on_end = on_end
        self._max_message_bytes = tuning.max_message_bytes
        self._tcp: TcpEnd | None = None
        self._dialled_s = asyncio.get_running_loop().time()
        self._messages = 0
        self._look: asyncio.TimerHandle | None = None
        self._unsent = Unsent(tuning.unsent_bytes)
        self._socket = DrivenSocket(context, zmq.DEALER, self._read)
        self._monitor = Monitor(context, self._socket, _CONNECTED | _BEGUN | sum(_ENDED), self._heard)
        try:
            self._connect(identity, tuning, public_key)
        except zmq.ZMQError as error:
            self._close()
            raise OSError(error.errno, f"cannot dial {address}: {error.strerror}") from None

    def _connect(self, identity: Identity, tuning: Tuning, public_key: bytes) -> None:
        sock = self._socket.zmq
        secure(sock, identity, tuning, server_key=public_key)
        # An attempt is made once: when the next is due is not ZeroMQ's to say.
        sock.set(zmq.RECONNECT_IVL, -1)
        sock.set(zmq.CONNECT_TIMEOUT, _CONNECT_MS)
        sock.set(zmq.IPV6, int(":" in self.address.host))
        sock.connect(f"tcp://{self.address}")
        self._socket.drive()

    def is_unheard(self, after_s: float) -> bool:
        """Whether the other end has not so much as acknowledged it in this time. The system sends a SYN that was lost
        again after a second, and then after two: a new attempt is sooner there."""
        return self._tcp is None and not self.begun and asyncio.get_running_loop().time() - self._dialled_s >= after_s

    def has_room(self, size_bytes: int) -> bool:
        """As Wire.has_room()."""
        return not self._socket.closed and self._unsent.has_room(size_bytes)

    def send(self, parts: Sequence[Buffer]) -> bool:
        """As Wire.send()."""
        size = sum(map(len, parts))
        if not self.has_room(size):
            return False
        try:
            self._unsent.add(self._socket.send(parts), size)
        except zmq.Again:
            return False
        return True

    def end(self, reason: str) -> None:
        """As Wire.end(); also gives an attempt up that has not succeeded."""
        if not self._socket.closed:
            self._close()
            self._on_end(self, reason)

    def _read(self, frames: list[zmq.Frame]) -> None:
        if not self.begun:
            self._monitor.look()  # its beginning was there before its first message
        if not self._socket.closed:
            self._messages += 1
            self._on_message(self, frames)

    def _heard(self, event: int, value: int, endpoint: str) -> None:
        if event == _CONNECTED:
            with contextlib.suppress(OSError):  # it has ended again
                self._tcp = TcpEnd(value)
        elif event == _BEGUN:
            self.begun = True
            self._look_after()
            self._on_begun(self)
        elif reason := _ENDED.get(event):
            self._socket.look()  # what it said last comes first
            self.end(reason)

    def _look_after(self) -> None:
        """Ends it where its message has no end."""
        if self._tcp is not None and self._tcp.unfinished_bytes(self._messages) > 2 * self._max_message_bytes:
            self.end("its message had no end")
        else:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(until_beat_s(loop.time(), _LOOK_S), self._look_after)

    def _close(self) -> None:
        if self._look is not None:
            self._look.cancel()
        if self._tcp is not None:
            self._tcp.release()
        self._monitor.close()
        self._socket.close()

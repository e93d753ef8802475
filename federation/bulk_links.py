"""A second connection with each peer that has a link, where large things delay nobody.

Runs in the gateway's event loop, under links.py. Whoever dialled the link dials this one too, and says HELLO on it; it
lives no longer than the link.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import zmq

from appliance.core.addresses import Address
from appliance.core.requests import Buffer
from federation.dialled import DialledWire
from federation.frames import message_parts
from federation.identity import Identity
from federation.listener import Listener
from federation.messages import Head, Hello
from federation.peer_link import AnyWire, PeerLink
from federation.sockets import Context
from federation.wires import Tuning

_AGAIN_S = 1.0
# linux/ip.h, IPTOS_THROUGHPUT: for queues on the way that tell transfers from calls.
_TUNING = Tuning(
    suspect_s=0.0,
    max_message_bytes=16 * 1024 * 1024,
    unsent_bytes=16 * 1024 * 1024,
    unsent_messages=64,
    io_thread=1,
    type_of_service=0x08,
    messages_a_turn=2,  # each is some 0.2 ms of work, and calls come by the same loop
)

OnMessage = Callable[[str, Head, list[Buffer]], None]


class BulkLinks:
    """`links` are those of links.py, by node id. `on_message` gets what comes."""

    def __init__(
        self,
        context: Context,
        identity: Identity,
        links: Mapping[str, PeerLink],
        *,
        hello: Callable[[str], Hello],
        on_message: OnMessage,
    ) -> None:
        self._context = context
        self._identity = identity
        self._links = links
        self._hello = hello
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._listener = Listener(context, identity, _TUNING, on_message=self._read, on_end=self._ended)
        self._closed = False

    def open(self, address: Address) -> int:
        """Listens; the port. Raises OSError where the address cannot be had."""
        return self._listener.open(address)

    def close(self) -> None:
        """Ends every connection that was accepted, and dials no more."""
        self._closed = True
        self._listener.close()

    def dial(self, link: PeerLink) -> None:
        """Dials a peer whose link this node dialled, unless there is a connection."""
        wire, shown = link.wire, link.introduction
        if self._closed or link.bulk or link.bulk_attempt is not None or not isinstance(wire, DialledWire):
            return
        if shown is None or not 0 < shown.bulk_port < 65536:
            return
        try:
            link.bulk_attempt = DialledWire(
                self._context,
                self._identity,
                _TUNING,
                public_key=link.public_key,
                address=Address(wire.address.host, shown.bulk_port),
                on_begun=self._begun,
                on_message=self._read,
                on_end=self._ended,
            )
        except OSError as error:
            link.complain(f"cannot be dialled for bulk transfers: {error}")

    def _begun(self, wire: DialledWire) -> None:
        link = self._links[wire.node_id]
        link.bulk_attempt = None
        link.bulk.append(wire)
        wire.send(message_parts(self._hello(wire.node_id)))

    def _ended(self, wire: AnyWire, reason: str) -> None:
        link = self._links.get(wire.node_id)
        if link is None:
            return
        if wire in link.bulk:
            link.bulk.remove(wire)
        if link.bulk_attempt is wire:
            link.bulk_attempt = None
        if wire.dialled and link.wire is not None:
            self._loop.call_later(_AGAIN_S, self.dial, link)

    def _read(self, wire: AnyWire, frames: list[zmq.Frame]) -> None:
        link = self._links.get(wire.node_id)
        if link is None or link.wire is None:
            wire.end("there is no link to it")
            return
        message = link.read([frame.buffer for frame in frames])
        if message is None:
            return
        head, bodies = message
        if isinstance(head, Hello):
            if wire not in link.bulk:
                link.bulk.append(wire)
        elif wire in link.bulk:
            self._on_message(link.node_id, head, bodies)
        else:
            wire.end("it spoke before its HELLO")

    def send(self, node_id: str, head: Head, body: Sequence[Buffer] = ()) -> bool:
        """Says something to a peer. False where there is no connection, or what it leaves unread is too much."""
        link = self._links.get(node_id)
        return link is not None and bool(link.bulk) and link.bulk[-1].send(message_parts(head, body))

"""The links to all peers: one connection with each for what is said, and streams for calls and copies.

Runs in the gateway's event loop. Decides which connection stays where two nodes dial each other, and passes nothing on
that did not come from a node which is allowed at that moment. Knows HELLO, and no other message.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec
import zmq

from appliance.core.addresses import Address
from appliance.core.requests import Buffer
from federation.dialled import DialledWire
from federation.faults import there_twice
from federation.frames import message_parts
from federation.identity import Identity
from federation.link_choice import Candidate, takes_over
from federation.listener import Listener
from federation.messages import (
    PROTOCOL,
    Head,
    Hello,
    Introduction,
    Pack,
    Probed,
    Streamed,
    Ticket,
)
from federation.peer_link import AnyWire, PeerLink, dialable
from federation.settings import MeshSettings
from federation.streams import OF_CALLS, Purpose, Streams, StreamsEvents
from federation.wires import LOW_DELAY, Tuning
from federation.zap import Gate

_SOCKETS = 8192
_YIELD_TO_LOWER_S = 0.25
_UNHEARD_S = 0.2  # a LAN acknowledges in milliseconds; what is dialled twice at once goes on
_HELLO_S = 3.0
_GRACE_S = 2.0
_MAX_HEADS_BYTES = 8 * 1024 * 1024
_UNSENT_BYTES = 64 * 1024 * 1024
_UNSENT_MESSAGES = 1000

OnMessage = Callable[[str, Head, list[Buffer]], None]

_log = logging.getLogger("ingle.mesh")


class LinkEvents(msgspec.Struct, frozen=True):
    """What Links tells, in the loop. `on_up(node_id, hello)`: both have said HELLO. `on_down(node_id, reason)`: there
    is no link any more; not called for cut(). `on_message`: on a link that is up, a later HELLO too, or on its stream
    for calls; its last argument is the message's size in bytes. `on_copy`: on its stream for copies."""

    on_up: Callable[[str, Hello], None]
    on_down: Callable[[str, str], None]
    on_message: Callable[[str, Head, list[Buffer], int], None]
    on_copy: OnMessage


class Links:
    """allow() whoever is trusted, dial() to reach him; events tell what comes of it. Made in the loop it runs in."""

    def __init__(
        self,
        identity: Identity,
        settings: MeshSettings,
        *,
        max_body_bytes: int,
        hello: Callable[[str], Hello],
        events: LinkEvents,
    ) -> None:
        """`hello` gives what this node says first on a link with that node; `max_body_bytes` bounds a message."""
        self._identity = identity
        self._hello = hello
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, _SOCKETS)
        self._gate = Gate(self._context)
        self._tuning = Tuning(
            suspect_s=settings.suspect_s,
            max_message_bytes=max_body_bytes + _MAX_HEADS_BYTES,
            unsent_bytes=_UNSENT_BYTES,
            unsent_messages=_UNSENT_MESSAGES,
            type_of_service=LOW_DELAY,
        )
        self._listener = Listener(self._context, identity, self._tuning, on_message=self._read, on_end=self._ended)
        self._links: dict[str, PeerLink] = {}
        self._streams = Streams(
            identity.node_id,
            self._links,
            StreamsEvents(events.on_message, events.on_copy, self._stream_lost),
            max_message_bytes=self._tuning.max_message_bytes,
            unsent_bytes=_UNSENT_BYTES,
        )
        self._closed = False

    def open(self, address: Address, bulk: Address) -> int:
        """Listens for links and for streams; the port of these. Raises OSError where an address cannot be had; where it
        is the first, another can be tried."""
        self._listener.open(address)
        return self._streams.open(bulk)

    def close(self) -> None:
        """Ends every link; nothing is told any more."""
        self._closed = True
        for link in self._links.values():
            self._end_all(link, "this node ends")
        self._listener.close()
        self._streams.close()
        self._gate.close()
        self._context.destroy(linger=0)

    # Who may be here.

    def allow(self, node_id: str, public_key: bytes) -> None:
        """Lets a node connect, and be dialled."""
        self._gate.allow(public_key)
        if node_id not in self._links:
            self._links[node_id] = PeerLink(node_id, public_key)

    def forbid(self, node_id: str, reason: str) -> None:
        """Ends all that there is with a node, and lets it in no more."""
        if (link := self._links.pop(node_id, None)) is not None:
            self._gate.forbid(link.public_key)
            self._end_all(link, reason)

    def is_up(self, node_id: str) -> bool:
        """Whether there is a link to it."""
        link = self._links.get(node_id)
        return link is not None and link.wire is not None

    def trouble(self, node_id: str) -> str:
        """Why there is no link to a node, as far as it is known; else empty."""
        link = self._links.get(node_id)
        return link.trouble if link is not None and link.wire is None else ""

    def awaited_s(self, node_id: str) -> float:
        """For how long a node has not come to this one's port for streams, though it was asked to; 0 where it came, or
        was not asked."""
        link = self._links.get(node_id)
        return self._streams.awaited_s(link) if link is not None else 0.0

    # Getting a link, and losing it.

    def dial(self, introduction: Introduction) -> None:
        """Tries each of a node's addresses once, all at a time; the first that answers is the link. An attempt that is
        under way goes on, unless nothing was heard of the other end. Does nothing where there is a link, or the node is
        not allowed. Of two the one with the higher id waits a moment for the other."""
        link = self._links.get(introduction.node_id)
        if link is None:
            return
        link.introduction = introduction
        if self._identity.node_id < link.node_id:
            self._try(link)
        else:
            self._loop.call_later(_YIELD_TO_LOWER_S, self._try, link)

    def _try(self, link: PeerLink) -> None:
        if self._closed or link.wire is not None or self._links.get(link.node_id) is not link:
            return
        assert link.introduction is not None
        for address in dialable(link.introduction):
            pending = link.attempts.get(address)
            if pending is not None and pending.is_unheard(_UNHEARD_S):
                pending.end("it has not answered so far")  # and is asked anew
            if address not in link.attempts:
                try:
                    link.attempts[address] = self._dialled(link, address)
                except OSError as error:
                    link.trouble = f"{address}: {error}"

    def _dialled(self, link: PeerLink, address: Address) -> DialledWire:
        return DialledWire(
            self._context,
            self._identity,
            self._tuning,
            public_key=link.public_key,
            address=address,
            on_begun=self._begun,
            on_message=self._read,
            on_end=self._ended,
        )

    def _begun(self, wire: DialledWire) -> None:
        """The handshake has succeeded: of several addresses the first is enough."""
        link = self._links[wire.node_id]
        if link.wire is not None:
            wire.end("there is another link")
            return
        link.give_up_attempts("another address answered first", but=lambda attempt: attempt is wire)
        wire.send(message_parts(self._hello(wire.node_id)))
        self._loop.call_later(_HELLO_S, self._expect_hello, link, wire)

    @staticmethod
    def _expect_hello(link: PeerLink, wire: DialledWire) -> None:
        if link.attempts.get(wire.address) is wire:
            wire.end("it let this node in, and then said nothing")

    def cut(self, node_id: str, reason: str) -> None:
        """Ends all that there is with a node; it may come back."""
        if (link := self._links.get(node_id)) is not None:
            self._end_all(link, reason)

    def _end_all(self, link: PeerLink, reason: str) -> None:
        link.wire = None  # so that nobody is told
        link.packer.clear()
        self._streams.end_all(link, reason)
        for wire in link.wires():
            wire.end(reason)
        link.said.clear()
        link.yielding.clear()

    def _ended(self, wire: AnyWire, reason: str) -> None:
        link = self._links.get(wire.node_id)
        if link is None:
            return
        link.said.pop(wire, None)
        broke = self._loop.time() < link.yielding.pop(wire, 0.0)
        if isinstance(wire, DialledWire) and link.attempts.get(wire.address) is wire:
            del link.attempts[wire.address]
            link.trouble = f"{wire.address}: {reason}"
        if link.wire is wire:
            self._down(link, reason)
        elif broke and link.wire is not None:
            self._down(link, f"a connection broke before all was read that was said on it: {reason}")

    def _down(self, link: PeerLink, reason: str) -> None:
        self._end_all(link, reason)
        link.trouble = reason
        self._events.on_down(link.node_id, reason)

    def _stream_lost(self, link: PeerLink, reason: str) -> None:
        """Nobody would say which calls were lost with it: all are asked anew, as where the link ends."""
        if link.wire is not None:
            self._down(link, reason)

    # HELLO.

    def _read(self, wire: AnyWire, frames: list[zmq.Frame]) -> None:
        link = self._links.get(wire.node_id)
        if link is None:
            wire.end("it is not trusted any more")
            return
        message = link.read([frame.buffer for frame in frames])
        if message is None:
            return
        head, bodies = message
        if wire not in link.said:
            if isinstance(head, Hello):
                self._greeted(link, wire, head)
            else:  # ended, for a peer that takes it for the link would wait for answers
                wire.end("it spoke before its HELLO")
        elif isinstance(head, Pack):
            for one, its_bodies, size_bytes in link.read_pack(bodies):
                if wire not in link.said:
                    break  # what came before it ended the connection
                try:
                    self._heard(link, wire, one, its_bodies, size_bytes)
                except Exception:  # of one message; the others are of other calls
                    _log.exception("a message was not dealt with")
        else:
            self._heard(link, wire, head, bodies, sum(map(len, frames)))

    def _heard(self, link: PeerLink, wire: AnyWire, head: Head, bodies: list[Buffer], size_bytes: int) -> None:
        if isinstance(head, Ticket):
            self._streams.ticket(link, wire, head)
            return
        if isinstance(head, Streamed):
            self._streams.streamed(link, head)
            return
        if isinstance(head, Hello) and not self._is_believed(link, head):
            return
        if isinstance(head, Probed):
            self._streams.probed(link, head)
        self._events.on_message(link.node_id, head, bodies, size_bytes)

    def _is_believed(self, link: PeerLink, hello: Hello) -> bool:
        shown = hello.introduction
        if shown.node_id != link.node_id or shown.public_key != link.public_key:
            link.complain("says that it is another node than its key proves")
            return False
        if hello.protocol != PROTOCOL:
            link.complain(f"speaks protocol {hello.protocol} of the mesh, and this node {PROTOCOL}")
            return False
        return True

    def _greeted(self, link: PeerLink, wire: AnyWire, hello: Hello) -> None:
        """The first HELLO on a connection: from here on it may be the link."""
        if not self._is_believed(link, hello):
            wire.end("its HELLO is not believed")
            return
        if isinstance(wire, DialledWire):
            link.attempts.pop(wire.address, None)
        else:
            wire.send(message_parts(self._hello(wire.node_id)))
        link.name = hello.introduction.name
        candidate = link.said[wire] = Candidate(hello.incarnation, wire.dialled)
        if link.wire is None:
            self._up(link, wire, hello)
            return
        current = link.said[link.wire]
        if not takes_over(candidate, current, own_id=self._identity.node_id, peer_id=link.node_id):
            if candidate.incarnation < current.incarnation:
                link.complain(there_twice())
            self._let_go(wire)
        elif candidate.incarnation > current.incarnation:
            self._down_but(link, wire, candidate)
            self._up(link, wire, hello)
        else:
            before, link.wire = link.wire, wire
            link.yielding[before] = self._loop.time() + _GRACE_S / 2
            self._let_go(before)
            self._streams.give_tickets(link)

    def _down_but(self, link: PeerLink, wire: AnyWire, candidate: Candidate) -> None:
        """The node was started anew: what there was with its earlier life ends."""
        del link.said[wire]
        self._down(link, "it was started anew")
        link.said[wire] = candidate

    def _up(self, link: PeerLink, wire: AnyWire, hello: Hello) -> None:
        link.wire = wire
        link.bulk_port = hello.introduction.bulk_port
        link.packer.packs = hello.packs
        link.trouble = ""
        link.give_up_attempts("there is another link", but=lambda attempt: attempt.begun)
        self._streams.give_tickets(link)
        self._events.on_up(link.node_id, hello)

    def _let_go(self, wire: AnyWire) -> None:
        """What was sent on it is still read for a while."""
        self._loop.call_later(_GRACE_S, wire.end, "there is another link")

    def complain(self, node_id: str, sentence: str) -> None:
        """What a node says is wrong: the log is told now and then, however often that is. `sentence`: behind its id."""
        if (link := self._links.get(node_id)) is not None:
            link.complain(sentence)

    # Saying something.

    def send(self, node_id: str, head: Head, body: Sequence[Buffer] = ()) -> bool:
        """Says something to a peer; what is about calls on its stream for these, where there is one. False where there
        is no link, or what it leaves unread is too much already."""
        link = self._links.get(node_id)
        if link is None or link.wire is None:
            return False
        parts = message_parts(head, body)
        if isinstance(head, OF_CALLS):
            sent = self._streams.send(link, Purpose.CALLS, parts)
            if sent is not None:
                return sent
        return link.packer.send(parts)

    def send_behind_calls(self, node_id: str, head: Head) -> bool:
        """Says something that is to be read after all that was said about calls. False where that cannot be."""
        link = self._links.get(node_id)
        return link is not None and bool(self._streams.send(link, Purpose.CALLS, message_parts(head)))

    def send_to_each(self, node_ids: Iterable[str], head: Head, body: Sequence[Buffer] = ()) -> None:
        """The same to several, as far as there is a link."""
        parts = message_parts(head, body)
        for node_id in node_ids:
            link = self._links.get(node_id)
            if link is not None and link.wire is not None:
                link.packer.send(parts)

    def send_copy(self, node_id: str, head: Head, body: Sequence[Buffer] = ()) -> bool:
        """Says something to a peer on its stream for copies. False where there is none, or what it leaves unread is too
        much already."""
        link = self._links.get(node_id)
        return link is not None and bool(self._streams.send(link, Purpose.COPIES, message_parts(head, body)))

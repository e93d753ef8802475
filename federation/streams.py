"""Two streams with each peer that has a link: one for calls and their answers, one for copies, which delay no call.

Runs in the gateway's event loop, under links.py. Whoever was dialled for the link gives tickets for its streams on it,
and the other dials again: so a box whose firewall lets nobody in has streams too, and nobody gets one without a link.
They live no longer than it. What is about calls keeps its order where it comes to be said on the stream.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from itertools import count
from secrets import token_bytes

import msgspec

from appliance.core.addresses import Address
from appliance.core.requests import Buffer
from federation.dialled import DialledWire
from federation.frames import message_parts
from federation.listener import MAX_STRANGERS, STRANGER_S
from federation.messages import (
    Cancel,
    Chunk,
    Fetch,
    Have,
    Head,
    MeshFault,
    MeshInvoke,
    MeshReply,
    NoChunk,
    Probe,
    Probed,
    Streamed,
    Ticket,
)
from federation.peer_link import AnyWire, PeerLink
from federation.sealed_stream import SealedStream, StreamEvents, StreamTuning
from federation.sealing import SECRET_BYTES, TICKET_ID_BYTES, Opening, has_aes, keys_of, new_opening
from federation.stream_ends import AcceptedStream, Admission, DialledStream
from federation.stream_watch import StreamWatch
from federation.wires import LOW_DELAY, THROUGHPUT

_BACKLOG = 1024
_DIAL_S = 3.0
_GIVE_UP_S = 5.0
_AGAIN_S, _AGAIN_AT_MOST_S = 1.0, 30.0
_STEADY_S = 10.0  # a stream for calls that is lost sooner is not made anew at once, but for the first time
_MAX_STREAMED = 16
_COPY_BYTES = 16 * 1024 * 1024
_FIRST_PROBE = 2**61  # so that nobody else's has the number
_log = logging.getLogger("ingle.mesh")


class Purpose(IntEnum):
    """As it stands in a TICKET."""

    CALLS = 1
    COPIES = 2


OF_CALLS = (MeshInvoke, MeshReply, MeshFault, Cancel)
# PROBE: whoever says something asks whether it is heard; whoever ends, whether all was that came before.
_HEADS: Mapping[int, tuple[type[msgspec.Struct], ...]] = {
    Purpose.CALLS: (*OF_CALLS, Probe),
    Purpose.COPIES: (Fetch, Chunk, NoChunk, Have),
}


class StreamsEvents(msgspec.Struct, frozen=True):
    """What Streams tells, in the loop. `on_call(node_id, head, body, size_bytes)` and `on_copy(node_id, head, body)`:
    what came. `on_lost(link, reason)`: a stream for calls has ended, and with it whatever was on its way."""

    on_call: Callable[[str, Head, list[Buffer], int], None]
    on_copy: Callable[[str, Head, list[Buffer]], None]
    on_lost: Callable[[PeerLink, str], None]


class _Given(msgspec.Struct, frozen=True):
    """A ticket that a peer has of this node. `wire`: what it was said on; `since_s`: when, by the loop's time."""

    link: PeerLink
    wire: AnyWire
    purpose: int
    secret: bytes
    since_s: float = 0.0


class Streams:
    """`links` are those of links.py, by node id. `max_message_bytes` and `unsent_bytes` bound what is for calls."""

    def __init__(
        self,
        node_id: str,
        links: Mapping[str, PeerLink],
        events: StreamsEvents,
        *,
        max_message_bytes: int,
        unsent_bytes: int,
    ) -> None:
        self._node_id = node_id
        self._links = links
        self._events = events
        self._tunings: dict[int, StreamTuning] = {
            purpose: StreamTuning(
                purpose=purpose,
                max_message_bytes=largest,
                unsent_bytes=unsent,
                type_of_service=type_of_service,
                give_up_s=_GIVE_UP_S,
            )
            for purpose, largest, unsent, type_of_service in (
                (Purpose.CALLS, max_message_bytes, unsent_bytes, LOW_DELAY),
                (Purpose.COPIES, _COPY_BYTES, _COPY_BYTES, THROUGHPUT),
            )
        }
        self._loop = asyncio.get_running_loop()
        self._given: dict[bytes, _Given] = {}  # by ticket
        self._strangers: dict[AcceptedStream, asyncio.TimerHandle] = {}  # the oldest first
        self._held: dict[SealedStream, list[tuple[list[Buffer], int]]] = {}  # what came on it before its STREAMED
        self._watches: dict[SealedStream, StreamWatch] = {}  # of those for calls
        self._probes = count(_FIRST_PROBE)
        self._server: asyncio.Task[asyncio.Server] | None = None
        self._stream_events = StreamEvents(self._begun, self._read, self._ended)
        self._closed = False

    def open(self, address: Address) -> int:
        """Listens; the port. Raises OSError where the address cannot be had."""
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            listening = socket.create_server(address, family=family, dualstack_ipv6=address.host == "::")
        except OSError as error:
            raise OSError(error.errno, f"cannot listen for other nodes on {address}: {error.strerror}") from None
        listening.setblocking(False)
        serving = self._loop.create_server(self._stranger, sock=listening, backlog=_BACKLOG)  # it listens once more
        self._server = self._loop.create_task(serving)
        return int(listening.getsockname()[1])

    def close(self) -> None:
        """Lets nobody in any more, and dials no more."""
        self._closed = True
        for stranger in tuple(self._strangers):
            stranger.end("this node ends")
        if self._server is not None:
            self._server.add_done_callback(_close)

    # The end that was dialled.

    def give_tickets(self, link: PeerLink) -> None:
        """To a peer that dialled this node's link: for each stream that there is not, and that it has no ticket for."""
        for purpose in Purpose:
            self._give_ticket(link, purpose)

    def _give_ticket(self, link: PeerLink, purpose: int) -> None:
        if self._closed or link.wire is None or link.wire.dialled or link.streams.get(purpose):
            return
        if (rest_s := self._rest_s(link, purpose)) > 0:
            self._loop.call_later(rest_s, self._give_ticket, link, purpose)
            return
        for ticket_id, given in tuple(self._given.items()):
            if given.link is link and given.purpose == purpose:
                if given.wire is link.wire:
                    return
                del self._given[ticket_id]  # the peer may have lost that connection before it read this
        ticket = Ticket(token_bytes(TICKET_ID_BYTES), token_bytes(SECRET_BYTES), int(purpose), has_aes())
        if link.packer.send(message_parts(ticket)):
            self._given[ticket.ticket_id] = _Given(link, link.wire, purpose, ticket.secret, self._loop.time())
        else:
            self._loop.call_later(_AGAIN_S, self._give_ticket, link, purpose)

    def awaited_s(self, link: PeerLink) -> float:
        """For how long a peer has not opened the stream for copies that it has a ticket for; 0 where there is none.
        Of those for calls it may do without for a while, since they were lost before."""
        since_s = [
            given.since_s
            for given in self._given.values()
            if given.link is link and given.wire is link.wire and given.purpose == Purpose.COPIES
        ]
        return self._loop.time() - min(since_s) if since_s else 0.0

    def _stranger(self) -> AcceptedStream:
        while len(self._strangers) >= MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            self._known(oldest)
            oldest.end("others wait")
        stream = AcceptedStream(self._stream_events, self._admit, self._take)
        self._strangers[stream] = self._loop.call_later(STRANGER_S, stream.end, "it said nothing for long")
        return stream

    def _known(self, stream: SealedStream) -> None:
        """It is none of the strangers, or no more."""
        if isinstance(stream, AcceptedStream) and (timer := self._strangers.pop(stream, None)) is not None:
            timer.cancel()

    def _admit(self, opening: Opening) -> Admission | None:
        given = self._given.get(opening.ticket_id)
        if given is None:
            return None
        keys = keys_of(given.secret, opening, dialling_id=given.link.node_id, accepting_id=self._node_id)
        tuning = self._tunings[given.purpose]
        return Admission(given.link.node_id, tuning, out=keys.accepted, into=keys.dialled)

    def _take(self, ticket_id: bytes) -> bool:
        """It is good for one."""
        return self._given.pop(ticket_id, None) is not None

    # The end that dials.

    def ticket(self, link: PeerLink, wire: AnyWire, ticket: Ticket) -> None:
        """A peer gave one, on this connection of its link."""
        if self._closed or not isinstance(wire, DialledWire) or not 0 < link.bulk_port < 65536:
            return
        sizes = (len(ticket.ticket_id), len(ticket.secret))
        if ticket.purpose not in self._tunings or sizes != (TICKET_ID_BYTES, SECRET_BYTES):
            return
        if (before := link.stream_attempts.get(ticket.purpose)) is not None:
            before.cancel()
        address = Address(wire.address.host, link.bulk_port)
        link.stream_attempts[ticket.purpose] = self._loop.create_task(self._dial(link, address, ticket))

    async def _dial(self, link: PeerLink, address: Address, ticket: Ticket) -> None:
        """Until a stream has begun. Cancelled where nobody has a use for it any more."""
        await asyncio.sleep(self._rest_s(link, ticket.purpose))
        again_s = _AGAIN_S
        while why := await self._dial_once(link, address, ticket):
            link.complain(
                f"cannot be dialled for calls and copies at {address}, so calls take longer: {why}. Does a firewall "
                "there drop that port?"
            )
            await asyncio.sleep(again_s)
            again_s = min(2 * again_s, _AGAIN_AT_MOST_S)

    async def _dial_once(self, link: PeerLink, address: Address, ticket: Ticket) -> str:
        """Why it came to nothing; else empty."""
        opening = new_opening(ticket.ticket_id, both_have_aes=ticket.has_aes and has_aes())
        keys = keys_of(ticket.secret, opening, dialling_id=self._node_id, accepting_id=link.node_id)
        outcome: asyncio.Future[str] = self._loop.create_future()

        def begun(stream: SealedStream) -> None:
            self._begun(stream)
            if not outcome.done():
                outcome.set_result("")

        def ended(stream: SealedStream, reason: str) -> None:
            self._ended(stream, reason)
            if not outcome.done():
                outcome.set_result(reason)

        stream = DialledStream(
            self._tunings[ticket.purpose],
            StreamEvents(begun, self._read, ended),
            node_id=link.node_id,
            opening=opening,
            out=keys.dialled,
            into=keys.accepted,
        )
        try:
            async with asyncio.timeout(_DIAL_S):
                await self._loop.create_connection(lambda: stream, *address)
                return await outcome
        except TimeoutError:
            return "nothing answers there"
        except OSError as error:
            return error.strerror or str(error)
        finally:
            if not stream.begun:
                stream.end("it was given up")

    # Both.

    def _begun(self, stream: SealedStream) -> None:
        self._known(stream)
        link = self._links.get(stream.node_id)
        if link is None or link.wire is None:
            stream.end("there is no link")
        else:
            streams = link.streams.setdefault(stream.purpose, [])
            for before in streams:
                if before.dialled and stream.dialled:
                    before.end("the peer gave another ticket")  # it gives none while it has a stream
            streams.append(stream)
            if stream.purpose == Purpose.CALLS:
                link.calls_stream_since_s = self._loop.time()
                self._watches[stream] = StreamWatch(
                    stream, self._probes.__next__, lambda probe: link.packer.send(message_parts(probe))
                )
                if stream.ticket_id not in link.streamed:
                    self._held[stream] = []
                if not link.packer.send(message_parts(Streamed(stream.ticket_id))):
                    stream.end("the link takes nothing")

    def streamed(self, link: PeerLink, told: Streamed) -> None:
        """All is heard that the peer said on the link before it began to use a stream."""
        while len(link.streamed) >= _MAX_STREAMED:
            del link.streamed[next(iter(link.streamed))]
        link.streamed[told.ticket_id] = None
        for stream in link.streams.get(Purpose.CALLS, ()):
            if stream.ticket_id == told.ticket_id and (held := self._held.pop(stream, None)) is not None:
                for parts, size_bytes in held:
                    self._read(stream, parts, size_bytes)
                stream.wait(waits=False)

    def _read(self, stream: SealedStream, parts: list[Buffer], size_bytes: int) -> None:
        if (held := self._held.get(stream)) is not None:
            held.append((parts, size_bytes))
            stream.wait(waits=True)
            return
        link = self._links.get(stream.node_id)
        if link is None or stream not in link.streams.get(stream.purpose, ()):
            stream.end("it is not trusted any more")
            return
        message = link.read(parts)
        if message is None or not isinstance(message[0], _HEADS[stream.purpose]):
            return
        try:
            if stream.purpose == Purpose.CALLS:
                self._events.on_call(link.node_id, *message, size_bytes)
            else:
                self._events.on_copy(link.node_id, *message)
        except Exception:  # of one message; the others are of other calls
            _log.exception("a message was not dealt with")

    def _ended(self, stream: SealedStream, reason: str) -> None:
        self._known(stream)
        self._held.pop(stream, None)
        watch = self._watches.pop(stream, None)
        if watch is not None:
            watch.close()
        link = self._links.get(stream.node_id)
        streams = link.streams.get(stream.purpose, []) if link is not None else []
        if link is None or stream not in streams:
            return
        streams.remove(stream)
        if watch is not None:
            self._lost_calls(link, watch.heard_s if watch.is_lost else self._loop.time())
            self._events.on_lost(link, f"its stream for calls ended: {reason}")
        else:
            self._loop.call_later(_AGAIN_S, self._give_ticket, link, stream.purpose)

    def _lost_calls(self, link: PeerLink, good_until_s: float) -> None:
        """Where something on the way ends each, calls go on the link for longer and longer: it would end each time."""
        was_steady = good_until_s - link.calls_stream_since_s >= _STEADY_S
        link.calls_streams_lost = 0 if was_steady else link.calls_streams_lost + 1
        if link.calls_streams_lost > 1:
            rest_s = _AGAIN_S * 2 ** min(link.calls_streams_lost - 2, 5)
            link.calls_stream_from_s = self._loop.time() + min(rest_s, _AGAIN_AT_MOST_S)

    def _rest_s(self, link: PeerLink, purpose: int) -> float:
        """How long no such stream is to be made. Both ends heed it: of the two maybe one alone saw that it was lost,
        and the other that the link ended."""
        return max(0.0, link.calls_stream_from_s - self._loop.time()) if purpose == Purpose.CALLS else 0.0

    def end_all(self, link: PeerLink, reason: str) -> None:
        """The link has ended."""
        for attempt in link.stream_attempts.values():
            attempt.cancel()
        link.stream_attempts.clear()
        for ticket_id in [ticket_id for ticket_id, given in self._given.items() if given.link is link]:
            del self._given[ticket_id]
        streams = [stream for each in link.streams.values() for stream in each]
        link.streams.clear()
        link.streamed.clear()
        for stream in streams:
            stream.end(reason)

    def send(self, link: PeerLink, purpose: int, parts: Sequence[Buffer]) -> bool | None:
        """Sends a message: False where the peer leaves too much unread, None where there is no stream for it."""
        streams = link.streams.get(purpose)
        if not streams:
            return None
        stream = streams[0]
        if not stream.send(parts):
            return False
        if purpose == Purpose.CALLS:
            self._watches[stream].said()
        return True

    def probed(self, link: PeerLink, probed: Probed) -> None:
        """A peer answers, on its link, a question of whoever asked it."""
        for stream in link.streams.get(Purpose.CALLS, ()):
            self._watches[stream].answered(probed.number)


def _close(serving: "asyncio.Task[asyncio.Server]") -> None:
    if not serving.cancelled():
        serving.result().close()

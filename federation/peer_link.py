"""All connections with one peer: the one that is its link, those that an end has not let go yet, and its streams.

Runs in the gateway's event loop. Who may be here at all is links.py's.
"""

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable, Iterator, Sequence

from appliance.core.addresses import Address
from appliance.core.requests import Buffer
from federation.dialled import DialledWire
from federation.frames import BrokenMessageError, packed, read_message
from federation.link_choice import Candidate
from federation.listener import AcceptedWire
from federation.messages import Head, Introduction
from federation.packing import Packer
from federation.sealed_stream import SealedStream

MAX_ADDRESSES = 8  # of a node that are dialled
_COMPLAIN_EVERY_S = 60.0

_log = logging.getLogger("ingle.mesh")

AnyWire = DialledWire | AcceptedWire


class PeerLink:
    """`wire` is None while there is no link. `said`: connections whose HELLO was heard, by how each stands. `yielding`:
    those that another took over from, by the loop's time until which what was said on them may still be on its way.
    `packer`: takes what is said on the link. `introduction` is whoever's word on where the peer is; `bulk_port` the
    peer's own, said on the link. Made in the loop it is used in."""

    def __init__(self, node_id: str, public_key: bytes) -> None:
        self.node_id = node_id
        self.public_key = public_key
        self.introduction: Introduction | None = None
        self.bulk_port = 0
        self.wire: AnyWire | None = None
        self.said: dict[AnyWire, Candidate] = {}
        self.yielding: dict[AnyWire, float] = {}
        self.packer = Packer(lambda: self.wire)
        self.attempts: dict[Address, DialledWire] = {}
        self.streams: dict[int, list[SealedStream]] = {}  # that have begun, by purpose
        self.stream_attempts: dict[int, asyncio.Task[None]] = {}
        self.streamed: dict[bytes, None] = {}  # tickets of streams that STREAMED was said of
        self.name = ""  # what it is called, once it has said so
        self.calls_stream_since_s = self.calls_stream_from_s = 0.0  # it began, and may begin again, by the loop's time
        self.calls_streams_lost = 0  # one soon after another
        self.trouble = ""  # why the last attempt came to nothing
        self._complained_s = float("-inf")

    def read(self, parts: Sequence[Buffer]) -> tuple[Head, list[Buffer]] | None:
        """What the peer said; None where that is broken, or only later versions know it."""
        try:
            return read_message(parts)
        except BrokenMessageError as error:
            self.complain(f"sent what is no message of the mesh: {error}")
            return None

    def read_pack(self, body: Sequence[Buffer]) -> Iterator[tuple[Head, list[Buffer], int]]:
        """What the peer said in a PACK, with the size of each in bytes, as far as it can be read."""
        try:
            for frame in packed(body):
                message = self.read((frame,))
                if message is not None:
                    yield (*message, len(frame))
        except BrokenMessageError as error:
            self.complain(f"sent what is no message of the mesh: {error}")

    def complain(self, sentence: str) -> None:
        """What is wrong with the peer: logged now and then, however often it is."""
        self.trouble = sentence
        now_s = time.monotonic()
        if now_s - self._complained_s >= _COMPLAIN_EVERY_S:
            self._complained_s = now_s
            _log.warning("%s (%s) %s", self.name or "a node", self.node_id[:8], sentence)

    def wires(self) -> Iterator[AnyWire]:
        """Every connection for the link that is open or being tried. Streams end by themselves (streams.py)."""
        yield from tuple(self.said)
        yield from tuple(self.attempts.values())

    def give_up_attempts(self, reason: str, *, but: Callable[[DialledWire], bool] = lambda _: False) -> None:
        """Ends what is being tried, as far as it is not meant by `but`."""
        for attempt in tuple(self.attempts.values()):
            if not but(attempt):
                attempt.end(reason)


def dialable(introduction: Introduction) -> list[Address]:
    """Where a node says that it is, as far as that can be dialled: IP addresses of one host each, the first few."""
    addresses: list[Address] = []
    for text in introduction.addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if not (address.is_unspecified or address.is_multicast) and 0 < introduction.mesh_port < 65536:
            addresses.append(Address(text, introduction.mesh_port))
    return addresses[:MAX_ADDRESSES]

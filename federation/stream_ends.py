"""The two ends of a sealed stream: who says what first, and whom a ticket lets in.

Runs in the gateway's event loop. The dialling end says an opening (sealing.py) and an empty record, the other a banner
and, once that record has proved who dials, an empty record too: then the stream has begun, at both ends alike.
"""

import asyncio
from collections.abc import Callable

import msgspec

from appliance.core.requests import Buffer
from federation.record_buffer import SIZE
from federation.sealed_stream import SealedStream, StreamEvents, StreamTuning
from federation.sealing import BANNER, OPENING_BYTES, BrokenStreamError, Opening, Sealed, read_opening


class DialledStream(SealedStream):
    """The end that dials: give it to a connection to where the ticket's maker listens."""

    dialled = True

    def __init__(
        self, tuning: StreamTuning, events: StreamEvents, *, node_id: str, opening: Opening, out: Sealed, into: Sealed
    ) -> None:
        """`out` and `into`: how what this end says, and what it hears, is sealed."""
        super().__init__(tuning, events, preamble_bytes=len(BANNER))
        self.node_id, self.ticket_id = node_id, opening.ticket_id
        self._opening = opening
        self._out = out
        self._later_in = into

    def _say_preamble(self, transport: asyncio.Transport) -> None:
        assert self._out is not None
        self._tune(self._tuning)
        transport.write(self._opening.encoded() + _proof(self._out))

    def _hear_preamble(self, preamble: Buffer) -> None:
        if bytes(preamble) != BANNER:
            raise BrokenStreamError("what answers there is no node that this one can talk to")
        self._in = self._later_in

    def _hear_proof(self) -> None:
        self._begin()


class Admission(msgspec.Struct, frozen=True):
    """Whom a ticket lets in, for what, and how what this end says and hears is sealed."""

    node_id: str
    tuning: StreamTuning
    out: Sealed
    into: Sealed


class AcceptedStream(SealedStream):
    """The end that listens. Until it has begun it is a stranger's connection."""

    dialled = False

    def __init__(
        self, events: StreamEvents, admit: Callable[[Opening], Admission | None], take: Callable[[bytes], bool]
    ) -> None:
        """`admit` says what an opening's ticket means; None: there is no such ticket. `take` uses up the ticket with
        this id once its opening is proved; False: it is good no more."""
        super().__init__(None, events, preamble_bytes=OPENING_BYTES)
        self._admit = admit
        self._take = take

    def _say_preamble(self, transport: asyncio.Transport) -> None:
        transport.write(BANNER)

    def _hear_preamble(self, preamble: Buffer) -> None:
        opening = read_opening(preamble)
        admission = self._admit(opening)
        if admission is None:
            raise BrokenStreamError("it has no ticket")
        self._tune(admission.tuning)
        self.ticket_id = opening.ticket_id
        self.node_id, self._out, self._in = admission.node_id, admission.out, admission.into

    def _hear_proof(self) -> None:
        assert self._out is not None
        assert self._transport is not None
        if not self._take(self.ticket_id):  # its opening may have been repeated: two streams would have the same keys
            raise BrokenStreamError("its ticket is used")
        self._transport.write(_proof(self._out))
        self._begin()


def _proof(out: Sealed) -> bytes:
    """A record of nothing, first each way: only who knows the keys can make it."""
    sealed = out.seal(b"")
    return SIZE.pack(len(sealed)) + sealed

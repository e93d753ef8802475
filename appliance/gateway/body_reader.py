"""Reads the rest of a large body straight into its place. Runs in the gateway's event loop, for one body at a time.

An asyncio.Protocol is given what arrives as bytes objects, which are then copied into the body: for a picture of 600 KB
two copies more than are needed. So for as long as a large body comes, its connection's transport speaks to a
BodyReader, and to the connection again once it is whole.
"""

import asyncio
from typing import Protocol

# Below this the exchange costs more than the copies.
FROM_BYTES = 64 * 1024


class Owner(Protocol):
    """The protocol that the connection belongs to."""

    def body_read(self, size_bytes: int) -> None:
        """So many bytes more of the body have come."""

    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class BodyReader(asyncio.BufferedProtocol):
    """Fills `place` and no byte more; tells its owner of each piece, and passes on whatever else the transport says."""

    def __init__(self, owner: Owner, place: memoryview) -> None:
        self._owner = owner
        self._place = place
        self.connection_lost = owner.connection_lost  # type: ignore[method-assign]
        self.eof_received = owner.eof_received  # type: ignore[method-assign]
        self.pause_writing = owner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = owner.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._place

    def buffer_updated(self, nbytes: int) -> None:
        self._place = self._place[nbytes:]
        self._owner.body_read(nbytes)


def exchange(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
    """What arrives from now on goes to this protocol. uvloop asks for the way to read only when reading begins."""
    if transport.is_closing():
        return
    transport.pause_reading()
    transport.set_protocol(protocol)
    transport.resume_reading()

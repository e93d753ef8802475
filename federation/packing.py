"""What is said to one peer in one turn of the loop leaves as one message (PACK), and what is said alone at once.

Runs in the gateway's event loop. A message is sealed by itself, and wakes ZeroMQ's thread, the peer's and the peer's
loop: under load these cost more than the calls that are in it. Knows no heads; what is large leaves by itself, at once.
"""

import asyncio
from collections.abc import Callable, Sequence

from appliance.core.requests import Buffer
from federation.frames import MAX_PACK_BYTES, MAX_PACKED, pack_of
from federation.turns import AtTurnsEnd
from federation.wires import Wire

_MAX_WAITING_BYTES = 4 * 1024 * 1024
_AGAIN_S = 0.005
# So many leave before the turn ends: the peer runs the first while this node still reads the last. With all of a turn
# in one message the two nodes wait for each other by turns (benchmarks.mesh_peer, 32 callers: 2,450 calls a second;
# with 3, 6 and 12 in one: 3,000, 3,950 and 3,300).
_ENOUGH = 6


class Packer:
    """send() says something on the peer's link. `wire` gives the link's connection, None while there is none."""

    def __init__(self, wire: Callable[[], Wire | None]) -> None:
        self.packs = False  # whether the peer knows PACK
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Buffer] = []
        self._size_bytes = 0
        self._turn = AtTurnsEnd(self._leave)
        self._again: asyncio.Handle | None = None

    def send(self, parts: Sequence[Buffer]) -> bool:
        """As Wire.send(). What was taken and cannot leave is lost only with the link."""
        wire = self._wire()
        size_bytes = sum(map(len, parts))
        if wire is None or not wire.has_room(size_bytes):
            return False
        if len(parts) > 1 or size_bytes >= MAX_PACK_BYTES or not self.packs:
            self._leave()
            return not self._waiting and wire.send(parts)  # order is kept
        if self._size_bytes + size_bytes > MAX_PACK_BYTES:
            self._leave()
            if self._size_bytes + size_bytes > _MAX_WAITING_BYTES:
                return False
        self._waiting.append(parts[0])
        self._size_bytes += size_bytes
        if len(self._waiting) >= _ENOUGH and self._again is None:
            self._leave()
        self._turn.one_more()
        return True

    def clear(self) -> None:
        """The link has ended, and what has not left with it."""
        self._waiting.clear()
        self._size_bytes = 0
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _leave_again(self) -> None:
        self._again = None
        self._leave()

    def _leave(self) -> None:
        """Sends what waits, as far as the connection takes it."""
        wire = self._wire()
        while self._waiting and wire is not None:
            count, size_bytes = 0, 0
            for frame in self._waiting:
                if count == MAX_PACKED or (count and size_bytes + len(frame) > MAX_PACK_BYTES):
                    break
                count += 1
                size_bytes += len(frame)
            if not wire.send([self._waiting[0] if count == 1 else pack_of(self._waiting[:count])]):
                if self._again is None:
                    self._again = self._loop.call_later(_AGAIN_S, self._leave_again)
                return
            del self._waiting[:count]
            self._size_bytes -= size_bytes

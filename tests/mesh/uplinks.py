"""A host's own queue before a wire of limited rate: flows take turns, as under fq_codel, most distributions' default.

So a long transfer does not stand before a small call of the same host. Pure; used by the switching process.
Source: Shreedhar and Varghese, "Efficient fair queueing using deficit round robin"; RFC 8290 for new flows first.
"""

from collections import deque

# Of one flow. A sender that fills it sees loss and slows down.
FLOW_BYTES = 256 * 1024
_TURN_BYTES = 1514


class Uplink:
    """Frames of several flows that wait; which of them leaves next."""

    def __init__(self) -> None:
        self._frames: dict[bytes, deque[bytes]] = {}
        self._size_bytes: dict[bytes, int] = {}
        self._credit_bytes: dict[bytes, int] = {}
        self._turns: deque[bytes] = deque()

    def put(self, frame: bytes, flow: bytes) -> bool:
        """False where the flow has too many waiting: the frame is dropped."""
        if flow not in self._frames:
            self._frames[flow] = deque()
            self._size_bytes[flow] = 0
            self._credit_bytes[flow] = _TURN_BYTES
            self._turns.appendleft(flow)
        elif self._size_bytes[flow] + len(frame) > FLOW_BYTES:
            return False
        self._frames[flow].append(frame)
        self._size_bytes[flow] += len(frame)
        return True

    def take(self) -> bytes | None:
        """The next one, or None where none waits."""
        while self._turns:
            flow = self._turns[0]
            frames = self._frames[flow]
            if self._credit_bytes[flow] < len(frames[0]):
                self._credit_bytes[flow] += _TURN_BYTES
                self._turns.rotate(-1)
                continue
            frame = frames.popleft()
            self._credit_bytes[flow] -= len(frame)
            self._size_bytes[flow] -= len(frame)
            if not frames:
                self._turns.popleft()
                del self._frames[flow], self._size_bytes[flow], self._credit_bytes[flow]
            return frame
        return None


def flow_of(packet: bytes) -> bytes:
    """What tells an Ethernet frame's flow from others: protocol, addresses and ports; empty for what is not IP."""
    kind = packet[12:14]
    if kind == b"\x08\x00":
        ports_at = 14 + (packet[14] & 15) * 4
        return packet[23:24] + packet[26:34] + packet[ports_at : ports_at + 4]
    if kind == b"\x86\xdd":
        return packet[20:21] + packet[22:58]
    return b""

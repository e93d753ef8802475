"""How many bytes one peer may owe at once, so that a transfer leaves the wire to small calls. Pure.

What is asked of a peer beyond what the way to it holds waits in a queue that everyone shares. So a window grows while
what is asked comes as quickly as it ever did, and shrinks by how much longer it takes: LEDBAT (RFC 6817), seen from
the receiver, with a slow start. A slow peer has a small window and owes little when it is lost.
"""

from collections import deque

MIN_BLOCK_BYTES = 16 * 2**10  # asked for at once: 1.3 ms of a wire of 100 Mbit/s
MAX_BLOCK_BYTES = 256 * 2**10
# Where it is processors that are short and not the wire, blocks of this at least: four times as many cost them two
# thirds more, and have small calls wait for them.
MIN_BLOCK_OF_BUSY_BYTES = 64 * 2**10
BUSY_SHARE = 0.6  # larger blocks make them less busy, which must not make blocks small again
TARGET_S = 0.005  # of queueing
MAX_WINDOW_BYTES = 8 * 2**20
BASE_S = 5.0  # how long the quickest arrival is remembered, and once more as long
FILTER = 4  # the quickest of so many counts (RFC 6817 calls it CURRENT_FILTER)
_EWMA = 0.2


def least_block_bytes(busy_share: float) -> int:
    """How much to ask for at once, at least, where this share of the box's processors is busy."""
    return MIN_BLOCK_OF_BUSY_BYTES if busy_share >= BUSY_SHARE else MIN_BLOCK_BYTES


class Window:
    """`size_bytes` is what may be in flight, `bytes_per_s` what came lately (0: nothing yet)."""

    def __init__(self) -> None:
        self.size_bytes = 4 * MIN_BLOCK_BYTES
        self.bytes_per_s = 0.0
        self.block_s = 0.0  # how long a block takes, from its being asked for
        self._slow_start = True
        self._lately_s: deque[float] = deque(maxlen=FILTER)
        self._base_s = self._earlier_base_s = float("inf")
        self._base_since_s = 0.0

    def block_bytes(self, least_bytes: int = MIN_BLOCK_BYTES) -> int:
        """How much is asked for at once: half of the window, and a power of two: each costs the same work."""
        return min(max(1 << (self.size_bytes // 2).bit_length() - 1, least_bytes), MAX_BLOCK_BYTES)

    def arrived(self, now_s: float, elapsed_s: float, size_bytes: int, in_flight_bytes: int) -> None:
        """A block came `elapsed_s` after it was asked for, when `in_flight_bytes` were, itself among them."""
        if now_s - self._base_since_s > BASE_S:
            self._earlier_base_s, self._base_s, self._base_since_s = self._base_s, float("inf"), now_s
        self._base_s = min(self._base_s, elapsed_s)
        # A queue delays every block, a busy processor one or the other.
        self._lately_s.append(elapsed_s)
        queued_s = min(self._lately_s) - min(self._base_s, self._earlier_base_s)
        # By Little's law, what is in flight is the rate times how long it is.
        rate = in_flight_bytes / max(elapsed_s, 1e-6)
        self.bytes_per_s = _towards(self.bytes_per_s, rate)
        self.block_s = _towards(self.block_s, elapsed_s)
        if self._slow_start and elapsed_s - min(self._base_s, self._earlier_base_s) > TARGET_S:
            self._slow_start = False
            self.size_bytes //= 2  # what was asked for since is on its way already
        share = 1.0 if self._slow_start else max(-1.0, 1.0 - queued_s / TARGET_S) * size_bytes / self.size_bytes
        grown = self.size_bytes + share * size_bytes
        self.size_bytes = int(min(max(grown, MIN_BLOCK_BYTES), MAX_WINDOW_BYTES))

    def stalled(self) -> None:
        """Nothing came for long: as little as can be is asked for until something does."""
        self.size_bytes = MIN_BLOCK_BYTES
        self._slow_start = False


def _towards(value: float, sample: float) -> float:
    return sample if not value else value + _EWMA * (sample - value)

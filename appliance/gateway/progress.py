"""Whether a connection that is in the middle of a request or of an answer still moves. Pure.

Looked at every few seconds, it is what ends a request that comes byte by byte, and an answer that nobody reads.
"""

from typing import NamedTuple

LOOK_S = 7.5
LEAST_BYTES_PER_S = 1024
PATIENCE_LOOKS = 4


class Progress(NamedTuple):
    """What was seen at the last look; `slow_looks`: at how many in a row too little had moved."""

    read_bytes: int = 0
    unwritten_bytes: int = 0
    slow_looks: int = 0

    @property
    def stuck(self) -> bool:
        return self.slow_looks >= PATIENCE_LOOKS


def looked(before: Progress, *, read_bytes: int, unwritten_bytes: int, receiving: bool) -> Progress:
    """What is seen now: `read_bytes` since the connection was made, `unwritten_bytes` of answers that its peer has not
    taken, `receiving`: a request has begun and is not complete."""
    moved_bytes = read_bytes - before.read_bytes + max(0, before.unwritten_bytes - unwritten_bytes)
    slow = (receiving or unwritten_bytes > 0) and moved_bytes < LEAST_BYTES_PER_S * LOOK_S
    return Progress(read_bytes, unwritten_bytes, before.slow_looks + 1 if slow else 0)

"""What a link does to frames: when one arrives at the other end, or that it never does. Pure: a time in, a time out.

Used by the switching process, one Link for each pair of ports and direction, one Wire for each port and direction.
"""

import random
from dataclasses import dataclass

# A cheap switch has about so much for a port; at 100 Mbit/s it holds 10 ms.
QUEUE_BYTES = 128 * 1024


@dataclass(frozen=True)
class Conditions:
    """Of one link in one direction. `loss` is a share of the frames, 0 to 1; a rate of 0 is no bound."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    rate_bytes_per_s: float = 0.0
    down: bool = False


class Wire:
    """Carries one frame after the other at its rate; drops those for which its queue has no room."""

    def __init__(self, rate_bytes_per_s: float = 0.0, queue_bytes: int = QUEUE_BYTES) -> None:
        self.rate_bytes_per_s = rate_bytes_per_s
        self._queue_bytes = queue_bytes
        self._free_s = 0.0

    def through_s(self, at_s: float, size_bytes: int) -> float | None:
        """When the last byte of a frame is through that comes at `at_s`; None where it is dropped."""
        if not self.rate_bytes_per_s:
            return at_s
        waits_s = max(0.0, self._free_s - at_s)
        if waits_s * self.rate_bytes_per_s > self._queue_bytes:
            return None
        self._free_s = at_s + waits_s + size_bytes / self.rate_bytes_per_s
        return self._free_s


class Link:
    """One direction between two ports. Frames keep their order; which of them are lost follows from the seed alone."""

    def __init__(self, seed: str) -> None:
        self.conditions = Conditions()
        self.frames = self.size_bytes = self.dropped = 0
        self._random = random.Random(seed)
        self._wire = Wire()
        self._last_s = 0.0

    def change(self, conditions: Conditions) -> None:
        """From now on. What is on its way arrives."""
        self.conditions = conditions
        self._wire.rate_bytes_per_s = conditions.rate_bytes_per_s

    def arrives_s(self, at_s: float, size_bytes: int) -> float | None:
        """When a frame sent at `at_s` is at the other end; None where it is lost."""
        conditions = self.conditions
        if conditions.down or (conditions.loss and self._random.random() < conditions.loss):
            self.dropped += 1
            return None
        through_s = self._wire.through_s(at_s, size_bytes)
        if through_s is None:
            self.dropped += 1
            return None
        self.frames += 1
        self.size_bytes += size_bytes
        if conditions.jitter_s:
            through_s += conditions.jitter_s * self._random.random()
        self._last_s = max(self._last_s, through_s + conditions.delay_s)
        return self._last_s

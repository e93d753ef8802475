"""When to look at which model again: for what is asleep, so that nobody walks through all that is. Pure."""

import heapq
import math
from collections.abc import Hashable, Iterator


class Agenda:
    """A heap of times, one valid for each key."""

    def __init__(self) -> None:
        self._at_s: dict[Hashable, float] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._pushed = 0  # tells entries of one time apart, since keys need not have an order

    def __len__(self) -> int:
        return len(self._at_s)

    def put(self, key: Hashable, at_s: float) -> None:
        """Replaces the key's time; an infinite one removes it."""
        self.drop(key)
        if at_s < math.inf:
            self._at_s[key] = at_s
            self._pushed += 1
            heapq.heappush(self._heap, (at_s, self._pushed, key))

    def drop(self, key: Hashable) -> None:
        """Its entry stays in the heap, void, until its time."""
        self._at_s.pop(key, None)

    def due(self, now_s: float, *, most: int) -> Iterator[Hashable]:
        """The keys whose time has come, earliest first, each of them removed; void entries count among the `most`."""
        for _ in range(most):
            if not self._heap or self._heap[0][0] > now_s:
                return
            at_s, _, key = heapq.heappop(self._heap)
            if self._at_s.get(key) == at_s:
                del self._at_s[key]
                yield key

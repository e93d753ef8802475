"""How long one model lies idle between calls, and what that says about its next call. Pure; runs in the gateway.

After "Serverless in the Wild" (Shahrad et al., 2020), with buckets that grow by a constant ratio, so that a few dozen
tell seconds from days. Knows neither memory nor the cost of a start: keep_warm.py weighs those.
"""

import math
from array import array

SHORTEST_S = 1.0  # calls closer than this are one busy time, not two
LONGEST_S = 2 * 86400.0
BUCKETS = 48
REMEMBERED = 512  # idle times, after which all counts are halved: what was long ago fades
_PER_LOG = (BUCKETS - 1) / math.log(LONGEST_S / SHORTEST_S)
# The last bucket holds all longer idle times; twice LONGEST_S stands for its end.
EDGES_S = (0.0, *(SHORTEST_S * math.exp(i / _PER_LOG) for i in range(1, BUCKETS)), 2 * LONGEST_S)


def bucket_of(idle_s: float) -> int:
    """The bucket that an idle time falls into."""
    return min(BUCKETS - 1, int(math.log(idle_s / SHORTEST_S) * _PER_LOG)) if idle_s > SHORTEST_S else 0


def next_edge_s(idle_s: float) -> float:
    """The idle time at which the outlook is worth another look: the end of this bucket; infinite past the last."""
    bucket = bucket_of(idle_s)
    return EDGES_S[bucket + 1] if bucket < BUCKETS - 1 else math.inf


class IdleHistogram:
    """Counts of idle times by bucket: about 200 bytes a model."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self.total = 0
        self._counts = array("H", bytes(2 * BUCKETS))

    def add(self, idle_s: float) -> None:
        """An idle time ended with a call. Halving rounds up: a rare long one is what the tail is known by."""
        if self.total >= REMEMBERED:
            self._counts = array("H", ((count + 1) >> 1 for count in self._counts))
            self.total = sum(self._counts)
        self._counts[bucket_of(idle_s)] += 1
        self.total += 1

    def chance(self, idle_s: float, within_s: float) -> float:
        """The probability that the next call comes within so many seconds, for a model idle for `idle_s`.

        One idle time that never ends is counted in, so that few observations promise little.
        """
        first = bucket_of(idle_s)
        until = bucket_of(idle_s + within_s)
        left = sum(self._counts[first:])
        return sum(self._counts[first : until + 1]) / (left + 1)

    def call_rate(self, idle_s: float) -> float:
        """Calls a second to expect of a model idle for `idle_s`, over the time ahead for which that is highest.

        It is the Gittins index of keeping the model warm: the highest ratio, over all times to wait, of the
        probability of a call within that time to the time one expects to wait for it. For calls at random it is their
        rate; for calls once an hour it is low after a call and rises towards the next; after a burst it falls. The
        highest of many ratios is too high by chance, so each is taken a standard deviation of its count lower.
        """
        first = bucket_of(idle_s)
        ahead = self._counts[first:]
        left = sum(ahead) + 1
        from_s = EDGES_S[first]
        called = 0
        waited_s = best = 0.0
        for bucket, count in enumerate(ahead, first):
            if count:
                until_s = EDGES_S[bucket + 1]
                waited_s += left * (until_s - from_s) - count * (until_s - EDGES_S[bucket]) / 2
                from_s = until_s
                left -= count
                called += count
                ratio = (called - math.sqrt(called)) / waited_s
                if ratio > best:
                    best = ratio
        return best

"""What a call is expected to cost at one node, in seconds until its answer is here. Pure; runs in the gateway.

    rtt + bytes / bandwidth + (published backlog + own unacknowledged work + run time) * correction [+ cold start]

This node is priced like any other: its round trip is 0, and its backlog is what it is, not what was published.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

# What is assumed until it was measured: a LAN of a Gbit; a model such as there are many.
ASSUMED_RTT_S = 0.001
ASSUMED_BYTES_PER_S = 1e8
ASSUMED_RUN_S = 0.01
ASSUMED_COLD_START_S = 0.5

# In the order in which they are asked. broken: its calls failed lately (breaker.py). draining: it will refuse.
Standing = Literal["alive", "suspect", "broken", "draining"]


class Candidate(NamedTuple):
    """One node that could answer the call, as it is seen now."""

    node_id: str
    name: str
    rtt_s: float  # 0 for this node
    bytes_per_s: float  # to and from it; 0 for this node, to which nothing is transferred
    backlog_s: float  # as it told last: how long a call that came then would have waited for its run
    own_s: float  # what was sent there from here and is not in that backlog yet
    run_s: float
    cold_start_s: float = 0.0  # what is left of it; 0 where it is warm
    correction: float = 1.0
    loading: bool = False  # cold, but a load is under way
    standing: Standing = "alive"


class Terms(NamedTuple):
    """A candidate's price: each term in seconds, and `total_s`, by which candidates are compared."""

    node_id: str
    name: str
    rtt_s: float
    transfer_s: float
    backlog_s: float
    own_s: float
    run_s: float
    correction: float
    cold_start_s: float
    total_s: float
    loading: bool
    standing: Standing

    @property
    def uncorrected_s(self) -> float:
        """What the correction is applied to, and learned from."""
        return self.backlog_s + self.own_s + self.run_s

    @property
    def would_load(self) -> bool:
        """Whether asking it begins a load."""
        return self.cold_start_s > 0 and not self.loading

    @property
    def network_s(self) -> float:
        return self.rtt_s + self.transfer_s

    def explained(self) -> dict[str, float | str]:
        """For X-Ingle-Route and `ingle why`. Seconds, to the microsecond; terms that are nothing are left out."""
        shown: dict[str, float | str] = {"node": self.name, "total_s": round(self.total_s, 6)}
        for term in ("rtt_s", "transfer_s", "backlog_s", "own_s", "run_s", "cold_start_s"):
            if seconds := round(getattr(self, term), 6):
                shown[term] = seconds
        if (correction := round(self.correction, 3)) != 1.0:
            shown["correction"] = correction
        if self.standing != "alive":
            shown["standing"] = self.standing
        return shown


def price(candidate: Candidate, size_bytes: int) -> Terms:
    """`size_bytes`: what goes over the wire, the call's tensors and, as far as it is known, the answer's."""
    (node_id, name, rtt_s, bytes_per_s, backlog_s, own_s, run_s, cold_start_s, correction, loading, standing) = (
        candidate
    )
    transfer_s = size_bytes / bytes_per_s if bytes_per_s else 0.0
    total_s = rtt_s + transfer_s + (backlog_s + own_s + run_s) * correction + cold_start_s
    return Terms(
        node_id,
        name,
        rtt_s,
        transfer_s,
        backlog_s,
        own_s,
        run_s,
        correction,
        cold_start_s,
        total_s,
        loading,
        standing,
    )


def run_time_s(run_s: Mapping[int, float], rows: int) -> float:
    """Seconds of one run of so many rows, from those of runs by rows, which are powers of two; 0 where none is known.

    Between measured sizes the next larger one counts; past the largest, time grows with the rows; below the smallest
    it is that one's.
    """
    if not run_s:
        return 0.0
    size = 1 << (max(1, rows) - 1).bit_length()
    if (known_s := run_s.get(size)) is not None:
        return known_s
    larger = [other for other in run_s if other > size]
    if larger:
        return run_s[min(larger)]
    largest = max(run_s)
    return run_s[largest] * size / largest

"""What a call is expected to cost at one node, in seconds until its answer is here. Pure; runs in the gateway.

    rtt + bytes / bandwidth + (published backlog + own unacknowledged work + run time) * correction [+ cold start]

This node is priced like any other: its round trip is 0, and its backlog is what it is, not what was published.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

# What is assumed until it was measured: a LAN of a Gbit; a model such as there are many.
ASSUMED_RTT_S = 0.001
ASSUMED_BYTES_PER_S = 1e8
ASSUMED_RUN_S = 0.01
ASSUMED_COLD_START_S = 0.5

# In the order in which they are asked. broken: its calls failed lately (breaker.py). draining: it will refuse.
Standing = Literal["alive", "suspect", "broken", "draining"]


class Candidate(msgspec.Struct, frozen=True, gc=False):
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


class Terms(msgspec.Struct, frozen=True, gc=False):
    """A candidate's price: what each term of it is, and `total_s`, by which candidates are compared. `would_load`: to
    ask it is to begin a load."""

    candidate: Candidate
    transfer_s: float
    total_s: float
    would_load: bool

    @property
    def uncorrected_s(self) -> float:
        """What the correction is applied to, and learned from."""
        return self.candidate.backlog_s + self.candidate.own_s + self.candidate.run_s

    @property
    def network_s(self) -> float:
        return self.candidate.rtt_s + self.transfer_s

    def explained(self) -> dict[str, float | str]:
        """For X-Ingle-Route and `ingle why`. Seconds, to the microsecond; terms that are nothing are left out."""
        of = self.candidate
        terms = {
            "rtt_s": of.rtt_s,
            "transfer_s": self.transfer_s,
            "backlog_s": of.backlog_s,
            "own_s": of.own_s,
            "run_s": of.run_s,
            "cold_start_s": of.cold_start_s,
        }
        shown: dict[str, float | str] = {"node": of.name, "total_s": round(self.total_s, 6)}
        shown |= {term: round(seconds, 6) for term, seconds in terms.items() if round(seconds, 6)}
        if of.correction != 1.0:
            shown["correction"] = round(of.correction, 3)
        if of.standing != "alive":
            shown["standing"] = of.standing
        return shown


def price(of: Candidate, size_bytes: int) -> Terms:
    """`size_bytes`: what goes over the wire, the call's tensors and, as far as it is known, the answer's."""
    transfer_s = size_bytes / of.bytes_per_s if of.bytes_per_s else 0.0
    run_s = (of.backlog_s + of.own_s + of.run_s) * of.correction
    total_s = of.rtt_s + transfer_s + run_s + of.cold_start_s
    return Terms(of, transfer_s, total_s, of.cold_start_s > 0 and not of.loading)


def run_time_s(run_s: Mapping[int, float], rows: int) -> float:
    """Seconds of one run of so many rows, from those of runs by rows, which are powers of two; 0 where none is known.

    Between measured sizes the next larger one counts; past the largest, time grows with the rows; below the smallest
    it is that one's.
    """
    if not run_s:
        return 0.0
    size = 1 << (rows - 1).bit_length() if rows > 1 else 1
    if (known_s := run_s.get(size)) is not None:
        return known_s
    larger = [other for other in run_s if other > size]
    if larger:
        return run_s[min(larger)]
    largest = max(run_s)
    return run_s[largest] * size / largest

"""What an all-knowing router would have done with the same arrivals. Pure: no clock, no network.

It sends each call, as it comes, to the node that will answer it first, knowing every node's queue to the microsecond at
the moment of the arrival; a node runs one call at a time, in the order of their coming.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """A node as the oracle knows it: seconds that a call is on its way there, runs, and is on its way back."""

    there_s: float
    run_s: float
    back_s: float


def oracle(arrivals_s: Sequence[float], sites: Sequence[Site]) -> list[float]:
    """How long each call takes from its arrival, in order."""
    free_s = [0.0] * len(sites)
    took_s = []
    for arrival_s in arrivals_s:
        ends_s = [max(arrival_s + site.there_s, free) + site.run_s for site, free in zip(sites, free_s, strict=True)]
        best = min(range(len(sites)), key=lambda index: ends_s[index] + sites[index].back_s)
        free_s[best] = ends_s[best]
        took_s.append(ends_s[best] + sites[best].back_s - arrival_s)
    return took_s

"""Which nodes should have a copy of a version on their disks, where its owner wishes for N copies. Pure.

Each node reckons for itself, from the same facts to the same end, and fetches where it finds itself named: nobody
gives orders, and nobody is asked. Where nodes see different facts for a while, there are more copies for a while, never
fewer. Times are seconds of one monotonic clock.
"""

import hashlib
from collections.abc import Collection
from typing import NamedTuple

# A node that starts again is back sooner, and its copy with it.
GRACE_S = 10.0


class Copies(NamedTuple):
    """`to_fetch`: who should get a copy; `may_drop`: whose copy is one too many. By preference."""

    to_fetch: tuple[str, ...]
    may_drop: tuple[str, ...]


def copies_wanted(key: str, wished: int, *, holders: Collection[str], able: Collection[str]) -> Copies:
    """`holders`: node ids whose copies count. `able`: those that are alive and may have one (`--on`, room on the disk),
    holders among them. By rendezvous hashing (Thaler and Ravishankar 1998): a node that comes or goes moves only what
    it had."""
    holding = set(holders)
    lacking = max(0, wished - len(holding))
    new = sorted(set(able) - holding, key=lambda node_id: _weight(key, node_id), reverse=True)[:lacking]
    # Only copies on nodes that surely live are counted on when others are dropped.
    living = holding & set(able)
    spare = max(0, len(living) - max(1, wished))
    dropping = sorted(living, key=lambda node_id: _weight(key, node_id))[:spare]
    return Copies(tuple(new), tuple(dropping))


def _weight(key: str, node_id: str) -> bytes:
    return hashlib.blake2b(f"{key}\n{node_id}".encode(), digest_size=8).digest()

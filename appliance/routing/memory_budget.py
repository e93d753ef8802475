"""What of the memory budget is used, what of it will stay used, and so whether there is room for one more worker.

Runs in the gateway's event loop, over the supervisor's pools. Says how much is missing, never who gives way for it.
"""

from collections.abc import Callable
from typing import NamedTuple

import psutil

from appliance.workers.pool import Pool
from appliance.workers.supervisor import Supervisor

# Of the box's memory, what warm models may use where the owner does not say, and what is always left to others.
BUDGET_SHARE = 0.7
_RESERVE_SHARE = 0.05


class Room(NamedTuple):
    """Whether one more worker has room: it has where `missing_bytes` is 0. `never`: not while what owners wished is as
    it is. `held`: not for the time being, whoever gives way."""

    missing_bytes: int = 0
    never: bool = False
    held: bool = False


class MemoryBudget:
    """room_for() a worker of a pool. `floor_of(pool)` says how many of its workers must stay, by its owner's word."""

    def __init__(self, supervisor: Supervisor, budget_bytes: int, floor_of: Callable[[Pool], int]) -> None:
        self._supervisor = supervisor
        self._wished_bytes = budget_bytes
        self._floor_of = floor_of
        self._box_bytes = psutil.virtual_memory().total
        self.bytes = budget_bytes

    def look_at_box(self) -> None:
        """The box comes before the budget: it is cut to what the box really has left, less a reserve."""
        left_bytes = int(psutil.virtual_memory().available - self._box_bytes * _RESERVE_SHARE)
        self.bytes = min(self._wished_bytes, max(0, self._supervisor.used_bytes + left_bytes))

    def room_for(self, pool: Pool, now_s: float) -> Room:
        need_bytes, used_bytes = pool.measures.memory_bytes, self._supervisor.used_bytes
        if used_bytes + need_bytes <= self.bytes:
            return Room()
        pinned_bytes = self._staying_bytes(pool, self._floor_of)
        left_bytes = self._wished_bytes - pinned_bytes
        if left_bytes <= 0 or (need_bytes > left_bytes and pool.measures.measured):
            return Room(need_bytes, never=True)
        if used_bytes <= pinned_bytes:
            return (
                Room()
            )  # a guess may be too high, or the box short of memory: where nobody could give way it is tried
        need_bytes = min(need_bytes, max(0, self.bytes - pinned_bytes))
        staying_bytes = self._staying_bytes(pool, lambda other: self._staying(other, now_s))
        held = staying_bytes > pinned_bytes and need_bytes > self.bytes - staying_bytes
        return Room(max(1, used_bytes + need_bytes - self.bytes), held=held)

    def why_never(self, pool: Pool) -> str:
        """What to do about it, as a sentence."""
        pinned_bytes = self._staying_bytes(pool, self._floor_of)
        beside = f" beside the {pinned_bytes / 2**20:.0f} MiB of others that are to stay warm" if pinned_bytes else ""
        less = " or keep fewer replicas warm (min_replicas)" if pinned_bytes else ""
        return (
            f"{pool.model} needs about {pool.measures.memory_bytes / 2**20:.0f} MiB{beside}, more than all the "
            f"{self._wished_bytes / 2**20:.0f} MiB that models may use here: raise --memory-budget{less}"
        )

    def leaving_bytes(self) -> int:
        """What comes free soon. A worker that stays for its sequences' sake may do so for long."""
        return sum(
            replica.memory_bytes
            for pool in self._supervisor.active_pools()
            for replica in pool.replicas
            if replica.state == "retiring" and not replica.sequences
        )

    def _staying(self, pool: Pool, now_s: float) -> int:
        """How many of its workers nobody's need may end now: pins, leases and sequences see to that."""
        keeping = sum(bool(replica.sequences) for replica in pool.replicas)
        return max(self._floor_of(pool), keeping, 1 if now_s < pool.leased_until_s else 0)

    def _staying_bytes(self, besides: Pool, count: Callable[[Pool], int]) -> int:
        """What other models' workers take of which `count` must stay."""
        return sum(
            min(count(pool), len(pool.replicas)) * max(replica.memory_bytes for replica in pool.replicas)
            for pool in self._supervisor.active_pools()
            if pool is not besides and pool.replicas
        )

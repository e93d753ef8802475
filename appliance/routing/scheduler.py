"""Performs what the policies decide: starts workers where there is memory for them, ends what is worth least, scales.

Runs in the gateway's event loop, over the supervisor's pools. It decides nothing itself but the order in which those
that wait for memory get it: as they came, then what nobody waits for. keep_warm.py says whose memory that is,
demands.py how many replicas there should be.
"""

import math
import time
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

from appliance.core.models import ModelVersion
from appliance.core.scale import Scale
from appliance.routing.demands import Demands
from appliance.routing.keep_warm import Candidate, KeepWarm
from appliance.routing.memory_budget import MemoryBudget
from appliance.routing.settings import RoutingSettings
from appliance.workers.pool import Pool
from appliance.workers.supervisor import Supervisor

# A model that computes all the time is ended for another that waits only after it has had so much time, or so many of
# its cold starts: less would spend the box on loading.
_LEAST_TURN_S = 0.25
_TURN_STARTS = 4.0
_AHEAD_S = 5.0  # a start ahead that found no room by then is given up
_SLOW_TICK_S = 1.0


class Counts(NamedTuple):
    """What the scheduler has done since the node started, and what it reckons with. Bytes and numbers of workers."""

    budget_bytes: int
    used_bytes: int
    started: int
    started_ahead: int
    evicted: int  # ended to make room for another
    ended_idle: int
    waiting_for_memory: int


class _Need(NamedTuple):
    since_s: float
    ahead: bool  # no call waits yet


class Scheduler:
    def __init__(
        self,
        supervisor: Supervisor,
        settings: RoutingSettings,
        *,
        budget_bytes: int,
        cores: int,
        idle_s: float = 0.0,
        scale_of: Callable[[ModelVersion], Scale],
        pinned: Callable[[], Iterable[ModelVersion]],
    ) -> None:
        """`idle_s`: a worker without calls for so long is ended whatever it is worth; 0: its worth decides.

        `scale_of` tells what is wished of a version, `pinned` which versions are never to be without a worker.
        """
        self._supervisor = supervisor
        self._budget = MemoryBudget(supervisor, budget_bytes, self._floor)
        self._idle_s = idle_s
        self._scale_of = scale_of
        self._pinned = pinned
        self._keep = KeepWarm()
        self._needy: dict[Pool, _Need] = {}
        self._demands = Demands(settings, cores=cores, scale_of=scale_of)
        self._slow_tick_s = 0.0
        self._started = self._started_ahead = self._evicted = self._ended_idle = 0
        supervisor.scheduling = self

    def counts(self) -> Counts:
        return Counts(
            self._budget.bytes,
            self._supervisor.used_bytes,
            self._started,
            self._started_ahead,
            self._evicted,
            self._ended_idle,
            sum(not need.ahead for need in self._needy.values()),
        )

    def arrivals_per_s(self, pool: Pool) -> float:
        return self._demands.arrivals_per_s(pool)

    def worth(self, pool: Pool) -> float:
        """Seconds of cold start that its worker is expected to save, for each gigabyte and hour that it stays."""
        now_s = time.monotonic()
        return self._keep.worth(pool.model.key, pool.measures.memory_bytes, now_s) * 1e9 * 3600

    def superseded(self, model: ModelVersion) -> None:
        """The version is gone, or another has taken its place: that it was called says nothing of what is to come."""
        self._keep.forget(model.key)

    # Who needs a worker.

    def need(self, pool: Pool) -> None:
        """Work waits in this pool, or somebody asked for it to be warm, or it lost its worker."""
        known = self._needy.get(pool)
        if known is not None and not known.ahead:
            return  # it is in line
        now_s = time.monotonic()
        self._note_calls(pool, now_s)
        self._learn(pool)
        self._needy.pop(pool, None)
        self._needy[pool] = _Need(now_s, ahead=not pool.wanted)
        self._serve(now_s)

    def freed(self) -> None:
        """A worker has ended, or workers can be started again."""
        if self._needy:
            self._serve(time.monotonic())

    def _serve(self, now_s: float) -> None:
        """Starts workers for those in need, in the order in which they came, until one has to wait; then, if none
        does, those that are to start ahead of their calls. Who could have no room whoever gave way is passed over."""
        if not self._supervisor.can_start:
            return
        for pool, need in sorted(self._needy.items(), key=lambda item: item[1].ahead):
            if self._needy.get(pool) is not need:
                continue  # served in the meantime: some workers' end is told while others are looked at
            over = pool.resting if need.ahead else not pool.wanted
            if over or not pool.may_add(now_s) or pool.replicas_that_are("starting", "ready"):
                del self._needy[pool]
                continue
            room = self._budget.room_for(pool, now_s)
            if room.never:
                del self._needy[pool]
                pool.refuse(self._budget.why_never(pool))
            elif room.held:
                pool.waits_because = "it waits for memory that others have which were loaded by name or keep sequences"
            elif room.missing_bytes:
                self._make_room(pool, room.missing_bytes, now_s)
                return
            else:
                del self._needy[pool]
                self._started += 1
                self._started_ahead += need.ahead
                pool.add_replica()

    def _make_room(self, pool: Pool, missing_bytes: int, now_s: float, *, worth_below: float = math.inf) -> None:
        """Ends idle workers for one more of this pool, as far as they are worth less than `worth_below`."""
        missing_bytes -= self._budget.leaving_bytes()
        if missing_bytes <= 0:
            return
        ended = self._keep.make_room(
            self._candidates(now_s), missing_bytes, now_s, for_key=pool.model.key, worth_below=worth_below
        )
        if ended is None:
            pool.waits_because = "it waits for memory: all that is warm has calls to answer"
        else:
            self._evicted += self._end(ended)

    def _floor(self, pool: Pool) -> int:
        """How many of its workers must stay, by its owner's word."""
        return 0 if pool.resting or pool.closed else self._scale_of(pool.model).min_replicas

    def _first_in_line(self, now_s: float) -> _Need | None:
        """Who has waited longest of those that could have room if others gave way."""
        for pool, need in self._needy.items():
            if not need.ahead and not self._budget.room_for(pool, now_s).held:
                return need
        return None

    def _candidates(self, now_s: float) -> list[Candidate]:
        return [self._candidate(pool, now_s) for pool in self._supervisor.active_pools() if pool.replicas]

    def _candidate(self, pool: Pool, now_s: float) -> Candidate:
        idle = sum(replica.idle for replica in pool.replicas)
        return Candidate(
            pool.model.key,
            max(replica.memory_bytes for replica in pool.replicas),
            pool.replicas_that_are("starting", "ready"),
            0 if pool.waiting else idle,
            max(self._floor(pool), 1 if now_s < pool.leased_until_s else 0),
        )

    def _end(self, keys: Iterable[Hashable]) -> int:
        """Ends one idle worker for each time that a key is given; how many there were to end."""
        pools = {pool.model.key: pool for pool in self._supervisor.active_pools() if not pool.closed}
        return sum(pools[key].retire_idle() for key in keys if key in pools)

    def _end_a_busy_one(self, now_s: float) -> None:
        """Has the least worthy of those that compute all the time give way to whoever has waited longest."""
        turns = [
            pool
            for pool in self._supervisor.active_pools()
            for replica in pool.replicas
            if replica.state == "ready"
            and not replica.sequences
            and now_s - replica.ready_s >= max(_LEAST_TURN_S, _TURN_STARTS * pool.measures.cold_start_s)
            and now_s >= pool.leased_until_s
            and pool.replicas_that_are("ready") > self._floor(pool)
        ]
        if turns:
            self._evicted += 1
            min(
                turns, key=lambda pool: self._keep.worth(pool.model.key, pool.measures.memory_bytes, now_s)
            ).retire_busy()

    # Time.

    def tick(self, now_s: float) -> None:
        """Counts calls, scales, and lets those give way whose turn is over. Called ten times a second."""
        active = self._supervisor.active_pools()
        for pool in active:
            self._note_calls(pool, now_s)
        if now_s - self._slow_tick_s >= _SLOW_TICK_S:
            self._slow_tick_s = now_s
            self._slow_tick(now_s)
        self._scale(now_s)
        for pool, need in list(self._needy.items()):
            if need.ahead and now_s - need.since_s > _AHEAD_S:
                del self._needy[pool]
        if self._needy:
            self._serve(now_s)
        first = self._first_in_line(now_s) if self._supervisor.can_start else None
        if first is not None and now_s - first.since_s >= _LEAST_TURN_S and not self._budget.leaving_bytes():
            self._end_a_busy_one(now_s)

    def _slow_tick(self, now_s: float) -> None:
        """What need not be looked at ten times a second: the box's memory, worth, pins, starts ahead."""
        active = self._supervisor.active_pools()
        self._demands.keep_only(active)
        for pool in active:
            self._learn(pool)
        used_bytes = self._supervisor.used_bytes
        self._budget.look_at_box()
        for model in self._pinned():
            pool = self._supervisor.pool(model)
            if not pool.resting and not pool.replicas and pool not in self._needy and pool.may_add(now_s):
                self._needy[pool] = _Need(now_s, ahead=True)
        candidates = self._candidates(now_s)
        ended = self._keep.to_end(candidates, now_s, used_bytes=used_bytes, budget_bytes=self._budget.bytes)
        self._ended_idle += self._end(ended)
        if self._idle_s:
            for pool in list(active):
                if now_s - pool.last_used_s >= self._idle_s and now_s >= pool.leased_until_s:
                    while pool.replicas_that_are("starting", "ready") > self._floor(pool) and pool.retire_idle():
                        self._ended_idle += 1
        key = self._keep.to_start(candidates, now_s, free_bytes=self._budget.bytes - used_bytes)
        if key is not None and (ahead := self._supervisor.pool_of(key)) is not None and ahead not in self._needy:
            self._needy[ahead] = _Need(now_s, ahead=True)

    def _note_calls(self, pool: Pool, now_s: float) -> None:
        if self._demands.note(pool, now_s):
            self._keep.called(pool.model.key, now_s)

    def _learn(self, pool: Pool) -> None:
        measures = pool.measures
        self._keep.learned(
            pool.model.key, cold_start_s=measures.cold_start_s or None, memory_bytes=measures.memory_bytes
        )

    # Scaling.

    def _scale(self, now_s: float) -> None:
        """Adds and ends replicas beyond the first as measured demand says. Nobody gets a further one while others wait
        for their first, and none is made room for at the price of what is worth more."""
        in_line = self._first_in_line(now_s) is not None
        for pool, count in self._demands.wanted(self._supervisor.active_pools(), now_s).items():
            have = pool.replicas_that_are("starting", "ready")
            if have > count and pool.retire_idle():
                self._ended_idle += 1
            if not 0 < have < count or in_line or not self._supervisor.can_start or not pool.may_add(now_s):
                continue
            room = self._budget.room_for(pool, now_s)
            if not room.missing_bytes:
                self._started += 1
                pool.add_replica()
            elif not room.never and not room.held:
                worth = self._keep.worth_of_next(pool.model.key, pool.measures.memory_bytes, have, now_s)
                worth_below = math.inf if have < self._floor(pool) else worth
                self._make_room(pool, room.missing_bytes, now_s, worth_below=worth_below)

    def threads_for(self, pool: Pool) -> int:
        """Threads for a worker of this pool that is started now."""
        return self._demands.threads_for(pool, self._supervisor.active_pools())

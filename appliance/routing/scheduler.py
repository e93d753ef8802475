"""Performs what the policies decide: starts workers where there is memory for them, ends what is worth least, scales.

Runs in the gateway's event loop, over the supervisor's pools. It decides nothing itself but the order in which those
that wait for memory get it: as they came. keep_warm.py says whose memory that is, scaling.py how many replicas there
should be.
"""

import time
from collections.abc import Callable, Hashable, Iterable
from typing import Literal, NamedTuple

import psutil

from appliance.core.models import ModelVersion
from appliance.core.scale import Scale
from appliance.routing.arrival_rate import ArrivalRate
from appliance.routing.keep_warm import Candidate, KeepWarm
from appliance.routing.scaling import Demand, Wanted, share_cores, threads_for, wanted_replicas
from appliance.routing.settings import RoutingSettings
from appliance.workers.pool import Pool
from appliance.workers.supervisor import Supervisor

# A model that computes all the time is ended for another that waits only after it has had so much time, or so many of
# its cold starts: less would spend the box on loading.
_LEAST_TURN_S = 0.25
_TURN_STARTS = 4.0
_AHEAD_S = 5.0  # a start ahead that found no room by then is given up
_SLOW_TICK_S = 1.0
# Of the box's memory, what warm models may use where the owner does not say, and what is always left to others.
BUDGET_SHARE = 0.7
_RESERVE_SHARE = 0.05


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


class _Flow:
    """What is remembered of one pool between ticks."""

    __slots__ = ("rate", "wanted")

    def __init__(self, now_s: float) -> None:
        self.rate = ArrivalRate(now_s)
        self.wanted = Wanted()


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
        self._settings = settings
        self._budget_bytes = budget_bytes
        self._box_bytes = psutil.virtual_memory().total
        self._cores = cores
        self._idle_s = idle_s
        self._scale_of = scale_of
        self._pinned = pinned
        self._keep = KeepWarm()
        self._needy: dict[Pool, _Need] = {}
        self._flows: dict[Pool, _Flow] = {}
        self._slow_tick_s = 0.0
        self._started = self._started_ahead = self._evicted = self._ended_idle = 0
        self._effective_budget_bytes = budget_bytes
        supervisor.scheduling = self

    def counts(self) -> Counts:
        return Counts(
            self._effective_budget_bytes,
            self._supervisor.used_bytes,
            self._started,
            self._started_ahead,
            self._evicted,
            self._ended_idle,
            sum(not need.ahead for need in self._needy.values()),
        )

    def arrivals_per_s(self, pool: Pool) -> float:
        flow = self._flows.get(pool)
        return flow.rate.per_s if flow else 0.0

    def worth(self, pool: Pool) -> float:
        """Seconds of cold start that its worker is expected to save, for each gigabyte and hour that it stays."""
        now_s = time.monotonic()
        return self._keep.worth(pool.model.key, pool.measures.memory_bytes, now_s) * 1e9 * 3600

    def superseded(self, model: ModelVersion) -> None:
        """The version is gone, or another has taken its place: that it was called says nothing of what is to come."""
        self._keep.forget(model.key)

    # Who needs a worker.

    def need(self, pool: Pool) -> None:
        """Work waits in this pool, or somebody asked for it to be warm, and it has no worker."""
        now_s = time.monotonic()
        self._note_calls(pool, now_s)
        self._learn(pool)
        if pool not in self._needy or self._needy[pool].ahead:
            self._needy.pop(pool, None)
            self._needy[pool] = _Need(now_s, ahead=False)
        self._serve(now_s)

    def freed(self) -> None:
        """A worker has ended."""
        if self._needy:
            self._serve(time.monotonic())

    def _serve(self, now_s: float) -> None:
        """Starts workers for those in need, in the order in which they came, until one has to wait."""
        for pool, need in list(self._needy.items()):
            if not pool.may_add(now_s) or pool.replicas_that_are("starting", "ready") or pool.resting:
                del self._needy[pool]
                continue
            verdict = self._room(pool, now_s)
            if verdict == "wait":
                return
            del self._needy[pool]
            if verdict == "never":
                pool.refuse(
                    f"{pool.model} needs about {pool.measures.memory_bytes / 2**20:.0f} MiB, more than all the "
                    f"{self._budget_bytes / 2**20:.0f} MiB that models may use here: raise --memory-budget"
                )
                continue
            self._started += 1
            self._started_ahead += need.ahead
            pool.add_replica()

    def _room(self, pool: Pool, now_s: float) -> Literal["now", "wait", "never"]:
        """Whether there is memory for one more worker of this pool; ends idle ones where that makes room."""
        need_bytes, budget_bytes = pool.measures.memory_bytes, self._effective_budget_bytes
        if need_bytes > self._budget_bytes and pool.measures.measured:
            return "never"
        need_bytes = min(need_bytes, budget_bytes)  # a guess may be too high: alone, it is tried
        used_bytes = self._supervisor.used_bytes
        if used_bytes + need_bytes <= budget_bytes:
            return "now"
        missing_bytes = used_bytes + need_bytes - budget_bytes - self._leaving_bytes()
        if missing_bytes > 0:
            ended = self._keep.make_room(self._candidates(now_s), missing_bytes, now_s, for_key=pool.model.key)
            if ended is None:
                pool.waits_because = "it waits for memory: all that is warm has calls to answer"
            else:
                self._evicted += self._end(ended)
        return "wait"

    def _leaving_bytes(self) -> int:
        return sum(
            replica.memory_bytes
            for pool in self._supervisor.active_pools()
            for replica in pool.replicas
            if replica.state == "retiring"
        )

    def _candidates(self, now_s: float) -> list[Candidate]:
        return [self._candidate(pool, now_s) for pool in self._supervisor.active_pools() if pool.replicas]

    def _candidate(self, pool: Pool, now_s: float) -> Candidate:
        idle = sum(replica.idle for replica in pool.replicas)
        floor = 0 if pool.resting or pool.closed else self._scale_of(pool.model).min_replicas
        return Candidate(
            pool.model.key,
            max(replica.memory_bytes for replica in pool.replicas),
            pool.replicas_that_are("starting", "ready"),
            0 if pool.waiting else idle,
            max(floor, 1 if now_s < pool.leased_until_s else 0),
        )

    def _end(self, keys: Iterable[Hashable]) -> int:
        """Ends one idle worker for each time that a key is given; how many there were to end."""
        pools = {pool.model.key: pool for pool in self._supervisor.active_pools()}
        return sum(pools[key].retire_idle() for key in keys if key in pools)

    def _end_a_busy_one(self, now_s: float) -> None:
        """Has the least worthy of those that compute all the time give way to whoever has waited longest."""
        turns = [
            pool
            for pool in self._supervisor.active_pools()
            for replica in pool.replicas
            if replica.state == "ready"
            and now_s - replica.ready_s >= max(_LEAST_TURN_S, _TURN_STARTS * pool.measures.cold_start_s)
            and now_s >= pool.leased_until_s
            and pool.replicas_that_are("ready") > self._scale_of(pool.model).min_replicas
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
        first = next((need for need in self._needy.values() if not need.ahead), None)
        if first is not None and now_s - first.since_s >= _LEAST_TURN_S and not self._leaving_bytes():
            self._end_a_busy_one(now_s)

    def _slow_tick(self, now_s: float) -> None:
        """What need not be looked at ten times a second: the box's memory, worth, pins, starts ahead."""
        active = self._supervisor.active_pools()
        for pool in [pool for pool in self._flows if pool not in active]:
            del self._flows[pool]
        for pool in active:
            self._learn(pool)
        used_bytes = self._supervisor.used_bytes
        left_bytes = int(psutil.virtual_memory().available - self._box_bytes * _RESERVE_SHARE)
        self._effective_budget_bytes = min(self._budget_bytes, max(0, used_bytes + left_bytes))
        for model in self._pinned():
            pool = self._supervisor.pool(model)
            if not pool.resting and not pool.replicas and pool not in self._needy and pool.may_add(now_s):
                self._needy[pool] = _Need(now_s, ahead=True)
        candidates = self._candidates(now_s)
        ended = self._keep.to_end(candidates, now_s, used_bytes=used_bytes, budget_bytes=self._effective_budget_bytes)
        self._ended_idle += self._end(ended)
        if self._idle_s:
            for pool in active:
                if now_s - pool.last_used_s >= self._idle_s and now_s >= pool.leased_until_s:
                    while len(pool.replicas) > self._scale_of(pool.model).min_replicas and pool.retire_idle():
                        self._ended_idle += 1
        key = self._keep.to_start(candidates, now_s, free_bytes=self._effective_budget_bytes - used_bytes)
        if key is not None and (ahead := self._supervisor.pool_of(key)) is not None and ahead not in self._needy:
            self._needy[ahead] = _Need(now_s, ahead=True)

    def _note_calls(self, pool: Pool, now_s: float) -> None:
        arrived = pool.take_arrivals()
        flow = self._flows.get(pool)
        if flow is None:
            flow = self._flows[pool] = _Flow(now_s)
        if arrived:
            self._keep.called(pool.model.key, now_s)
        flow.rate.count(arrived, now_s)

    def _learn(self, pool: Pool) -> None:
        measures = pool.measures
        self._keep.learned(
            pool.model.key, cold_start_s=measures.cold_start_s or None, memory_bytes=measures.memory_bytes
        )

    # Scaling.

    def _scale(self, now_s: float) -> None:
        """Adds and ends replicas beyond the first as measured demand says, within the cores and the memory."""
        wanted: dict[Pool, int] = {}
        for pool in self._supervisor.active_pools():
            flow = self._flows[pool]
            if pool.closed or not pool.replicas or not (flow.rate.per_s or pool.waiting or len(pool.replicas) > 1):
                continue
            flow.wanted = wanted_replicas(self._demand(pool, flow), flow.wanted, now_s)
            wanted[pool] = flow.wanted.replicas
        if not any(count > 1 or len(pool.replicas) > 1 for pool, count in wanted.items()):
            return
        shares = share_cores({pool: count * self._threads_of(pool) for pool, count in wanted.items()}, self._cores)
        for pool, count in wanted.items():
            count = max(1, min(count, shares[pool] // self._threads_of(pool)), self._scale_of(pool.model).min_replicas)
            have = pool.replicas_that_are("starting", "ready")
            if 0 < have < count and pool.may_add(now_s) and self._room(pool, now_s) == "now":
                self._started += 1
                pool.add_replica()
            elif have > count and pool.retire_idle():
                self._ended_idle += 1

    def _demand(self, pool: Pool, flow: _Flow) -> Demand:
        scale = self._scale_of(pool.model)
        return Demand(
            waiting=pool.waiting,
            in_flight=pool.in_flight,
            arrivals_per_s=flow.rate.per_s,
            run_s=pool.run_times.call_s,
            replicas=pool.replicas_that_are("ready"),
            starting=pool.replicas_that_are("starting"),
            cold_start_s=pool.measures.cold_start_s,
            target_latency_s=scale.target_latency_s or self._settings.target_latency_s,
            max_replicas=scale.max_replicas or self._settings.max_replicas or self._cores,
            floor=scale.min_replicas,
        )

    @staticmethod
    def _threads_of(pool: Pool) -> int:
        return max((replica.threads for replica in pool.replicas), default=1)

    def threads_for(self, pool: Pool) -> int:
        """Threads for a worker of this pool that is started now."""
        others = [
            other
            for other in self._supervisor.active_pools()
            if other is not pool and other.in_flight and self._threads_of(other) > 1
        ]
        return threads_for(
            size_bytes=pool.model.size_bytes,
            cores=self._cores,
            busy_large=len(others),
            replicas=len(pool.replicas) + 1,
        )

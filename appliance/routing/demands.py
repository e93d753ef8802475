"""How many replicas each pool should have by the demand that is measured of it, and how many threads each gets.

Runs in the gateway's event loop. It remembers between two looks what came to a pool; scaling.py says what follows from
it. Starts and ends nothing.
"""

from collections.abc import Callable, Collection

from appliance.core.models import ModelVersion
from appliance.core.scale import Scale
from appliance.routing.arrival_rate import ArrivalRate
from appliance.routing.scaling import Demand, Wanted, share_cores, threads_for, wanted_replicas
from appliance.routing.settings import RoutingSettings
from appliance.workers.pool import Pool


class _Flow:
    """What is remembered of one pool."""

    __slots__ = ("rate", "wanted")

    def __init__(self, now_s: float) -> None:
        self.rate = ArrivalRate(now_s)
        self.wanted = Wanted()


class Demands:
    """note() what came to a pool, then ask for wanted(). `scale_of` tells what is wished of a version."""

    def __init__(self, settings: RoutingSettings, *, cores: int, scale_of: Callable[[ModelVersion], Scale]) -> None:
        self._settings = settings
        self._cores = cores
        self._scale_of = scale_of
        self._flows: dict[Pool, _Flow] = {}

    def note(self, pool: Pool, now_s: float) -> int:
        """Counts the calls that have come since the last time; how many these were."""
        flow = self._flows.get(pool)
        if flow is None:
            flow = self._flows[pool] = _Flow(now_s)
        arrived = pool.take_arrivals()
        flow.rate.count(arrived, now_s)
        return arrived

    def keep_only(self, active: Collection[Pool]) -> None:
        for pool in [pool for pool in self._flows if pool not in active]:
            del self._flows[pool]

    def arrivals_per_s(self, pool: Pool) -> float:
        flow = self._flows.get(pool)
        return flow.rate.per_s if flow else 0.0

    def wanted(self, active: Collection[Pool], now_s: float) -> dict[Pool, int]:
        """How many replicas those that have one should have, within the cores; empty where none is to have another
        number than one."""
        wanted: dict[Pool, int] = {}
        for pool in active:
            flow = self._flows.get(pool)
            if flow is None or pool.closed or pool.resting or not pool.replicas:
                continue
            if not (flow.rate.per_s or pool.waiting or len(pool.replicas) > 1 or self._floor(pool) > 1):
                continue
            flow.wanted = wanted_replicas(self._demand(pool, flow), flow.wanted, now_s)
            wanted[pool] = flow.wanted.replicas
        if not any(count > 1 or len(pool.replicas) > 1 for pool, count in wanted.items()):
            return {}
        shares = share_cores({pool: count * threads_of(pool) for pool, count in wanted.items()}, self._cores)
        return {
            pool: max(1, min(count, shares[pool] // threads_of(pool)), self._floor(pool))
            for pool, count in wanted.items()
        }

    def _floor(self, pool: Pool) -> int:
        return self._scale_of(pool.model).min_replicas

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

    def threads_for(self, pool: Pool, active: Collection[Pool]) -> int:
        """Threads for a worker of this pool that is started now."""
        others = [other for other in active if other is not pool and other.in_flight and threads_of(other) > 1]
        return threads_for(
            size_bytes=pool.model.size_bytes,
            cores=self._cores,
            busy_large=len(others),
            replicas=len(pool.replicas) + 1,
        )


def threads_of(pool: Pool) -> int:
    return max((replica.threads for replica in pool.replicas), default=1)

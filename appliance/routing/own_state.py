"""How this node fares with each model and altogether, in the mesh's words: what it tells peers, and itself.

Runs in the gateway's event loop, ten times a second and with each answer to a peer, over the supervisor's pools.
"""

import time
from collections.abc import Callable

import psutil
from msgspec.structs import replace

from appliance.core.models import ModelVersion
from appliance.observability.box import power_w, temperature_c
from appliance.routing.scheduler import Scheduler
from appliance.workers.pool import Pool
from appliance.workers.supervisor import Supervisor
from federation.messages import Engines, Load, ModelState, model_key

# Of models without a worker, so many that were used last are told: what they take to start. Others are guessed.
_COLD_TOLD = 500
_LOOK_S = 2.0  # between two looks at the processors
_NOTHING = ModelState()
_SENSORS_S = 10.0  # between two at the sensors, whose files have to be searched for


def key_of(model: ModelVersion) -> str:
    """How a version is called between nodes."""
    return model_key(str(model.name), str(model.version), model.digest)


class OwnState:
    """`engines`: what peers may have of those that TensorRT built here, by model_key(); whoever shares them says."""

    def __init__(self, supervisor: Supervisor, scheduler: Scheduler, device_free_bytes: Callable[[], int]) -> None:
        self._supervisor = supervisor
        self._scheduler = scheduler
        self._device_free_bytes = device_free_bytes
        self._looked_s = -_LOOK_S
        self._felt_s = -_SENSORS_S
        self._cpu_share = 0.0
        self._power_w = self._temperature_c = -1.0
        self._load = Load()
        self._cold: dict[str, ModelState] = {}
        self.engines: dict[str, Engines] = {}

    def of(self, model: ModelVersion) -> ModelState:
        """One version, as a call that came now would find it. `cold_start_s` is 0 where it was never started here."""
        state = self._of(model)
        if self.engines and (engines := self.engines.get(key_of(model))) is not None:
            return replace(state, engines=engines)
        return state

    def _of(self, model: ModelVersion) -> ModelState:
        pool = self._supervisor.existing_pool(model)
        if pool is None:
            profile = self._supervisor.profile(model)
            return ModelState(run_s=profile.run_s, cold_start_s=profile.cold_start_s) if profile else ModelState()
        return of_pool(pool)

    def models(self) -> dict[str, ModelState]:
        """Those that are warm, starting or waited for, the last that were, and those of which there are engines."""
        told = {}
        for pool in self._supervisor.active_pools():
            if not pool.closed:
                told[key_of(pool.model)] = of_pool(pool)
        for key, state in told.items():
            # What goes to sleep is told as cold, with what was learned of it; the last that slept is the last here.
            self._cold.pop(key, None)
            self._cold[key] = ModelState(run_s=state.run_s, cold_start_s=state.cold_start_s)
        while len(self._cold) > _COLD_TOLD:
            del self._cold[next(iter(self._cold))]
        states = self._cold | told
        for key, engines in self.engines.items():
            states[key] = replace(states.get(key, _NOTHING), engines=engines)
        return states

    def load(self) -> Load:
        """The node as it was at the last look()."""
        return self._load

    def look(self) -> Load:
        """Looks at the pools, and now and then at the box."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._cpu_share = psutil.cpu_percent(None) / 100
        if now_s - self._felt_s >= _SENSORS_S:
            self._felt_s = now_s
            self._power_w, self._temperature_c = power_w(now_s), temperature_c()
        counts = self._scheduler.counts()
        pools = self._supervisor.active_pools()
        self._load = Load(
            backlog_s=sum(pool.run_times.wait_s(pool.waiting + pool.in_flight, 1) for pool in pools),
            in_flight=sum(pool.in_flight for pool in pools),
            memory_free_bytes=max(0, counts.budget_bytes - counts.used_bytes),
            device_free_bytes=self._device_free_bytes(),
            cpu_share=round(self._cpu_share, 2),
            power_w=self._power_w,
            temperature_c=self._temperature_c,
        )
        return self._load


def of_pool(pool: Pool) -> ModelState:
    """A version that was called."""
    ready = pool.replicas_that_are("ready")
    times, measures = pool.run_times, pool.measures
    word, reason = pool.state()
    return ModelState(
        replicas=ready,
        backlog_s=times.wait_s(pool.waiting + pool.in_flight, ready),
        run_s={rows: round(seconds, 6) for rows, seconds in times.run_s.items()},
        cold_start_s=round(measures.cold_start_s, 4),
        refused=reason if word == "set_aside" else "",
    )

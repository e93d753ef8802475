"""A pool for each model version that was called, on the processes of this node. Runs in the gateway's event loop.

It starts the workers that it is told to start, gives pools the time, looks at what workers use and ends those that are
past their memory's limit. Which call goes where is the pools' to say; how many workers a model has, and which give way,
is said by the `Scheduling` that attends to it.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Protocol, cast

from appliance.catalogue.profiles import Profiles
from appliance.core.beats import until_beat_s
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.core.profile import Profile, ProfileKey
from appliance.core.versions import Version
from appliance.workers.gpu import Gpu
from appliance.workers.link import Link
from appliance.workers.measures import Measures, Sample, read_sample
from appliance.workers.optimiser import Optimiser
from appliance.workers.pool import Pool
from appliance.workers.processes import Processes
from appliance.workers.region import SharedRegion
from appliance.workers.replica import Replica
from appliance.workers.settings import WorkerSettings
from appliance.workers.spec import WorkerSpec

REGION_BYTES = 64 * 1024 * 1024
TICK_S = 0.1
_LOOK_S = 1.0  # between two looks at the workers that have been used
_KEEP_S = 30.0  # between two writings of what was measured

_log = logging.getLogger("ingle.workers")


class Scheduling(Protocol):
    """Who decides which workers there are. Each may start and end some before it returns."""

    def need(self, pool: Pool) -> None:
        """This pool has work, or somebody waits for it to be warm, and it has no worker."""

    def freed(self) -> None:
        """A worker has ended, or workers can be started again."""

    def tick(self, now_s: float) -> None:
        """TICK_S have passed."""

    def threads_for(self, pool: Pool) -> int:
        """Threads for a worker of this pool that is started now."""


class Supervisor:
    def __init__(
        self,
        processes: Processes,
        settings: WorkerSettings,
        *,
        providers: tuple[str, ...],
        data_bytes: int,
        profiles: Profiles,
        living_digests: Callable[[], set[str]],
        optimiser: Optimiser,
        gpu: Gpu,
    ) -> None:
        """`data_bytes` bounds each worker's private memory where its manifest does not say; 0: unbounded.

        `living_digests` tells which artifacts still exist, so that what was measured of others can go.
        """
        self.scheduling: Scheduling  # set before start()
        self._processes = processes
        self._settings = settings
        self._providers = providers
        self._data_bytes = data_bytes
        self._profiles = profiles
        self._living_digests = living_digests
        self._known: dict[ProfileKey, Profile] = {}
        self._optimiser = optimiser
        self._gpu = gpu
        self._pools: dict[tuple[ModelName, Version, str], Pool] = {}
        self._closing: set[Pool] = set()
        self._active: set[Pool] = set()
        self._unkept: set[Pool] = set()  # that had workers since what was measured was last written down
        self._samples: dict[Replica, tuple[Sample, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        processes.on_started_again = self._start_waiting

    async def start(self) -> None:
        """Reads what was measured before, and begins to give the time."""
        self._known = await asyncio.to_thread(self._profiles.all)
        for body in (self._tick_for_ever(), self._look_for_ever(), self._keep_for_ever()):
            self._spawn(asyncio.get_running_loop().create_task(body))

    # Pools.

    def pool(self, model: ModelVersion) -> Pool:
        """The pool of this version, made at its first call."""
        pool = self._pools.get(model.key)
        if pool is not None:
            if model.folder != pool.model.folder:
                pool.model = model  # what lay on other nodes alone lies here too by now, or no more
        else:
            limits, settings = model.manifest.limits, self._settings
            pool = self._pools[model.key] = Pool(
                model,
                max_batch=self.max_batch(model),
                max_waiting=limits.queue or settings.queue,
                run_limit_s=limits.run_s or settings.run_s,
                most_sequences=limits.sequences or settings.sequences,
                sequence_idle_s=limits.sequence_idle_s or settings.sequence_idle_s,
                measures=Measures(model, self._known.get(self._profile_key(model))),
                spawn=self._start_replica,
                need=self._need,
            )
        return pool

    def max_batch(self, model: ModelVersion) -> int:
        """The most rows that one run of this version takes: 1 where calls must not share a run."""
        most = self._settings.max_batch
        return min(model.manifest.limits.batch or most, most) if model.batchable else 1

    def pool_of(self, key: Hashable) -> Pool | None:
        """The pool of the version with this key, if it was called and still exists."""
        return self._pools.get(cast("tuple[ModelName, Version, str]", key))

    def active_pools(self) -> set[Pool]:
        """Those that have workers or work, of versions that are gone too; not to be changed."""
        return self._active

    def existing_pool(self, model: ModelVersion) -> Pool | None:
        return self._pools.get(model.key)

    def loads_from(self, model: ModelVersion) -> str:
        """What a worker of this version loads, as a phrase: its own file or a cached optimised graph."""
        return self._optimiser.loads_from(model)

    def forget(self, model: ModelVersion, successor: ModelVersion | None = None) -> None:
        """The version is gone from the catalogue: its workers finish what they have and end. What waits for it goes to
        its successor, if it has one that takes the same tensors."""
        if pool := self._pools.pop(model.key, None):
            if successor is not None and successor.signature == model.signature:
                pool.hand_over(self.pool(successor))
            pool.close()
            self._closing.add(pool)
        self._optimiser.forget(model)
        self._gpu.forget(model)

    def profile(self, model: ModelVersion) -> Profile | None:
        """What was measured of this version's artifact, by this node or before its last start."""
        if pool := self._pools.get(model.key):
            return pool.measures.profile()
        return self._known.get(self._profile_key(model))

    @property
    def device(self) -> str:
        """What models run on, as a phrase."""
        return self._gpu.summary

    @property
    def used_bytes(self) -> int:
        """The memory of all workers there are, as measured or reckoned."""
        return sum(replica.memory_bytes for pool in self._active for replica in pool.replicas)

    def _need(self, pool: Pool) -> None:
        self._active.add(pool)
        self.scheduling.need(pool)

    @property
    def can_start(self) -> bool:
        """Whether there is a zygote to fork workers."""
        return self._processes.ready is not None

    def _start_waiting(self) -> None:
        for pool in list(self._active):
            pool.pump()
        self.scheduling.freed()

    # Replicas.

    def _start_replica(self, pool: Pool) -> Replica:
        """Raises OSError where the system has no more descriptors for it."""
        self._active.add(pool)
        self._unkept.add(pool)
        threads = self._settings.threads or self.scheduling.threads_for(pool)
        tenant = self._gpu.tenant_for(
            pool.model,
            threads=threads,
            max_batch=pool.max_batch,
            run_times=pool.measures.run_times,
            on_change=partial(self._changed, pool),
        )
        if tenant is not None:
            return tenant
        region = SharedRegion(REGION_BYTES)
        limit_bytes = pool.model.manifest.limits.memory_bytes or self._data_bytes
        replica = Replica(
            self._processes.next_number(),
            region,
            partial(self._changed, pool),
            run_times=pool.measures.run_times,
            memory_bytes=pool.measures.memory_bytes,
        )
        replica.threads = threads
        replica.note = self._gpu.note_for(pool.model)
        graph = self._optimiser.graph_for(pool.model)
        replica.graph_offered = graph is not None
        spec = WorkerSpec(
            number=replica.number,
            role="serve",
            folder=pool.model.folder,
            manifest=pool.model.manifest,
            threads=replica.threads,
            max_batch=pool.max_batch,
            providers=self._providers,
            data_bytes=limit_bytes,
            graph=graph,
        )
        try:
            sock = self._processes.fork(spec, replica, region.fd, pool.log)
        except OSError:
            region.close()
            raise
        if sock is None:
            replica.on_socket_closed()
        else:
            self._spawn(asyncio.get_running_loop().create_task(self._connect(sock, replica)))
        return replica

    @staticmethod
    async def _connect(sock: socket.socket, replica: Replica) -> None:
        # The link attaches itself: what it reads may be here before this line goes on.
        await asyncio.get_running_loop().create_unix_connection(
            partial(Link, replica.attach, replica.on_frame, replica.on_socket_closed), sock=sock
        )

    def _changed(self, pool: Pool, replica: Replica) -> None:
        if replica.state == "ready" and not replica.announced:
            replica.announced = True
            pool.measures.started(load_s=replica.load_s, cold_start_s=replica.ready_s - replica.started_s)
            self._learn_of_load(pool.model, replica)
            self._spawn(asyncio.get_running_loop().create_task(self._look_at([(pool, replica)])))
        pool.on_change(replica)
        if replica.state == "lost":
            self._samples.pop(replica, None)
            if replica.graph_offered and not replica.calls and not replica.retired and self._processes.ready:
                self._optimiser.broken(pool.model, f"its worker was lost before an answer: {replica.end_reason}")
            self.scheduling.freed()

    def _learn_of_load(self, model: ModelVersion, replica: Replica) -> None:
        if replica.graph_fault:
            self._optimiser.broken(model, replica.graph_fault)
        elif not replica.from_graph:
            self._optimiser.loaded(model, load_s=replica.load_s, providers=replica.providers)

    # Time.

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(until_beat_s(asyncio.get_running_loop().time(), TICK_S))
            try:
                self._tick(time.monotonic())
            except Exception:  # all deadlines, starts and ends hang on this: it goes on, whatever one turn found
                _log.exception("a fault of ours in the supervisor's turn")

    def _tick(self, now_s: float) -> None:
        for pool in list(self._active):
            pool.tick(now_s)
        self.scheduling.tick(now_s)
        self._active = {pool for pool in self._active if pool.active}
        self._closing &= self._active

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            idle_before_s = time.monotonic() - _LOOK_S
            for pool in self._active:
                for replica in pool.replicas:
                    if replica.idle and replica.idle_since_s < idle_before_s:
                        replica.release_pages()
            await self._look_at(
                [
                    (pool, replica)
                    for pool in self._active
                    for replica in pool.replicas
                    if replica.state == "ready"
                    and (replica.in_flight or replica.calls != self._samples.get(replica, (None, -1))[1])
                ]
            )

    async def _look_at(self, workers: Iterable[tuple[Pool, Replica]]) -> None:
        """Measures these workers, and ends those that are past their memory's limit."""
        looked = [
            (pool, replica, replica.pid) for pool, replica in workers if replica.pid and not replica.shares_process
        ]
        samples = await asyncio.to_thread(lambda: [read_sample(pid) for _, _, pid in looked])
        for (pool, replica, _), sample in zip(looked, samples, strict=True):
            if sample is None or replica.ended.is_set():
                continue
            before, calls = self._samples.get(replica, (None, 0))
            pool.measures.looked_at(sample, before, replica.calls - calls)
            self._samples[replica] = (sample, replica.calls)
            replica.memory_bytes = sample.uss_bytes
            limit_bytes = pool.model.manifest.limits.memory_bytes or self._data_bytes
            if limit_bytes and sample.uss_bytes > limit_bytes:
                replica.kill(
                    f"it used {sample.uss_bytes / 2**20:.0f} MiB, past its limit of {limit_bytes / 2**20:.0f} MiB, "
                    "and was ended"
                )

    async def _keep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_S)
            await self._keep()

    async def _keep(self) -> None:
        """Writes down what was measured since the last time. Looks at no pool that had no worker since then."""
        pools, self._unkept = self._unkept, {pool for pool in self._active if pool.replicas}
        changed = {
            self._profile_key(pool.model): profile
            for pool in pools
            if (profile := pool.measures.take_changed()) is not None
        }
        if changed:
            self._known |= changed
            await asyncio.to_thread(lambda: self._profiles.put(changed, self._living_digests()))

    def _profile_key(self, model: ModelVersion) -> ProfileKey:
        ready = self._processes.ready
        return ProfileKey(model.digest, f"onnxruntime {ready.runtime if ready else ''} {','.join(self._providers)}")

    def sandbox_layers(self) -> tuple[tuple[str, bool, str], ...]:
        """What the zygote found to confine its forks; nothing while there is none."""
        ready = self._processes.ready
        return ready.layers if ready else ()

    async def drained(self) -> None:
        """Returns when no call waits or runs."""
        # No event for each call, for the sake of what happens once.
        while any(pool.owed for pool in self._active):  # noqa: ASYNC110
            await asyncio.sleep(TICK_S / 5)

    async def stop(self) -> None:
        """Refuses what still waits and gives up the workers; Processes.stop() then ends them."""
        for pool in (*self._pools.values(), *self._closing):
            pool.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._keep()
        await asyncio.to_thread(self._profiles.close)

    def _spawn(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

"""A pool for each model version that was called, on the processes of this node. Runs in the gateway's event loop.

It starts what pools ask for and gives them the time; which call goes where, and when to start or end a worker, is the
pools' and lifecycle.py's to say.
"""

import asyncio
import os
import socket
import time
from functools import partial

from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.core.versions import Version
from appliance.workers.link import Link
from appliance.workers.pool import Pool
from appliance.workers.processes import Processes
from appliance.workers.region import SharedRegion
from appliance.workers.replica import Replica
from appliance.workers.settings import WorkerSettings
from appliance.workers.spec import WorkerSpec

REGION_BYTES = 64 * 1024 * 1024
TICK_S = 0.1
# Models this large may use half the box's cores each; smaller ones gain nothing from a second thread.
_LARGE_MODEL_BYTES = 4 * 1024 * 1024


class Supervisor:
    def __init__(
        self, processes: Processes, settings: WorkerSettings, *, providers: tuple[str, ...], data_bytes: int
    ) -> None:
        """`data_bytes` bounds each worker's private memory where its manifest does not say; 0: unbounded."""
        self._processes = processes
        self._settings = settings
        self._providers = providers
        self._data_bytes = data_bytes
        self._pools: dict[tuple[ModelName, Version, str], Pool] = {}
        self._closing: set[Pool] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        processes.on_started_again = self._pump_all

    def start(self) -> None:
        self._spawn(asyncio.get_running_loop().create_task(self._tick_for_ever()))

    # Pools.

    def pool(self, model: ModelVersion) -> Pool:
        """The pool of this version, made at its first call."""
        pool = self._pools.get(model.key)
        if pool is None:
            limits, settings = model.manifest.limits, self._settings
            pool = self._pools[model.key] = Pool(
                model,
                max_batch=self.max_batch(model),
                max_waiting=limits.queue or settings.queue,
                run_limit_s=limits.run_s or settings.run_s,
                start=self._start_replica,
            )
        return pool

    def max_batch(self, model: ModelVersion) -> int:
        """The most rows that one run of this version takes: 1 where calls must not share a run."""
        most = self._settings.max_batch
        return min(model.manifest.limits.batch or most, most) if model.batchable else 1

    def pools(self) -> list[Pool]:
        """Those of all versions that were called and still exist."""
        return list(self._pools.values())

    def existing_pool(self, model: ModelVersion) -> Pool | None:
        return self._pools.get(model.key)

    def forget(self, model: ModelVersion) -> None:
        """The version is gone from the catalogue: its workers finish what they have and end."""
        if pool := self._pools.pop(model.key, None):
            pool.close()
            self._closing.add(pool)

    def _all_pools(self) -> list[Pool]:
        return [*self._pools.values(), *self._closing]

    def _pump_all(self) -> None:
        for pool in self._all_pools():
            pool.pump()

    # Replicas.

    def _threads(self, model: ModelVersion) -> int:
        if self._settings.threads:
            return self._settings.threads
        cores = len(os.sched_getaffinity(0))
        return max(1, cores // 2) if model.size_bytes >= _LARGE_MODEL_BYTES else 1

    def _start_replica(self, pool: Pool) -> Replica:
        region = SharedRegion(REGION_BYTES)
        replica = Replica(self._processes.next_number(), region, pool.on_change)
        spec = WorkerSpec(
            number=replica.number,
            role="serve",
            folder=pool.model.folder,
            manifest=pool.model.manifest,
            threads=self._threads(pool.model),
            max_batch=pool.max_batch,
            providers=self._providers,
            data_bytes=pool.model.manifest.limits.memory_bytes or self._data_bytes,
        )
        sock = self._processes.fork(spec, replica, region.fd, pool.log)
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

    # Time.

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            for pool in self._all_pools():
                pool.tick(now_s, self._settings.idle_s)
            self._closing = {pool for pool in self._closing if pool.replicas}

    async def drained(self) -> None:
        """Returns when no call waits or runs."""
        # No event for each call, for the sake of what happens once.
        while any(pool.owed for pool in self._all_pools()):  # noqa: ASYNC110
            await asyncio.sleep(TICK_S / 5)

    async def stop(self) -> None:
        """Refuses what still waits and gives up the workers; Processes.stop() then ends them."""
        for pool in self._all_pools():
            pool.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

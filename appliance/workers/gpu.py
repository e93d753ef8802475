"""The node's GPU: the worker of the device, started again when it is lost, and which models are its tenants.

Runs in the gateway's event loop. It never ends the node: what the GPU does not take, runs on the CPU, with the reason
shown.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.frames import Load, Loaded
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.workers.device_engines import DeviceEngines
from appliance.workers.device_host import DeviceHost
from appliance.workers.device_turn import TURN_BYTES
from appliance.workers.devices import TENSORRT, Device, missing, providers_for
from appliance.workers.link import Link
from appliance.workers.placement import MOST_ENDS, TOO_LARGE_S, Banned, Placed, place
from appliance.workers.processes import Processes
from appliance.workers.region import SharedRegion
from appliance.workers.replica import Replica
from appliance.workers.run_times import RunTimes
from appliance.workers.spec import WorkerSpec
from appliance.workers.tenant import Tenant
from appliance.workers.vram_ledger import VramLedger, estimate_bytes, worth

REGION_BYTES = 256 * 1024 * 1024
_TRY_S = 60.0
# The device is given up after so many ends of its worker with no answer between.
_MOST_LOSSES = 4
_ENGINE_BYTES = 4 * 1024**3

_log = logging.getLogger("ingle.workers")


class Gpu:
    """start(), then tenant_for() whenever a worker is wanted; note_for() says why it was none."""

    def __init__(
        self, processes: Processes, device: Device, engines: DeviceEngines, *, data_dir: Path, tf32: bool
    ) -> None:
        self._processes = processes
        self._device = device
        self._tf32 = tf32
        self._artifacts = data_dir / "artifacts"
        self.engines = engines
        self._host: DeviceHost | None = None
        self._fault = ""
        self._got: tuple[str, ...] = ()
        self._note = ""
        self._banned: dict[str, Banned] = {}
        self._ends: Counter[str] = Counter()
        self._held: dict[str, int] = {}
        self._losses = 0
        self._notes: dict[str, str] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self.log: deque[str] = deque(maxlen=200)

    @property
    def summary(self) -> str:
        """What models run on, as a phrase."""
        if self._fault or not self._got:
            return f"CPU: {self._fault}" if self._fault else "CPU"
        said = f"GPU {self._device.number}: {', '.join(self._got)}"
        return f"{said} ({self._note})" if self._note else said

    @property
    def free_bytes(self) -> int:
        """What models may still take of the device's memory; -1 where there is none, or it is not known."""
        if self._host is None:
            return -1
        left_bytes = self._host.ledger.left_bytes
        return -1 if left_bytes is None else max(0, left_bytes)

    async def start(self, digests: set[str]) -> None:
        """Starts the device's worker, where one was asked for and onnxruntime has what it takes, and hears what its
        sessions really get. Engines of other artifacts than `digests` are removed. Raises nothing: without a GPU all
        models run on the CPU."""
        ready = self._processes.ready
        listed = ready.providers if ready else ()
        providers = providers_for(self._device, listed)
        if len(providers) == 1:
            self._fault = missing(self._device, listed)
        else:
            # What is not there, a sandbox cannot allow.
            await asyncio.to_thread(self._artifacts.mkdir, parents=True, exist_ok=True, mode=0o700)
            await self.engines.open(digests)
            host = self._start_host(providers)
            try:
                tried = await asyncio.wait_for(asyncio.shield(host.tried), _TRY_S)
                self._tried(tried)
            except TimeoutError:
                self._fault = f"the GPU did not run a tiny model within {_TRY_S:.0f} s"
            if self._fault:
                host.kill()
        if self._device.kind != "cpu":
            (_log.warning if self._fault else _log.info)("models run on %s", self.summary)

    def _tried(self, tried: Loaded) -> None:
        self._fault, self._note, self._got = tried.error, tried.note, tuple(tried.providers)
        if TENSORRT in self._got:
            self.engines.found_kind(tried.engine_kind)

    def _start_host(self, providers: tuple[str, ...]) -> DeviceHost:
        number = self._processes.next_number()
        region = SharedRegion(REGION_BYTES, reserved_bytes=TURN_BYTES)
        host = self._host = DeviceHost(
            number,
            region,
            on_held=self._held_by,
            on_built=self._built,
            on_unfit=self._unfit,
            on_lost=self._lost,
        )
        spec = WorkerSpec(
            number=number,
            role="device",
            folder=str(self._artifacts),
            manifest=Manifest(),
            threads=1,
            max_batch=1,
            providers=providers,
            data_bytes=0,  # a driver maps what it likes; each model's own limit holds on the CPU
            output=str(self.engines.cache.folder) if self.engines.is_open else "",
            file_bytes=_ENGINE_BYTES,
            device_number=self._device.number,
            tf32=self._tf32,
        )
        sock = self._processes.fork(spec, host, region.fd, self.log)
        if sock is None:
            host.on_socket_closed()
        else:
            connecting = asyncio.get_running_loop().create_unix_connection(
                partial(Link, host.attach, host.on_frame, host.on_socket_closed), sock=sock
            )
            self._do(connecting)
        return host

    def tenant_for(
        self,
        model: ModelVersion,
        *,
        threads: int,
        max_batch: int,
        run_times: RunTimes,
        on_change: Callable[[Replica], None],
    ) -> Tenant | None:
        """A replica of the model on the GPU, those that give way for it unloaded; None where it is to run on the CPU,
        of which note_for() says why."""
        placed = self._place(model)
        self._notes[model.digest] = f"on the CPU, since {placed.reason}" if placed.reason else ""
        if not placed.on_device:
            return None
        host = self._host
        if host is None or host.lost:
            host = self._start_host(self._got)
        for number in placed.evict:
            _log.info("a model gives up the GPU's memory to %s", model)
            host.tenants[number].retire()
        tenant = Tenant(
            self._processes.next_number(),
            host,
            on_change,
            run_times=run_times,
            digest=model.digest,
            on_answered=self._answered,
        )
        tenant.threads = threads
        load = Load(tenant.number, model.folder, model.manifest, threads, max_batch)
        known_bytes = self._held.get(model.digest, 0)
        host.expect(tenant, need_bytes=estimate_bytes(model.size_bytes, known_bytes), known_bytes=known_bytes)
        if self.engines.kind:
            self._do(self._load_with_engines(host, tenant, load, model))
        else:
            host.load(tenant, load)
        return tenant

    async def _load_with_engines(self, host: DeviceHost, tenant: Tenant, load: Load, model: ModelVersion) -> None:
        folder = await self.engines.folder_for(model)
        host.load(tenant, msgspec.structs.replace(load, engines=folder))

    def _built(self, tenant: Tenant) -> None:
        if self.engines.kind and self._host is not None:
            in_use = {each.digest for each in self._host.tenants.values()}
            self._do(self.engines.built(tenant.digest, in_use))

    def forget(self, model: ModelVersion) -> None:
        """A version is gone; where its artifact went with it, so do its engines."""
        if self.engines.kind:
            self._do(self.engines.forget(model))

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def note_for(self, model: ModelVersion) -> str:
        return self._notes.get(model.digest, "")

    def _place(self, model: ModelVersion) -> Placed:
        now_s = time.monotonic()
        if not self._got or self._fault:
            return Placed(False, reason=self._fault)
        idle: dict[int, float] = {}
        ledger = VramLedger()  # a worker that is not there yet tells what is free when it is
        host = self._host
        if host is not None and not host.lost:
            ledger = host.ledger
            idle = {
                number: worth(
                    calls=tenant.calls,
                    age_s=now_s - tenant.ready_s,
                    idle_s=now_s - tenant.idle_since_s,
                    load_s=tenant.load_s,
                    used_bytes=host.ledger.used.get(number, 0),
                )
                for number, tenant in host.tenants.items()
                if tenant.idle
            }
        return place(
            device_fault=self._fault,
            banned=self._banned.get(model.digest),
            size_bytes=model.size_bytes,
            measured_bytes=self._held.get(model.digest, 0),
            ledger=ledger,
            worth=idle,
            now_s=now_s,
        )

    def _held_by(self, digest: str, held_bytes: int) -> None:
        self._held[digest] = max(held_bytes, self._held.get(digest, 0))

    def _unfit(self, tenant: Tenant, reason: str, no_memory: bool) -> None:
        until_s = time.monotonic() + TOO_LARGE_S if no_memory else float("inf")
        self._banned[tenant.digest] = Banned(f"the GPU did not take it: {reason}", until_s)
        _log.warning("a model goes to the CPU: %s", reason)

    def _answered(self, digest: str) -> None:
        self._losses = 0
        self._ends.pop(digest, None)

    def _lost(self, host: DeviceHost, suspects: list[Tenant]) -> None:
        if host is not self._host or self._fault or not self._got or self._processes.ready is None:
            return  # not in use, or lost with the process that starts workers, which is nobody's fault
        self._losses += 1
        _log.warning("the worker of GPU %d was lost: %s", self._device.number, host.end_reason)
        for tenant in suspects:
            if tenant.state == "starting":
                self.engines.are_broken(tenant.digest)
            self._ends[tenant.digest] += 1
            if self._ends[tenant.digest] >= MOST_ENDS:
                self._banned[tenant.digest] = Banned(
                    f"the GPU's worker ended {MOST_ENDS} times while it was loading or running: {host.end_reason}"
                )
        if self._losses >= _MOST_LOSSES:
            self._fault = f"the GPU's worker ended {self._losses} times with no answer between: {host.end_reason}"
            _log.error("models run on %s", self.summary)

    async def stop(self) -> None:
        """Gives up the worker; Processes.stop() ends it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

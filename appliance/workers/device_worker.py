"""The worker of one GPU: opens models beside each other, since each process would pay for a CUDA context of its own,
and answers their calls in turns, one batch each.

A plain synchronous loop in a confined process, as a model's own worker is. A model that ends this process ends it for
all its neighbours: who may come back, the gateway decides.
"""

import gc
import mmap
import os
import socket
from pathlib import Path
from typing import NoReturn

import msgspec

from appliance.core.errors import IngleError
from appliance.core.frames import (
    Held,
    Invoke,
    Kind,
    Load,
    Loaded,
    decode_invoke,
    decode_load,
    decode_unload,
    frame_start,
)
from appliance.workers import runtime
from appliance.workers.device_trial import free_bytes, options, try_device
from appliance.workers.device_turn import write_turn
from appliance.workers.devices import CPU
from appliance.workers.engines import is_engine_name, remove_engines
from appliance.workers.session import OutOfMemoryError
from appliance.workers.spec import WorkerSpec
from appliance.workers.stream import Frame, FrameStream
from appliance.workers.worker import Worker

# A model's first runs take what it keeps; later ones take more where larger batches come.
_FIRST_RUNS = 4
_LOOK_EVERY_RUNS = 64
# A change of less is not worth a word.
_NOTABLE_BYTES = 1024 * 1024


class _Tenant:
    """A model that is open here, and what it was measured to hold."""

    def __init__(self, worker: Worker, used_bytes: int, engines: Path | None) -> None:
        self.worker = worker
        self.engines = engines
        self.built = _look(engines)
        self.used_bytes = used_bytes
        self.told_bytes = used_bytes
        self.runs = 0


def _look(engines: Path | None) -> set[tuple[str, int, int]]:
    """The engines in a model's folder: a run with shapes that none is made for builds another, or one anew."""
    found = set()
    for path in engines.iterdir() if engines is not None else ():
        if is_engine_name(path.name):
            about = path.lstat()
            found.add((path.name, about.st_size, about.st_mtime_ns))
    return found


class DeviceWorker:
    """Serves the models that it is told to load, until the socket closes."""

    def __init__(self, spec: WorkerSpec, sock: socket.socket, region: mmap.mmap) -> None:
        self._spec = spec
        self._socket = sock
        self._region = region
        self._shared = memoryview(region)
        self._stream = FrameStream(sock)
        self._providers: tuple[str, ...] = ()
        self._tenants: dict[int, _Tenant] = {}

    def serve(self) -> None:
        """Says what the device is good for, then does as it is told. Returns when the gateway has gone."""
        tried = try_device(self._spec)
        self._providers = tuple(tried.providers)
        self._say(Kind.LOADED, tried)
        while True:
            write_turn(self._shared, 0)
            try:
                frames = self._stream.read(wait=not any(tenant.worker.waiting for tenant in self._tenants.values()))
            except EOFError:
                return
            for frame in frames:
                self._hear(frame)
            for number, tenant in list(self._tenants.items()):
                if tenant.worker.waiting:
                    write_turn(self._shared, number)
                    self._run(number, tenant)

    def _say(self, kind: Kind, head: msgspec.Struct) -> None:
        self._socket.sendall(frame_start(kind, head, 0))

    def _hear(self, frame: Frame) -> None:
        if frame.kind == Kind.INVOKE:
            invoke: Invoke = decode_invoke(frame.head)
            # One that was unloaded meanwhile answers nothing: the gateway gives its calls to another.
            if tenant := self._tenants.get(invoke.tenant):
                write_turn(self._shared, invoke.tenant)
                tenant.worker.accept(invoke, frame.body)
        elif frame.kind == Kind.LOAD:
            load: Load = decode_load(frame.head)
            write_turn(self._shared, load.tenant)
            self._load(load)
        elif frame.kind == Kind.UNLOAD:
            self._drop(decode_unload(frame.head).tenant, "")

    def _load(self, load: Load) -> None:
        before_bytes = free_bytes(self._spec)
        spec = msgspec.structs.replace(
            self._spec,
            role="serve",
            folder=load.folder,
            manifest=load.manifest,
            threads=load.threads,
            max_batch=load.max_batch,
        )
        engines = Path(load.engines) if load.engines else None
        worker, loaded = self._opened(spec, engines)
        fault = self._fault() if loaded.error else ""
        if loaded.error and not fault and not loaded.no_memory and engines is not None and remove_engines(engines):
            # What was kept may be why: damaged, or of another release than was believed.
            worker, loaded = self._opened(spec, engines)
            fault = self._fault() if loaded.error else ""
        loaded.tenant = load.tenant
        after_bytes = free_bytes(self._spec)
        loaded.free_bytes = after_bytes
        if not loaded.error:
            loaded.used_bytes = max(0, before_bytes - after_bytes)
            assert worker is not None
            self._tenants[load.tenant] = _Tenant(worker, loaded.used_bytes, engines)
        self._say(Kind.LOADED, loaded)
        if fault:
            self._end(load.tenant, f"its load broke the device: {fault}")

    def _fault(self) -> str:
        return runtime.device_fault(self._spec.device_number)

    def _end(self, number: int, reason: str) -> NoReturn:
        """Ends the process, which can use the device no more, and says whose doing that was."""
        self._say(Kind.HELD, Held(number, 0, -1, gone=True, reason=reason, ends=True))
        raise RuntimeError(reason)

    def _opened(self, spec: WorkerSpec, engines: Path | None) -> tuple[Worker | None, Loaded]:
        """The model's worker and how its load went; None where it did not open, and then it holds nothing."""
        worker = Worker(spec, self._socket, self._region, options(self._spec, self._providers, engines), self._fault)
        loaded = worker.load()
        if not loaded.error and loaded.providers == [CPU]:
            loaded.error = "the session got the CPU alone"
        if not loaded.error:
            # At its deploy the CPU answered them: another processor rounds otherwise, and may be wrong.
            try:
                worker.check_vectors()
            except IngleError as error:
                loaded.error, loaded.no_memory = error.sentence, isinstance(error, OutOfMemoryError)
        if not loaded.error:
            return worker, loaded
        del worker
        gc.collect()
        return None, loaded

    def _run(self, number: int, tenant: _Tenant) -> None:
        looks = tenant.runs < _FIRST_RUNS or tenant.runs % _LOOK_EVERY_RUNS == 0
        before_bytes = free_bytes(self._spec) if looks else -1
        tenant.runs += 1
        tenant.worker.run_next()
        if tenant.worker.device_is_broken:
            self._end(number, tenant.worker.spent)
        if tenant.worker.spent:
            if tenant.worker.engine_is_broken and tenant.engines is not None:
                remove_engines(tenant.engines)
            self._drop(number, tenant.worker.spent)
        elif looks:
            self._look(number, tenant, before_bytes)

    def _look(self, number: int, tenant: _Tenant, before_bytes: int) -> None:
        """Tells what a run has changed, where it is worth a word."""
        after_bytes = free_bytes(self._spec)
        if before_bytes >= 0:
            # Nobody else runs here meanwhile, so the difference is this model's, unless another program's.
            tenant.used_bytes = max(0, tenant.used_bytes + before_bytes - after_bytes)
        built = _look(tenant.engines)
        if abs(tenant.used_bytes - tenant.told_bytes) >= _NOTABLE_BYTES or built != tenant.built:
            tenant.told_bytes, tenant.built = tenant.used_bytes, built
            self._say(Kind.HELD, Held(number, tenant.used_bytes, after_bytes))

    def _drop(self, number: int, reason: str) -> None:
        if tenant := self._tenants.pop(number, None):
            tenant.worker.close()
            gc.collect()  # the session's arena on the device goes with it, now
        self._say(Kind.HELD, Held(number, 0, free_bytes(self._spec), gone=True, reason=reason))


def run_device_worker(spec: WorkerSpec, sock: socket.socket, region_fd: int) -> None:
    """The body of the forked process."""
    region = mmap.mmap(region_fd, os.fstat(region_fd).st_size)
    os.close(region_fd)
    DeviceWorker(spec, sock, region).serve()

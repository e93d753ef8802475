"""Has optimised graphs made in the background, one at a time, and says which one a cold start may load.

Runs in the gateway's event loop; the cache's disk is touched in threads, the model only in a confined child. Nothing
here is in a call's path: a model without a graph is loaded from its own file.
"""

import asyncio
import contextlib
import logging
import os
import re
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.core.models import ModelVersion
from appliance.workers.child import Child
from appliance.workers.graph_cache import GraphCache
from appliance.workers.graph_key import GraphKey, cpu_flags_here, make_key
from appliance.workers.processes import Processes
from appliance.workers.spec import CachedGraph, WorkerSpec
from appliance.workers.verdict import GraphVerdict

CPU_ONLY = ("CPUExecutionProvider",)
TIMEOUT_S = 300.0
# A load that takes no longer than this has nothing to gain that a caller would notice.
WORTH_TRYING_S = 0.005
_MAX_WISHES = 256
_MAX_VERDICT_BYTES = 64 * 1024
# The model in the file, as it is open, as it is open a second time, and what optimising it takes on top.
_MEMORY_TIMES = 4
_SPARE_BYTES = 128 * 1024 * 1024
# A graph that failed so often under its workers is not made a further time while the node runs.
_MOST_FAULTS = 2

_log = logging.getLogger("ingle.workers")


class Optimiser:
    """graph_for() before a worker starts, loaded() or broken() when it is known how that went, forget() when an
    artifact is gone. `data_bytes` bounds the child's private memory; 0: unbounded."""

    def __init__(self, processes: Processes, cache: GraphCache, *, data_bytes: int) -> None:
        self._processes = processes
        self._cache = cache
        self._data_bytes = data_bytes
        self._cpu = cpu_flags_here()
        self._wishes: deque[ModelVersion] = deque()
        self._wake = asyncio.Event()
        self._faults: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._disk: set[asyncio.Task[None]] = set()

    async def start(self, digests: set[str]) -> None:
        """Reads the cache, keeping what belongs to these artifacts, and begins to serve wishes."""
        if not self._cache.budget_bytes:
            return
        try:
            await asyncio.to_thread(self._cache.open, digests)
        except OSError as error:
            _log.warning("no optimised graphs are cached: %s", error)
            return
        self._task = asyncio.get_running_loop().create_task(self._serve_wishes())

    def _key(self) -> GraphKey | None:
        """Of this box with the runtime that its zygote has now; None while there is no zygote."""
        ready = self._processes.ready
        return make_key(ready.runtime, self._cpu, CPU_ONLY) if ready else None

    def graph_for(self, model: ModelVersion) -> CachedGraph | None:
        """The graph that a worker of this model should load, if there is one for this box."""
        key = self._key()
        return self._cache.find(model.digest, key) if key else None

    def loads_from(self, model: ModelVersion) -> str:
        """What a worker of this model loads, as a phrase."""
        key = self._key()
        entry = self._cache.entry(model.digest, key) if key else None
        if entry is None:
            return "its own file"
        if entry.refused:
            return f"its own file: {entry.refused}"
        return (
            f"a cached optimised graph: {entry.cached_s * 1e3:.0f} ms of processor time for a load and first run, "
            f"{entry.original_s * 1e3:.0f} ms from its own file"
        )

    def loaded(self, model: ModelVersion, *, load_s: float, providers: list[str]) -> None:
        """A worker has loaded the model from its own file: a graph is made, if that may pay and was not tried."""
        key = self._key()
        if (
            self._task is not None
            and key is not None
            and load_s >= WORTH_TRYING_S
            and tuple(providers) == CPU_ONLY
            and len(self._wishes) < _MAX_WISHES
            and self._faults[model.digest] < _MOST_FAULTS
            and not self._cache.tried(model.digest, key)
            and all(wish.digest != model.digest for wish in self._wishes)
        ):
            self._wishes.append(model)
            self._wake.set()

    def broken(self, model: ModelVersion, fault: str) -> None:
        """A worker could not load the graph, or died before its first answer: the model's own file is loaded next."""
        key = self._key()
        _log.warning("the cached optimised graph of %s is removed: %s", model, fault)
        self._faults[model.digest] += 1
        if key is not None:
            self._cache.disown(model.digest, key)
            self._on_disk(self._cache.drop, model.digest, key)

    def forget(self, model: ModelVersion) -> None:
        """A version is gone; where its artifact went with it, so do its graphs."""
        self._on_disk(self._forget_if_gone, model)

    def _forget_if_gone(self, model: ModelVersion) -> None:
        if not Path(model.folder).exists():
            self._cache.forget(model.digest)

    def _on_disk(self, act: Callable[..., None], *arguments: object) -> None:
        task = asyncio.get_running_loop().create_task(self._in_thread(act, *arguments))
        self._disk.add(task)
        task.add_done_callback(self._disk.discard)

    @staticmethod
    async def _in_thread(act: Callable[..., None], *arguments: object) -> None:
        try:
            await asyncio.to_thread(act, *arguments)
        except OSError as error:
            _log.warning("the cache of optimised graphs failed: %s", error)

    async def _serve_wishes(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wishes:
                model = self._wishes.popleft()
                try:
                    await self._optimise(model)
                except (OSError, ValueError) as error:
                    _log.warning("no optimised graph of %s is kept: %s", model, error)
            await asyncio.to_thread(self._cache.touch)

    async def _optimise(self, model: ModelVersion) -> None:
        key = self._key()
        if key is None or self._cache.tried(model.digest, key) or not await asyncio.to_thread(_has_room, model):
            return
        made = await asyncio.to_thread(self._cache.new_folder)
        try:
            verdict = await self._verdict(model, made)
            if verdict.refused:
                await asyncio.to_thread(self._cache.refuse, model.digest, key, verdict.refused)
                _log.info("%s is always loaded from its own file: %s", model, verdict.refused)
                return
            await asyncio.to_thread(
                self._cache.place,
                model.digest,
                key,
                made,
                original_s=verdict.original_s,
                cached_s=verdict.cached_s,
            )
            # It may have been deleted meanwhile, and nobody else will say so.
            await asyncio.to_thread(self._forget_if_gone, model)
            _log.info(
                "%s has a cached optimised graph: %.0f ms of a load are %.0f ms",
                model,
                verdict.original_s * 1e3,
                verdict.cached_s * 1e3,
            )
        finally:
            await asyncio.to_thread(self._cache.discard, made)

    async def _verdict(self, model: ModelVersion, made: Path) -> GraphVerdict:
        """What a child says that was told to write the graph into `made`; its death is a refusal. Raises OSError where
        no child could be started."""
        child = Child(self._processes.next_number())
        log: deque[str] = deque(maxlen=20)
        spec = WorkerSpec(
            number=child.number,
            role="optimise",
            folder=model.folder,
            manifest=model.manifest,
            threads=1,
            max_batch=1,
            providers=CPU_ONLY,
            data_bytes=self._data_bytes,
            output=str(made),
            file_bytes=2 * model.size_bytes + _SPARE_BYTES,
        )
        sock = self._processes.fork_alone(spec, child, log)
        if sock is None:
            raise ConnectionError("no process could be started")
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_MAX_VERDICT_BYTES)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                said = await reader.read(_MAX_VERDICT_BYTES)
                if said:
                    return msgspec.json.decode(said, type=GraphVerdict)
                await child.ended.wait()
        except TimeoutError:
            return GraphVerdict(refused=f"it was not optimised after {TIMEOUT_S:.0f} s")
        except (msgspec.MsgspecError, ConnectionError) as error:
            return GraphVerdict(refused=f"the process that optimised it failed: {error}")
        finally:
            child.kill()
            writer.close()
        if child.blameless:
            raise ConnectionError("the process that starts workers was lost")
        last = f"; its last words: {log[-1]}" if log else ""
        return GraphVerdict(refused=f"the process that optimised it died: {child.end_reason}{last}")

    async def stop(self) -> None:
        """Gives up what is being made; the process that makes it ends with the zygote."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._disk, return_exceptions=True)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._cache.touch)


def _has_room(model: ModelVersion) -> bool:
    """Whether memory and disk have room to spare: models that are called come first."""
    disk = os.statvfs(model.folder)
    return (
        _available_bytes(Path("/proc/meminfo")) > _MEMORY_TIMES * model.size_bytes + _SPARE_BYTES
        and disk.f_bavail * disk.f_frsize > 2 * model.size_bytes + _SPARE_BYTES
    )


def _available_bytes(meminfo: Path) -> int:
    """What the kernel says can be had without swapping; without bound where it does not say."""
    with contextlib.suppress(OSError):
        if found := re.search(r"^MemAvailable:\s*(\d+) kB$", meminfo.read_text(), re.MULTILINE):
            return int(found[1]) * 1024
    return 2**63

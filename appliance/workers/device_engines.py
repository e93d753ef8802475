"""The engines that TensorRT builds on this node's device: there before a load, looked at after it, gone with their
model.

Runs in the gateway's event loop; the disk is touched in threads. Knows neither the device's worker nor peers: who
shares engines sets `seek` and `on_change`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from appliance.core.models import ModelVersion
from appliance.workers.engine_cache import EngineCache

# Where a box cannot say what its engines depend on: they are kept for itself alone.
UNKNOWN_KIND = "0" * 16

_log = logging.getLogger("ingle.workers")


async def _none_elsewhere(_model: ModelVersion) -> None:
    """Engines are had of nobody."""


def _unheard(_model: ModelVersion, _gone: list[str]) -> None:
    """Nobody listens."""


class DeviceEngines:
    """open() before the device is tried, found_kind() after it; folder_for() before each load and built() after it.

    `kind`: what engines depend on here, as one word; empty while none are kept. `seek(model)` may put engines there for
    a model that has none, and raises nothing. `on_change(model, gone)` hears whose engines may be others than before,
    and the digests of the models whose engines were removed to make room.
    """

    def __init__(self, cache: EngineCache) -> None:
        self.cache = cache
        self.kind = ""
        self.is_open = False
        self.seek: Callable[[ModelVersion], Awaitable[None]] = _none_elsewhere
        self.on_change: Callable[[ModelVersion, list[str]], None] = _unheard
        self._models: dict[str, ModelVersion] = {}  # by digest, those that were loaded
        self._broken: set[str] = set()  # digests

    async def open(self, digests: Collection[str]) -> None:
        """Keeps the engines of these artifacts, where any are to be kept. Raises nothing."""
        if self.cache.budget_bytes:
            try:
                await asyncio.to_thread(self.cache.open, digests)
                self.is_open = True
            except OSError as error:
                _log.warning("no engines of TensorRT are kept: %s", error)

    def found_kind(self, kind: str) -> None:
        """The device runs by TensorRT, and engines depend there on what has this word; empty where it cannot say."""
        if self.is_open:
            self.kind = kind or UNKNOWN_KIND

    async def folder_for(self, model: ModelVersion) -> str:
        """Where the model is to be loaded with its engines, which are there if they can be had soon; empty where none
        can be kept."""
        digest = model.digest
        self._models[digest] = model
        try:
            if digest in self._broken:
                self._broken.discard(digest)
                _log.warning("the engines of %s are built anew, since the GPU's worker died with them", model)
                await asyncio.to_thread(self.cache.drop, self.kind, digest)
            elif not await asyncio.to_thread(self.cache.has, self.kind, digest):
                await self.seek(model)
            return str(await asyncio.to_thread(self.cache.prepare, self.kind, digest))
        except OSError as error:
            _log.warning("the engines of %s are not kept: %s", model, error)
            return ""

    def are_broken(self, digest: str) -> None:
        """The worker died while it loaded this model."""
        self._broken.add(digest)

    async def built(self, digest: str, in_use: Collection[str]) -> None:
        """This model may have other engines than before, and nobody writes them now. `in_use`: the digests of the
        models that are loaded, which keep theirs."""
        gone = await asyncio.to_thread(self.cache.make_room, [(self.kind, each) for each in in_use])
        if (model := self._models.get(digest)) is not None:
            self.on_change(model, gone)

    async def forget(self, model: ModelVersion) -> None:
        """A version is gone; where its artifact went with it, so do its engines."""
        if not await asyncio.to_thread(Path(model.folder).exists):
            self._models.pop(model.digest, None)
            await asyncio.to_thread(self.cache.forget, model.digest)
        self.on_change(model, [])

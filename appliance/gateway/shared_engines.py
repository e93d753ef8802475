"""TensorRT's engines, shared among nodes whose GPUs are of one kind: peers may have this node's, and before a model is
first loaded here, theirs are asked for.

Runs in the gateway's event loop. To build an engine takes minutes, to fetch one seconds: a fetch that promises no such
thing is given up, and the engine is built. Whom to ask and how long to wait are decided by plain functions. What is
fetched are files with engines' names in a folder that the worker of the device opens; what they are good for, only
TensorRT in that worker can say.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from appliance.catalogue.catalogue import Catalogue
from appliance.core.errors import IngleError, UnavailableError
from appliance.core.models import ModelVersion
from appliance.routing.own_state import key_of
from appliance.workers.device_engines import UNKNOWN_KIND, DeviceEngines
from appliance.workers.engine_cache import EngineSet
from federation.fetching import Progress
from federation.landing import ARTIFACT_FOLDER
from federation.messages import Engines
from federation.peer import Peer
from federation.serving import Held
from federation.transfer import Transfers

WAIT_S = 30.0  # the most that a load waits for a peer's engines; 3 GB come in that time at 1 Gbit/s
STILL_S = 3.0  # without a byte
FORECAST_S = 2.0  # of bytes coming, until it is reckoned when they will be here
LOOK_S = 0.05
REFUSED_S = 600.0  # engines that could not be had are not asked for again so soon
MAX_AT_ONCE = 4
MAX_TOLD = 256  # models of which peers are told
MAX_BYTES = 8 * 2**30  # of one model's engines

_log = logging.getLogger("ingle.copies")


class Wanted(NamedTuple):
    """A peer's engines, and who has the same."""

    digest: str
    size_bytes: int
    holders: tuple[str, ...]


def choose(
    kind: str, key: str, peers: Iterable[Peer], *, most_bytes: int, refused: Collection[str] = ()
) -> Wanted | None:
    """Which of the engines for the model `key` (model_key()) to fetch, that peers have built on a GPU of this kind:
    those that most have, of like ones those that are nearest; None where there are none to be had. `refused`: digests.
    """
    offers: dict[Engines, list[Peer]] = {}
    for peer in peers:
        if (
            (engines := _offered(kind, key, peer))
            and engines.digest not in refused
            and engines.size_bytes <= most_bytes
        ):
            offers.setdefault(engines, []).append(peer)
    if not offers:
        return None
    best = min(offers, key=lambda each: (-len(offers[each]), min(p.rtt_s for p in offers[each]), each.digest))
    return Wanted(best.digest, best.size_bytes, tuple(peer.node_id for peer in offers[best]))


def _offered(kind: str, key: str, peer: Peer) -> Engines | None:
    if peer.outside or peer.standing not in ("alive", "suspect") or peer.hello.engine_kind != kind:
        return None
    state = peer.models.get(key)
    return state.engines if state is not None else None


def is_worth_waiting(*, elapsed_s: float, still_s: float, done_bytes: int, size_bytes: int) -> bool:
    """Whether a fetch that began `elapsed_s` ago, and of which nothing came for `still_s`, will be done in time."""
    if still_s > STILL_S or elapsed_s > WAIT_S:
        return False
    return elapsed_s < FORECAST_S or elapsed_s * size_bytes <= WAIT_S * done_bytes


class EnginesMesh(Protocol):
    """What is asked of federation.mesh.Mesh."""

    def peers(self) -> Sequence[Peer]: ...
    def set_engine_kind(self, kind: str) -> None: ...


class SharedEngines:
    """start() once the mesh is up and the device was tried. `told` is filled with what peers may have, by
    model_key()."""

    def __init__(
        self,
        catalogue: Catalogue,
        mesh: EnginesMesh,
        transfers: Transfers,
        engines: DeviceEngines,
        *,
        told: dict[str, Engines],
    ) -> None:
        self._catalogue = catalogue
        self._mesh = mesh
        self._transfers = transfers
        self._engines = engines
        self._told = told
        self._models: dict[str, str] = {}  # the digests of those, by model_key()
        self._refused: dict[str, float] = {}  # by digest, until when, on time.monotonic()'s clock
        self._under_way: set[str] = set()  # digests
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Does nothing where no engines are kept, or the box cannot say what they depend on."""
        if self._engines.kind in ("", UNKNOWN_KIND):
            return
        self._engines.seek = self.seek
        self._engines.on_change = lambda model, gone: self._do(self._tell(model, gone))
        self._mesh.set_engine_kind(self._engines.kind)
        self._do(self._tell_kept())

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # This node's.

    async def _tell_kept(self) -> None:
        """What earlier runs of the node have built."""
        held = [version for entry in self._catalogue.held() for version in entry.versions]
        cache, kind = self._engines.cache, self._engines.kind
        found = await asyncio.to_thread(cache.found, kind, {model.digest for model in held})
        for model in held:
            if model.digest in found:
                self._offer(model, found[model.digest])

    async def _tell(self, model: ModelVersion, gone: Collection[str]) -> None:
        """Engines of this one may be others than before; those of the models with the digests `gone` are no more."""
        for key in [key for key, digest in self._models.items() if digest in gone]:
            self._withdraw(key)
        cache, kind = self._engines.cache, self._engines.kind
        is_here = self._catalogue.own(model) is not None
        self._offer(model, await asyncio.to_thread(cache.find, kind, model.digest) if is_here else None)

    def _offer(self, model: ModelVersion, found: EngineSet | None) -> None:
        key = key_of(model)
        self._withdraw(key)
        if found is not None:
            while len(self._told) >= MAX_TOLD:
                self._withdraw(next(iter(self._told)))
            self._told[key] = Engines(found.digest, found.size_bytes)
            self._models[key] = model.digest
            self._transfers.give(found.digest, Held(found.folder, found.files))

    def _withdraw(self, key: str) -> None:
        self._models.pop(key, None)
        before = self._told.pop(key, None)
        if before is not None and before not in self._told.values():
            self._transfers.take_back(before.digest)

    # Peers'.

    async def seek(self, model: ModelVersion) -> None:
        """Has a peer's engines where the model is loaded from, if that is soon done. Raises nothing."""
        wanted = self._choose(model)
        if wanted is None or wanted.digest in self._under_way or len(self._under_way) >= MAX_AT_ONCE:
            return
        self._under_way.add(wanted.digest)
        began_s = time.monotonic()
        try:
            await self._take(model, wanted)
        except (IngleError, OSError, ValueError) as error:
            self._refuse(wanted.digest)
            _log.warning("a peer's engines for %s were not had, and are built here: %s", model, error)
        except Exception:
            self._refuse(wanted.digest)
            _log.exception("a fault of ours in fetching engines for %s", model)
        else:
            took_s = time.monotonic() - began_s
            _log.info("the engines of %s are a peer's: %d bytes in %.1f s", model, wanted.size_bytes, took_s)
        finally:
            self._under_way.discard(wanted.digest)

    def _choose(self, model: ModelVersion) -> Wanted | None:
        now_s = time.monotonic()
        self._refused = {digest: until_s for digest, until_s in self._refused.items() if until_s > now_s}
        return choose(
            self._engines.kind,
            key_of(model),
            self._mesh.peers(),
            most_bytes=min(MAX_BYTES, self._engines.cache.budget_bytes),
            refused=self._refused,
        )

    def _refuse(self, digest: str) -> None:
        while len(self._refused) >= MAX_TOLD:
            del self._refused[next(iter(self._refused))]
        self._refused[digest] = time.monotonic() + REFUSED_S

    async def _take(self, model: ModelVersion, wanted: Wanted) -> None:
        cache, kind = self._engines.cache, self._engines.kind
        folder = cache.incoming / wanted.digest
        try:
            files = await self._fetched(key_of(model), wanted, folder)
            await asyncio.to_thread(cache.take, kind, model.digest, folder / ARTIFACT_FOLDER, files)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _fetched(self, key: str, wanted: Wanted, folder: Path) -> Mapping[str, str]:
        """Raises UnavailableError where it takes too long, and what Transfers.fetch() raises."""
        began_s = moved_s = time.monotonic()
        done_bytes = 0

        def on_progress(progress: Progress) -> None:
            nonlocal done_bytes, moved_s
            if progress.done_bytes > done_bytes:
                done_bytes, moved_s = progress.done_bytes, time.monotonic()

        def holders() -> list[str]:
            offers = [(peer, _offered(self._engines.kind, key, peer)) for peer in self._mesh.peers()]
            return [peer.node_id for peer, offer in offers if offer is not None and offer.digest == wanted.digest]

        fetch = asyncio.ensure_future(
            self._transfers.fetch(wanted.digest, wanted.size_bytes, folder, holders=holders, on_progress=on_progress)
        )
        try:
            while not (await asyncio.wait([fetch], timeout=LOOK_S))[0]:
                now_s = time.monotonic()
                if not holders():
                    raise UnavailableError("no node that is in reach has them any more")
                if not is_worth_waiting(
                    elapsed_s=now_s - began_s,
                    still_s=now_s - moved_s,
                    done_bytes=done_bytes,
                    size_bytes=wanted.size_bytes,
                ):
                    raise UnavailableError(
                        f"{done_bytes} of {wanted.size_bytes} bytes came in {now_s - began_s:.1f} s, which is too slow"
                    )
            return fetch.result()
        finally:
            fetch.cancel()
            await asyncio.gather(fetch, return_exceptions=True)
            self._transfers.forget(wanted.digest)  # its files move on, or go

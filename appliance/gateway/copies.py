"""Copies of versions across the mesh: this node makes those that a wish or a peer wants of it, and deletes what was
deleted anywhere.

Runs in the gateway's event loop. Nobody gives orders for a wish: each node reckons which copies it owes
(routing/copies_due.py) and makes them. Copies are taken away by a deletion that was meant for all; those that the mesh
made by itself also where the disk is short of room (disk_room.py).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from appliance.catalogue.catalogue import Catalogue
from appliance.core.copy_wish import NO_WISH, CopyWish, read_wish
from appliance.core.errors import (
    BadInputError,
    ConflictError,
    IngleError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from appliance.core.models import OUTSIDE, ModelVersion
from appliance.core.names import ModelName, parse_name
from appliance.core.requests import Buffer
from appliance.gateway.copy_states import CopyState, Wished, copy_states
from appliance.gateway.copying import Copier, CopyFolders, Copying, held_in
from appliance.gateway.deletions import Deleted, Deletions, DeletionsMesh
from appliance.gateway.disk_room import DiskRoom
from appliance.gateway.mesh_catalogue import version_of
from appliance.gateway.pacing import paced
from appliance.routing.copies_due import Due, Memory, Place, Settling, copies_due, is_meant
from appliance.routing.own_state import key_of
from appliance.workers.inspector import Inspector
from federation.credible import credible_have
from federation.messages import Have, Head, Order, Record, model_key
from federation.peer import Peer
from federation.transfer import Transfers
from federation.view import MeshVersion

MAX_AT_ONCE = 2
LOOK_S = 1.0
SETTLE_S = 5.0  # after the start, or after this node was alone, until peers were met and told what they hold
RETRY_S = 30.0  # after a copy that could not be made, or deleted, now
SHOWN_S = 60.0  # a copy that failed is shown for so long
REFUSED_TOLD_S = 10.0  # between two words that a copy is refused here
REFUSED_HEARD_S = 3 * REFUSED_TOLD_S
FOLDER = "fetches"

_log = logging.getLogger("ingle.copies")


class CopiesMesh(DeletionsMesh, Protocol):
    """What is asked of federation.mesh.Mesh."""

    def peer(self, node_id: str) -> Peer | None: ...
    def send_copy(self, node_id: str, head: Head, body: Sequence[Buffer] = ()) -> bool: ...


class Copies:
    """start() once the mesh is up. on_copy(), on_change() and peer_gone() are fed with what the mesh tells."""

    def __init__(
        self,
        catalogue: Catalogue,
        inspector: Inspector,
        mesh: CopiesMesh,
        *,
        name: str,
        tags: Collection[str],
        order: Callable[[str, Order, float], Awaitable[None]],
        forget: Callable[[ModelVersion, ModelVersion | None], None],
        warm: Callable[[ModelVersion], Awaitable[None]],
        use: Callable[[ModelVersion], tuple[bool, float]],
        keep_free_bytes: int,
        busy_share: Callable[[], float],
    ) -> None:
        """`name` and `tags` are this node's. `order` has a peer carry one out, `forget` ends what runs of a version
        that is gone, `warm` has one warm here, `use` says how one is used here (DataPlane.use()). `keep_free_bytes`: of
        the disk, what copies that nobody wished for leave free. `busy_share`: of the box's processors, lately."""
        self._catalogue = catalogue
        self._mesh = mesh
        self._name = name
        self._tags = tuple(tags)
        self._warm = warm
        self.deletions = Deletions(catalogue, mesh, order=order, forget=forget)
        self.transfers = Transfers(mesh.send_copy, held_in(catalogue), self._alive, busy_share)
        self._folders = CopyFolders(catalogue.folder / FOLDER)
        self._copier = Copier(catalogue, inspector, self.transfers, self._folders)
        self.disk_room = DiskRoom(
            catalogue,
            mesh,
            order=order,
            forget=forget,
            use=use,
            wish=self.wish,
            places=self._places,
            copying=self._copied_now,
            keep_free_bytes=keep_free_bytes,
        )
        self._turn = asyncio.Semaphore(MAX_AT_ONCE)
        self._copyings: dict[str, Copying] = {}  # by digest
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._retry_s: dict[str, float] = {}
        self._refusing: dict[str, dict[str, float]] = {}  # by digest, which nodes refuse it, and until when
        self._told_refused_s = 0.0
        self._memory = Memory()
        self._wished: set[str] = set()
        self._changed: set[str] = set()
        self._undeleted: dict[str, float] = {}  # models of which the disk did not let go, and when it is tried again
        self._wake = asyncio.Event()
        self._settling = Settling(SETTLE_S, 0.0)
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Goes on with the fetches that the last run of the node left."""
        self._settling = Settling(SETTLE_S, time.monotonic())
        self.on_change(self._mesh.view.names())
        self._following = asyncio.get_running_loop().create_task(self._follow())
        self.disk_room.start()

    def stop(self) -> None:
        """What was fetched in part stays for the next start."""
        for task in (*self._tasks.values(), *([self._following] if self._following else [])):
            task.cancel()
        self.disk_room.stop()
        self.transfers.stop()

    # What the mesh tells.

    def on_copy(self, node_id: str, head: Head, body: list[Buffer]) -> None:
        """What came on a stream for copies."""
        if isinstance(head, Have) and head.refused and credible_have(head):
            while len(self._refusing) >= 1024:
                del self._refusing[next(iter(self._refusing))]
            self._refusing.setdefault(head.digest, {})[node_id] = time.monotonic() + REFUSED_HEARD_S
        self.transfers.on_copy(node_id, head, body)

    def on_change(self, names: Iterable[str]) -> None:
        """What the mesh holds or wishes of these models has changed."""
        self._changed.update(names)
        self._wake.set()

    def peer_gone(self, node_id: str) -> None:
        """A node is lost."""
        self.transfers.lost(node_id)
        self._wake.set()

    def acts(self) -> dict[str, Callable[[str, Order], Awaitable[None]]]:
        """What peers can order, by the order's word."""
        return {"fetch": self._on_fetch, "remove": self._on_remove, "keep": self.disk_room.on_keep}

    # Wishes.

    def check_wish(self, wish: CopyWish) -> list[str]:
        """What a person should know of a wish before it holds, as sentences. Raises NotFoundError for a node that
        nobody knows."""
        places = self._places()
        for word in wish.on:
            if not word.startswith("tag:") and not any(is_meant(place, (word,)) for place in places):
                known = ", ".join(sorted(place.name for place in places))
                raise NotFoundError(f"this mesh has no node '{word[:100]}'; it has {known}")
        meant = [place for place in places if is_meant(place, wish.on)]
        if len(meant) < max(1, wish.replicas):
            which = "as wished" if wish.on else "in this mesh"
            wished = max(1, wish.replicas)
            return [
                f"copies that are wished: {wished}; nodes {which} now: {len(meant)}. More are made when there are more"
            ]
        return []

    def set_wish(self, name: ModelName, wish: CopyWish) -> None:
        """Keeps what is wished of a model's copies, on every node."""
        value = "" if wish == NO_WISH else msgspec.json.encode(wish).decode()
        self._mesh.write_register(kind="copies", name=str(name), key="", value=value)
        self.on_change([str(name)])

    def wish(self, name: ModelName) -> CopyWish:
        model = self._mesh.view.model(str(name))
        return read_wish(model.wishes.get("copies", "")) if model else NO_WISH

    def states(self, may_see: Callable[[ModelName], bool]) -> list[CopyState]:
        """The versions of which copies are wished or made, by name and version."""
        now_s, places = time.monotonic(), self._places()
        wished = [
            Wished(version_of(version.record), self.wish(parse_name(name)), version.holders, due)
            for name in self._wished
            if may_see(parse_name(name))
            for version, due in self._dues(name, places, now_s)
        ]
        names = {place.node_id: place.name for place in places}
        making = [(copying, self._catalogue.holders(copying.model)) for copying in self._copyings.values()]
        states = copy_states(wished, making, self.transfers.heard(), names, self._mesh.node_id)
        return [state for state in states if may_see(state.model.name)]

    # Deletions.

    async def delete(self, name: ModelName, version: str | None) -> Deleted:
        """Deletes a version, or the model, wherever it lies, and what is wished of it; what was deleted. Raises
        NotFoundError, BadInputError, ConflictError for what lies on no node."""
        doomed: list[ModelVersion] = []
        try:
            doomed = self._catalogue.meant(name, version)
        except NotFoundError:
            if not (away := self.deletions.out_of_reach(name, version)):
                raise
        else:
            away = self.deletions.out_of_reach(name, version and str(doomed[0].version))
            if version is not None:  # of a version that was named, the content that is known by it
                away = [(holder, record) for holder, record in away if record.digest == doomed[0].digest]
        if outside := [model for model in doomed if model.source == OUTSIDE]:
            raise ConflictError(
                f"{outside[0]} lies on a Triton server, whose models are not deleted from here: unload it there, or "
                "take the server out with `ingle mesh remove`"
            )
        # What is lost for the moment is among those out of reach, unless its node is just coming back.
        told = {(record.version, record.digest) for _, record in away}
        doomed = [
            m
            for m in doomed
            if m.folder
            or self._catalogue.holders(m)
            or self._catalogue.conflict(m)
            or (str(m.version), m.digest) not in told
        ]
        for model in doomed:
            if not model.folder and (conflict := self._catalogue.conflict(model)):
                raise ConflictError(conflict)  # which of them is meant, only a node that holds one can say
        for model in doomed:
            await self._cancel(model.digest)
        deleted = await self.deletions.delete(doomed, away)
        if version is None and self.wish(name) != NO_WISH:
            self.set_wish(name, NO_WISH)
        return deleted

    async def _on_remove(self, node_id: str, order: Order) -> None:
        await self.deletions.on_order(node_id, order, self._is_needed)

    def _is_needed(self, own: ModelVersion) -> bool:
        """Whether copies would lack without this node's."""
        others = [node_id for node_id in self._catalogue.holders(own) if self._is_alive(node_id)]
        due = copies_due(key_of(own), self.wish(own.name), self._places(), others, ())
        return not others or due.wanted > len(due.counted)

    # Orders.

    async def fetch(self, model: ModelVersion) -> ModelVersion:
        """A copy of a version on this node's disk. Raises UnavailableError with the reason where it could not be made,
        or was tried a moment ago."""
        order = Order(0, "fetch", str(model.name), str(model.version), model.digest)
        if (version := self._version(order)) is not None:
            self._begin(version.record)
        copying, task = self._copyings.get(model.digest), self._tasks.get(model.digest)
        if task is not None:
            await asyncio.wait([task])
        own = self._catalogue.own(model)
        if own is None:
            reason = copying.reason if copying else ""
            raise UnavailableError(reason or f"no node that is in reach gives a copy of {model}")
        return own

    async def _on_fetch(self, _node_id: str, order: Order) -> None:
        version = self._version(order)
        if version is None:
            raise NotFoundError(f"no node that is in reach here holds {order.model[:200]}:{order.version[:60]}")
        if (why := self._folders.refused.get(version.record.digest)) is not None:
            raise RefusedError(why)
        if version.record.digest not in self._tasks and self._catalogue.own(version_of(version.record)) is None:
            await self._make_room(version.record)  # whoever orders it has another node do it
        self._retry_s.pop(version.record.digest, None)
        self._begin(version.record, warm_it=order.why == "warm")

    def _version(self, order: Order) -> MeshVersion | None:
        """What is to be copied; None for what no node has."""
        model = self._mesh.view.model(order.model)
        version = model.versions.get(order.version) if model else None
        if version is None or version.record.source == OUTSIDE:
            return None
        return version if order.digest in ("", version.record.digest) else None

    # What is to be done.

    async def _follow(self) -> None:
        try:
            for record in await asyncio.to_thread(self._folders.open):
                _log.info("the copy of %s:%s that was being made is gone on with", record.name, record.version)
                self._begin(record)
        except IngleError as error:
            _log.error("copies that were being made are not gone on with: %s", error.sentence)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):  # wait_for() of Python 3.11 may swallow the task's end
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._take_changed(time.monotonic())
                await self._look(time.monotonic())
            except Exception:  # all copies hang on this: it goes on
                _log.exception("a fault of ours in the copies of models")

    async def _take_changed(self, now_s: float) -> None:
        again = {name for name, at_s in self._undeleted.items() if now_s >= at_s}
        changed, self._changed = self._changed | again, set()
        async for name in paced(changed):
            model = self._mesh.view.model(name)
            (self._wished.add if model and model.wishes.get("copies") else self._wished.discard)(name)
            self._undeleted.pop(name, None)
            if model is not None and not await self.deletions.take(model):
                self._undeleted[name] = now_s + RETRY_S

    async def _look(self, now_s: float) -> None:
        self._forget_ended(now_s)
        keys = set()
        refused_here = []
        places = self._places()
        settled = self._settling.is_settled(alone=not self._alive(), now_s=now_s)
        async for name in paced(iter(sorted(self._wished))):
            for version, due in self._dues(name, places, now_s):
                record = version.record
                keys.add(_record_key(record))
                if record.digest in self._folders.refused:
                    refused_here.append(record.digest)
                elif self._mesh.node_id in due.to_fetch and settled:
                    self._begin(record)
        self._memory.keep_only(keys)
        if now_s - self._told_refused_s > REFUSED_TOLD_S:
            self._told_refused_s = now_s
            for digest in refused_here:
                self._tell_refused(digest)

    def _dues(self, name: str, places: list[Place], now_s: float) -> Iterator[tuple[MeshVersion, Due]]:
        model = self._mesh.view.model(name)
        if model is None:
            return
        wish = read_wish(model.wishes.get("copies", ""))
        for version in model.versions.values():
            if version.record.source == OUTSIDE:
                continue
            key = _record_key(version.record)
            holders = self._memory.holders(key, version.holders, now_s)
            yield version, copies_due(key, wish, places, holders, self._refusers(version.record.digest, now_s))

    def _refusers(self, digest: str, now_s: float) -> set[str]:
        refusers = {n for n, until_s in self._refusing.get(digest, {}).items() if until_s > now_s}
        return refusers | ({self._mesh.node_id} if digest in self._folders.refused else set())

    def _begin(self, record: Record, *, warm_it: bool = False) -> None:
        """Has the copy made, unless it is there, being made, or failed a moment ago."""
        digest = record.digest
        if digest in self._tasks:
            self._copyings[digest].warm_it |= warm_it
            return
        if self._retry_s.get(digest, 0.0) > time.monotonic():
            return
        try:
            model = version_of(record)
        except BadInputError:
            return
        if self._catalogue.own(model) is None:
            self._copyings[digest] = Copying(model, warm_it=warm_it)
            self._tasks[digest] = asyncio.get_running_loop().create_task(self._make(record))

    async def _make(self, record: Record) -> None:
        copying = self._copyings[record.digest]
        try:
            async with self._turn:
                await self._make_room(record)
                made = await self._copier.copy(copying, record, lambda: self._holders(record))
            _log.info("%s has a copy on this node", made)
            if copying.warm_it:
                await self._warm_up(made)
        except IngleError as error:
            copying.refused = isinstance(error, RefusedError) and record.digest in self._folders.refused
            copying.step, copying.reason = "failed", error.sentence
            self._retry_s[record.digest] = time.monotonic() + RETRY_S
            _log.warning("no copy of %s could be made on this node: %s", copying.model, error.sentence)
            if copying.refused:
                self._tell_refused(record.digest)
        except asyncio.CancelledError:
            copying.step, copying.reason = "failed", "it was given up"
            raise
        except Exception:
            copying.step, copying.reason = "failed", "the node failed on this copy, and has logged why"
            self._retry_s[record.digest] = time.monotonic() + RETRY_S
            _log.exception("a fault of ours in a copy of %s", copying.model)
        finally:
            copying.ended_s = time.monotonic()
            self._tasks.pop(record.digest, None)
            self._wake.set()

    async def _make_room(self, record: Record) -> None:
        """Raises UnavailableError where nobody wishes for the copy and there is no room to spare."""
        there_bytes = await asyncio.to_thread(self._folders.size_bytes, record.digest)
        places = self._places()
        dues = self._dues(record.name, places, time.monotonic())
        owed = any(v.record.digest == record.digest and self._mesh.node_id in due.to_fetch for v, due in dues)
        await self.disk_room.make(
            max(0, record.size_bytes - there_bytes), f"for {record.name}:{record.version}", unasked=not owed
        )

    async def _warm_up(self, model: ModelVersion) -> None:
        try:
            await self._warm(model)
        except IngleError as error:
            _log.warning("%s has a copy on this node, and does not get warm: %s", model, error.sentence)

    async def _cancel(self, digest: str) -> None:
        """A copy of what is deleted is not made any more."""
        task = self._tasks.get(digest)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(self._folders.drop, digest)

    def _forget_ended(self, now_s: float) -> None:
        for digest, copying in list(self._copyings.items()):
            shown_s = SHOWN_S if copying.step == "failed" else 0.0
            if digest not in self._tasks and now_s - copying.ended_s > shown_s:
                del self._copyings[digest]
        self._retry_s = {digest: until_s for digest, until_s in self._retry_s.items() if until_s > now_s}

    def _tell_refused(self, digest: str) -> None:
        why = self._folders.refused.get(digest, "")[:500]
        for node_id in self._alive():
            self._mesh.send_copy(node_id, Have(digest, ended=True, refused=why), [])

    # Who there is.

    def _alive(self) -> list[str]:
        return [peer.node_id for peer in self._mesh.peers() if peer.standing in ("alive", "suspect", "draining")]

    def _is_alive(self, node_id: str) -> bool:
        peer = self._mesh.peer(node_id)
        return peer is not None and peer.standing == "alive"

    def _places(self) -> list[Place]:
        """All nodes of the mesh, this one among them."""
        others = [Place(p.node_id, p.name, tuple(p.hello.tags), p.standing) for p in self._mesh.peers()]
        return [Place(self._mesh.node_id, self._name, self._tags, "alive"), *others]

    def _copied_now(self) -> set[str]:
        """The artifacts that are on their way to this node or another."""
        return self._tasks.keys() | {have.digest for _, have in self.transfers.heard()}

    def _holders(self, record: Record) -> list[str]:
        """The peers in reach that have a version's artifact now."""
        model = self._mesh.view.model(record.name)
        version = model.versions.get(record.version) if model else None
        if version is None or version.record.digest != record.digest:
            return []
        alive = set(self._alive())
        return [node_id for node_id in version.holders if node_id in alive]


def _record_key(record: Record) -> str:
    return model_key(record.name, record.version, record.digest)

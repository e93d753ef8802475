"""Keeps the catalogue and the mesh at one: what this node holds is told to the mesh, what the others hold is laid over
the catalogue, and aliases and wishes that were written anywhere hold here too.

Runs in the gateway's event loop; what is written to the disk is written in a thread.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.elsewhere import Elsewhere
from appliance.core.errors import BadInputError, IngleError
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName, parse_name
from appliance.core.scale import Scale
from appliance.core.traffic import Traffic
from appliance.core.versions import Version, parse_version
from appliance.gateway.pacing import paced
from federation.mesh import Mesh
from federation.messages import Record
from federation.view import MeshModel

Wish = TypeVar("Wish", Scale, Traffic)

_log = logging.getLogger("ingle.mesh")


def _unheard(_names: Iterable[str]) -> None:
    """Nobody listens."""


class MeshCatalogue:
    """start() once the mesh has started; it performs what others wrote, and announces what is written here."""

    def __init__(self, catalogue: Catalogue, mesh: Mesh, name: str) -> None:
        """`name` is this node's."""
        self._catalogue = catalogue
        self._mesh = mesh
        self._name = name
        self._records: dict[tuple[object, ...], Record] = {}
        self._changed: set[str] = set()
        self.on_change: Callable[[Iterable[str]], None] = _unheard  # hears the names of models that changed
        self._holdings_changed = False
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._mesh.on_catalogue_change = self._on_change
        self._catalogue.on_wish = self._announce
        self._catalogue.on_held = self._held_changed
        self._tell_holdings()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # What is here.

    def _tell_holdings(self) -> None:
        records: dict[tuple[object, ...], Record] = {}
        for entry in self._catalogue.held():
            for version in entry.versions:
                # The same object for what did not change, so that it is not hashed again.
                records[version.key] = self._records.get(version.key) or record_of(version)
        if records.keys() != self._records.keys():
            self._records = records
            self._mesh.set_holdings(records.values())

    def _held_changed(self) -> None:
        """Called from any thread."""
        self._loop.call_soon_threadsafe(self._wake_for_holdings)

    def _wake_for_holdings(self) -> None:
        self._holdings_changed = True
        self._wake.set()

    def _announce(self, kind: str, name: ModelName, key: str, value: str) -> None:
        """An alias or a wish was set here. Called from any thread."""
        self._loop.call_soon_threadsafe(
            lambda: self._mesh.write_register(kind=kind, name=str(name), key=key, value=value)
        )

    # What is elsewhere.

    def _on_change(self, names: Iterable[str]) -> None:
        self._changed.update(names)
        self._wake.set()

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            names, self._changed = self._changed, set()
            try:
                if self._holdings_changed:
                    self._holdings_changed = False
                    self._tell_holdings()
                await self._take(names)
            except Exception:  # all that is told of the catalogue hangs on this: it goes on
                _log.exception("a fault of ours in what the mesh told of models")

    async def _take(self, names: Iterable[str]) -> None:
        models: dict[ModelName, MeshModel | None] = {}
        told: dict[ModelName, Elsewhere | None] = {}
        async for text in paced(names):
            if not _is_name(text):
                continue  # registers are about nodes and servers too
            name, model = parse_name(text), self._mesh.view.model(text)
            models[name] = model
            told[name] = elsewhere(model, self._mesh.node_id, self._name_of) if model else None
        self.on_change(map(str, models))
        await asyncio.to_thread(self._catalogue.put_elsewhere, told)  # it may have to wait for a write to the disk
        async for name, model in paced(models.items()):
            if model is None or not self._catalogue.has_model(name):
                continue  # what is wished of it is taken when somebody is in reach who has it
            try:
                await self._take_aliases(name, model)
                await self._take_wishes(name, model)
            except IngleError as error:
                _log.warning("what the mesh wishes of %s is not kept on this node's disk: %s", name, error.sentence)

    def away(self, model: str, version: str, by_ordinal: bool) -> list[str]:
        """The nodes that are out of reach and had what a caller means by these words, by name. `by_ordinal`: a bare
        integer is V2's ordinal."""
        known = self._mesh.view.model(model)
        meant = known.aliases.get(version, version) if known else version
        return sorted(
            {
                self._name_of(node_id)
                for node_id, record in self._mesh.view.out_of_reach(model)
                if meant in ("", "latest", record.version) or (by_ordinal and meant == str(record.ordinal))
            }
        )

    def _name_of(self, node_id: str) -> str:
        if node_id == self._mesh.node_id:
            return self._name
        return next((peer.name for peer in self._mesh.peers() if peer.node_id == node_id), node_id)

    async def _take_aliases(self, name: ModelName, model: MeshModel) -> None:
        """Aliases of versions that lie here are kept here too: they outlive the mesh, and `rollback` knows them."""
        own = self._catalogue.own_entry(name)
        for alias, value in model.aliases.items() if own is not None else ():
            assert own is not None
            version = own.aliases.get(alias)
            if not value and version is not None:
                await asyncio.to_thread(self._catalogue.keep_alias, name, alias, None)
            elif value and str(version) != value and any(str(v.version) == value for v in own.versions):
                await asyncio.to_thread(self._catalogue.keep_alias, name, alias, parse_version(value))

    async def _take_wishes(self, name: ModelName, model: MeshModel) -> None:
        if "scale" in model.wishes:
            scale = _wish(model.wishes["scale"], Scale())
            if scale is not None and scale != self._catalogue.scale(name):
                await asyncio.to_thread(self._catalogue.set_scale, name, scale, told=True)
        if "traffic" in model.wishes:
            traffic = _wish(model.wishes["traffic"], Traffic())
            if traffic is not None and traffic != self._catalogue.traffics().get(name, Traffic()):
                await asyncio.to_thread(self._catalogue.set_traffic, name, traffic, told=True)


def _is_name(text: str) -> bool:
    try:
        return str(parse_name(text)) == text
    except BadInputError:
        return False


def _wish(value: str, none: Wish) -> Wish | None:
    try:
        return msgspec.json.decode(value, type=type(none)) if value else none
    except msgspec.MsgspecError:
        return None  # a later version's wish


def _earlier(value: str) -> tuple[str, ...] | None:
    try:
        return msgspec.json.decode(value, type=tuple[str, ...]) if value else None
    except msgspec.MsgspecError:
        return None


def record_of(version: ModelVersion) -> Record:
    """What peers are told of a version that lies here."""
    return Record(
        str(version.name),
        str(version.version),
        version.ordinal,
        version.digest,
        version.size_bytes,
        version.signature,
        version.manifest,
        version.batchable,
        version.batch_reason,
        version.created_s,
        version.source,
    )


def version_of(record: Record, ordinal: int | None = None) -> ModelVersion:
    """A version that lies elsewhere, from what is told of it."""
    return ModelVersion(
        name=parse_name(record.name),
        version=parse_version(record.version),
        ordinal=record.ordinal if ordinal is None else ordinal,
        digest=record.digest,
        folder="",
        size_bytes=record.size_bytes,
        signature=record.signature,
        manifest=record.manifest,
        batchable=record.batchable,
        batch_reason=record.batch_reason,
        created_s=record.created_s,
        source=record.source,
    )


def elsewhere(model: MeshModel, own_id: str, name_of: Callable[[str], str] = str) -> Elsewhere | None:
    """One model of the mesh as the catalogue lays it over its own; None where the mesh knows nothing of it. `name_of`:
    what people call a node of that id."""
    versions, holders, ordinals = [], {}, {}
    for text, found in model.versions.items():
        version = parse_version(text)
        others = tuple(holder for holder in found.holders if holder != own_id)
        ordinals[version] = found.record.ordinal
        if others:
            holders[version] = others
            versions.append(version_of(found.record))
    conflicts: dict[Version, str] = {}
    for text, conflict in model.conflicts.items():
        version = parse_version(text)
        ordinals[version] = conflict.ordinal
        held = "; ".join(
            f"{digest[:12]} on {', '.join(map(name_of, ids))}" for digest, ids in sorted(conflict.holders.items())
        )
        versions.append(version_of(conflict.record))  # so that every node knows of it, and says why it is refused
        conflicts[version] = (
            f"{model.name}:{text} exists in the mesh with different content ({held}): nobody answers it until all but "
            "one are deleted, each on a node that holds it"
        )
    removed = frozenset(parse_version(record.version) for record in model.dead.get(own_id, ())) - ordinals.keys()
    ordinals |= {parse_version(text): record.ordinal for text, record in model.lost.items()}
    told = Elsewhere(
        versions=tuple(versions),
        holders=holders,
        ordinals=ordinals,
        aliases=dict(model.aliases),
        conflicts=conflicts,
        removed=removed,
        earlier=_earlier(model.wishes.get("earlier", "")),
        lost=tuple(map(version_of, model.lost.values())),
    )
    return told if told != Elsewhere() else None

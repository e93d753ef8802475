"""What was deleted on one node is deleted on all: on those in reach at once, on others when they are back.

Runs in the gateway's event loop. A register says for each digest that a version had that it was removed; whoever still
holds it deletes it. An order asks those in reach to do so before the deleter is answered. Of those out of reach counts
what they told when they last were in reach.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from appliance.catalogue.catalogue import Catalogue
from appliance.core.errors import BadInputError, ConflictError, IngleError, NotFoundError
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName, parse_name
from appliance.gateway.mesh_catalogue import version_of
from federation.messages import Order, Record, Register, removal_key
from federation.peer import Peer
from federation.view import MeshModel, MeshView

ORDER_TIMEOUT_S = 10.0

_log = logging.getLogger("ingle.copies")


class DeletionsMesh(Protocol):
    """What is asked of federation.mesh.Mesh."""

    node_id: str

    @property
    def view(self) -> MeshView: ...
    @property
    def registers(self) -> list[Register]: ...
    def peers(self) -> list[Peer]: ...
    def write_register(self, *, kind: str, name: str, key: str, value: str) -> None: ...


class Deleted(msgspec.Struct, frozen=True):
    """`versions` are gone from all nodes in reach. `later`: what nodes out of reach hold, by version, with their names:
    it goes once they are back. `unknown`: names of nodes out of reach of which this one has never heard what they hold;
    it stays."""

    versions: tuple[ModelVersion, ...]
    later: dict[str, tuple[str, ...]]
    unknown: tuple[str, ...]


class Deletions:
    def __init__(
        self,
        catalogue: Catalogue,
        mesh: DeletionsMesh,
        *,
        order: Callable[[str, Order, float], Awaitable[None]],
        forget: Callable[[ModelVersion, ModelVersion | None], None],
    ) -> None:
        """`order` has a peer carry one out, `forget` ends what runs of a version that is gone."""
        self._catalogue = catalogue
        self._mesh = mesh
        self._order = order
        self._forget = forget

    def out_of_reach(self, name: ModelName, version: str | None) -> list[tuple[str, Record]]:
        """What nodes without a link hold of a model, or of one version, and was not removed: with the nodes' names."""
        removed = {(one.name, one.key, one.value) for one in self._mesh.registers if one.kind == "removed"}
        return [
            (peer.name, record)
            for peer in self._mesh.peers()
            if not _in_reach(peer)
            for record in peer.holdings.values()
            if record.name == str(name)
            and version in (None, record.version)
            and (record.name, removal_key(record.version, record.digest), record.digest) not in removed
        ]

    async def delete(self, doomed: Sequence[ModelVersion], away: Sequence[tuple[str, Record]]) -> Deleted:
        """Deletes these wherever they lie; `away` is out_of_reach()."""
        later: dict[str, tuple[str, ...]] = {}
        for holder, record in away:
            self.announce(version_of(record))
            later[record.version] = (*later.get(record.version, ()), holder)
        orders = []
        for model in doomed:
            for node_id in self._catalogue.holders(model):
                order = Order(0, "remove", str(model.name), str(model.version), model.digest)
                orders.append(self._order(node_id, order, ORDER_TIMEOUT_S))
            self.announce(model)
        for model in doomed:
            await self._delete_here(model)
        for outcome in await asyncio.gather(*orders, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.warning("a node deletes its copy of %s later: %s", doomed[0].name, outcome)
        unknown = [peer.name for peer in self._mesh.peers() if not _in_reach(peer) and not peer.hello.protocol]
        return Deleted(tuple(doomed), later, tuple(unknown))

    def announce(self, model: ModelVersion) -> None:
        """Whoever holds this version with this content is to delete it."""
        key = removal_key(str(model.version), model.digest)
        self._mesh.write_register(kind="removed", name=str(model.name), key=key, value=model.digest)

    def lift(self, made: Collection[tuple[ModelName, str]]) -> None:
        """These contents, by digest, are deployed or restored anew as versions of these models: that they were once
        removed holds no more."""
        wanted = {(str(name), digest) for name, digest in made}
        for register in self._mesh.registers:
            if register.kind == "removed" and (register.name, register.value) in wanted:
                self._mesh.write_register(kind="removed", name=register.name, key=register.key, value="")

    async def take(self, model: MeshModel) -> bool:
        """Deletes what lies here of a model and was removed in the mesh. False where that is to be tried again."""
        done = True
        for record in model.dead.get(self._mesh.node_id, ()):
            try:
                await self._delete_here(version_of(record))
                _log.info("%s:%s was deleted in the mesh, and is gone from here", model.name, record.version)
            except IngleError as error:
                _log.warning("%s:%s was deleted in the mesh, and is still here: %s", model.name, record.version, error)
                done = False
        return done

    async def on_order(self, node_id: str, order: Order, is_needed: Callable[[ModelVersion], bool]) -> None:
        """A peer says that this node's copy is to go. Raises ConflictError where it was not deleted in the mesh and is
        needed."""
        own = own_version(self._catalogue, order)
        if own is None:
            return
        model = self._mesh.view.model(order.model)
        dead = model.dead.get(self._mesh.node_id, ()) if model else ()
        if not any(r.version == order.version and r.digest == own.digest for r in dead) and is_needed(own):
            raise ConflictError(f"{own} was not deleted, and its copy on this node is needed: nothing was done")
        _log.info("%s is removed from this node, as the node %s says", own, node_id[:8])
        await self._delete_here(own)

    async def _delete_here(self, model: ModelVersion) -> None:
        own = self._catalogue.own(model)
        if own is not None:
            with suppress(NotFoundError):  # by somebody else, a moment ago
                await asyncio.to_thread(self._catalogue.delete, own.name, str(own.version))
                self._forget(own, None)


def own_version(catalogue: Catalogue, order: Order) -> ModelVersion | None:
    """The version that the order means, where it lies here."""
    with suppress(BadInputError):
        entry = catalogue.own_entry(parse_name(order.model))
        for version in entry.versions if entry else ():
            if str(version.version) == order.version and order.digest in ("", version.digest):
                return version
    return None


def _in_reach(peer: Peer) -> bool:
    """What it holds is in the catalogue then."""
    return peer.standing not in ("joining", "dead")

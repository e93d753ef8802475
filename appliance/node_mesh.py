"""The part of the composition root that is about the mesh: builds it from the settings, starts it, drains it, stops it.

Runs in the gateway process, made and driven by node.py. Knows every part of the mesh and no detail of any.
"""

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any

from appliance.catalogue.catalogue import Catalogue
from appliance.core.addresses import Address, parse_address
from appliance.core.errors import BadInputError, NotFoundError
from appliance.core.release import this_build
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.meshed import Meshed
from appliance.gateway.sight import Sight
from appliance.routing.own_state import OwnState
from appliance.settings import Settings
from appliance.workers.device_engines import DeviceEngines
from appliance.workers.translator import Translator
from federation.discovery import Discovery
from federation.identity import Identity
from federation.keyring import Keyring
from federation.mesh import Mesh
from federation.mesh_membership import MeshMembership
from federation.messages import Introduction
from federation.sightings import OtherMesh

KEY_VARIABLE = "INGLE_MESH_KEY"
_LOOK_S = 1.0  # whoever answers by multicast has answered by then
_LOOKS = 15  # boxes that are switched on together start within so many of these

_log = logging.getLogger("ingle.node")


class NodeMesh:
    """start() once the fronts are open; drain() and stop() at the node's end."""

    def __init__(
        self,
        settings: Settings,
        address: Address,
        identity: Identity,
        dataplane: DataPlane,
        catalogue: Catalogue,
        own_state: OwnState,
        translator: Translator,
        engines: DeviceEngines,
    ) -> None:
        """Raises BadInputError where the key or the addresses to advertise are none, IngleError where what the data
        folder keeps of the mesh is damaged."""
        self._settings = settings
        self._address = address
        self._dataplane = dataplane
        given = given_key(settings)
        self._key_is_given = bool(given)
        self._keyring = Keyring(settings.data_dir, given=given)
        self._mesh = Mesh(
            data_dir=settings.data_dir,
            identity=identity,
            keyring=self._keyring,
            settings=settings.federation,
            name=dataplane.node_name,
            release=this_build().version,
            mesh=address,
            max_body_bytes=settings.gateway.max_body_bytes,
        )
        self._own_state = own_state
        self._meshed = Meshed(dataplane, catalogue, self._mesh, own_state, settings.federation, translator, engines)
        self._identity = identity
        self._discovery: Discovery | None = None
        self._membership: MeshMembership | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, *, http: int, grpc: int, zmq: int, tls_fingerprint: str) -> tuple[int, int]:
        """Opens the mesh's ports and lets other nodes find this one; the ports of the mesh and of its streams. The
        arguments are the fronts' ports, 0 for one that is off. Raises OSError where an address cannot be had."""
        settings, mesh = self._settings, self._mesh
        ports = await mesh.start(http=http, grpc=grpc, zmq=zmq, tls_fingerprint=tls_fingerprint)
        self._meshed.start()
        if settings.federation.discover:
            self._discovery = Discovery(
                mesh.introduction,
                keyring=self._keyring,
                on_introduction=self._found,
                on_addresses=mesh.set_addresses,
                bound_to=self._address.host,
                advertise=settings.federation.advertise,
            )
            await self._discovery.start()
            self._keyring.listeners.append(self._advertise_anew)
        self._membership = MeshMembership(
            mesh,
            self._identity,
            name=self._dataplane.node_name,
            address=Address(self._address.host, ports[0] if self._address.port else 0),
            advertise=settings.federation.advertise,
            key_is_given=self._key_is_given,
        )
        self._dataplane.membership = self._membership
        others = self._discovery.other_meshes if self._discovery is not None else list
        self._dataplane.sight = Sight(mesh, self._own_state, others, self._meshed.tritons.peers)
        for join in joined(settings.join):
            mesh.join(join)
        if self._keyring.provisional:
            self._do(self._tell_of_others())
        return ports

    def _found(self, told: Introduction) -> None:
        if why := self._mesh.introduced(told):
            _log.debug("%s is in sight and is not met: %s", told.name, why)

    def _advertise_anew(self) -> None:
        """The keyring has changed, and with it how this node shows itself."""
        if self._discovery is not None:
            self._do(self._discovery.update(self._mesh.introduction))

    async def _tell_of_others(self) -> None:
        """Who has started a first node has to know that there are meshes already, and how to get into one."""
        told: set[str] = set()
        for _ in range(_LOOKS):
            await asyncio.sleep(_LOOK_S)
            if self._discovery is None or not self._keyring.provisional:
                return
            for other in self._discovery.other_meshes():
                if other.key_id not in told:
                    told.add(other.key_id)
                    print(_in_sight(other), flush=True)

    def words(self) -> str:
        """What the node's owner is told of its mesh when it has started."""
        if self._keyring.provisional:
            return f"a new one, of this node alone (key {self._keyring.current.id}); `ingle mesh invite` lets others in"
        return f"of the key {self._keyring.current.id}; `ingle mesh` shows who is there"

    async def drain(self) -> None:
        """Peers send no more calls."""
        await self._meshed.drain()

    async def wait_until_heard(self) -> None:
        """Returns when peers have heard what was said to them, or a moment later."""
        await self._meshed.wait_until_heard()

    async def stop(self) -> None:
        """Ends every link."""
        for task in self._tasks:
            task.cancel()
        if self._membership is not None:
            await self._membership.close()
        if self._discovery is not None:
            await self._discovery.stop()
        await self._meshed.stop()
        await self._mesh.stop()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _in_sight(other: OtherMesh) -> str:
    names = ", ".join(node.name for node in other.nodes[:4])
    more = f" and {len(other.nodes) - 4} more" if len(other.nodes) > 4 else ""
    return (
        f"  another mesh is in sight: {names}{more}. To join it, run `ingle mesh invite` there and "
        "`ingle mesh join CODE` here"
    )


def joined(text: str) -> list[Address]:
    """The addresses of nodes in the setting `join`. Raises BadInputError."""
    found = [parse_address(part.strip()) for part in text.split(",") if part.strip()]
    return [address for address in found if address is not None]


def given_key(settings: Settings) -> str:
    """The mesh's key as the owner gave it, or empty. Raises NotFoundError, BadInputError where the file is not there or
    cannot be read."""
    if settings.mesh_key_file is None:
        return os.environ.get(KEY_VARIABLE, "")
    try:
        return settings.mesh_key_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"--mesh-key-file: {settings.mesh_key_file} is not there") from None
    except OSError as error:
        raise BadInputError(f"--mesh-key-file: {settings.mesh_key_file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInputError(
            f"--mesh-key-file: {settings.mesh_key_file} holds no text: expected 64 hexadecimal digits"
        ) from None

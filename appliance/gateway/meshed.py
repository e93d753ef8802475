"""This node's part in the mesh, as the gateway sees it: everything that stands between the data plane and the mesh.

Runs in the gateway's event loop. It introduces the parts to each other and hands messages to whom they are for; each
decides in its own file.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from appliance.catalogue.catalogue import Catalogue
from appliance.core.beats import until_beat_s
from appliance.core.errors import UnavailableError
from appliance.core.models import ModelVersion
from appliance.core.own_program import one_file_path
from appliance.core.release import this_build
from appliance.core.requests import Buffer
from appliance.gateway.background_loads import BackgroundLoads
from appliance.gateway.copies import Copies
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.mesh_catalogue import MeshCatalogue
from appliance.gateway.mesh_desk import MeshDesk
from appliance.gateway.mesh_keys import MeshKeys
from appliance.gateway.mesh_orders import Orders
from appliance.gateway.programs import Programs
from appliance.gateway.remote_calls import RemoteCalls
from appliance.gateway.shared_engines import SharedEngines
from appliance.gateway.tritons import Holders, Tritons
from appliance.routing.copying import Place
from appliance.routing.own_state import OwnState
from appliance.routing.router import Router
from appliance.workers.device_engines import DeviceEngines
from appliance.workers.translator import Translator
from federation.mesh import Mesh
from federation.messages import Cancel, Head, MeshFault, MeshInvoke, MeshReply, Order, Ordered, Register
from federation.settings import MeshSettings

PUBLISH_S = 0.1

_log = logging.getLogger("ingle.mesh")


class Meshed:
    """start() once the node's fronts are open, drain() and stop() at its end."""

    def __init__(
        self,
        dataplane: DataPlane,
        catalogue: Catalogue,
        mesh: Mesh,
        own_state: OwnState,
        settings: MeshSettings,
        translator: Translator,
        engines: DeviceEngines,
    ) -> None:
        self.mesh = mesh
        self._dataplane = dataplane
        self._own_state = own_state
        holders = Holders(mesh.by_id)
        self.tritons = Tritons(mesh, holders, translator, max_body_bytes=dataplane.settings.max_body_bytes)
        router = Router(
            node_id=mesh.node_id,
            name=dataplane.node_name,
            tags=mesh.tags,
            peers=holders,
            hedge_share=settings.hedge_share,
            call_later=dataplane.alarms.call_later,
            load=self._load if settings.spread else None,
            own_load=own_state.load,
        )
        self.calls = RemoteCalls(
            router,
            own_state,
            node_id=mesh.node_id,
            send=self.tritons.send,
            peer=holders.get,
            heard=mesh,
            next_number=dataplane.next_number,
        )
        self.tritons.calls = self.calls
        self.desk = MeshDesk(dataplane, mesh.send, own_state.of, own_state.load)
        self.orders = Orders(mesh.send)
        self.catalogue = MeshCatalogue(catalogue, mesh, dataplane.node_name)
        self.copies = Copies(
            catalogue,
            dataplane.inspector,
            mesh,
            name=dataplane.node_name,
            tags=mesh.tags,
            order=self.orders.give,
            forget=dataplane.forget,
            warm=dataplane.warm,
            use=dataplane.use,
            keep_free_bytes=settings.keep_free_bytes,
            busy_share=lambda: own_state.load().cpu_share,
        )
        self.loads = BackgroundLoads(
            catalogue,
            node_id=mesh.node_id,
            fetch=self.copies.fetch,
            warm=dataplane.warm,
            order=self.orders.give,
            ended=router.load_ended,
            failed=router.load_failed,
        )
        self.keys = MeshKeys(dataplane.keys, mesh)
        self.programs = Programs(mesh, self.copies.transfers, catalogue.folder, one_file_path(), this_build())
        self._engines = SharedEngines(catalogue, mesh, self.copies.transfers, engines, told=own_state.engines)
        self._shares_engines = settings.engines
        self.orders.acts |= self.copies.acts()
        self.orders.acts["warm"] = self._warm
        self._publishing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Takes calls of peers and lets peers take this node's."""
        self.mesh.on_call = self._on_message
        self.mesh.on_peer_change = self._on_peer_change
        self.mesh.on_registers = self._on_registers
        self.mesh.on_copy = self.copies.on_copy
        self.catalogue.on_change = self.copies.on_change
        self.catalogue.start()
        self.copies.start()
        self.keys.start()
        self.tritons.start()
        self.programs.start()
        if self._shares_engines:
            self._engines.start()
        self._dataplane.programs = self.programs
        self._dataplane.remote = self.calls
        self._dataplane.deployer.copies = self.copies
        self._dataplane.warm_elsewhere = self._warm_elsewhere
        self._dataplane.away = self.catalogue.away
        self._dataplane.tritons = self.tritons
        self._publishing = asyncio.get_running_loop().create_task(self._publish())

    async def drain(self) -> None:
        """Peers send nothing more; what they sent is answered by the data plane's own drain."""
        await self.mesh.drain()

    async def wait_until_heard(self) -> None:
        """Returns when peers have their answers, or half a second later: what has not left is lost with the links."""
        self.desk.tell()
        await self.mesh.wait_until_heard()

    async def stop(self) -> None:
        """Before the mesh itself is stopped."""
        if self._publishing is not None:
            self._publishing.cancel()
        self.orders.stop()
        self.loads.stop()
        self.programs.stop()
        self._engines.stop()
        self.copies.stop()
        self.catalogue.stop()
        self.keys.stop()
        await self.tritons.stop()

    async def _publish(self) -> None:
        while True:
            try:
                self.calls.nearest_s = min((peer.rtt_s for peer in self.mesh.peers() if peer.rtt_s), default=0.0)
                self.mesh.publish(self._own_state.look(), self._own_state.models())
            except Exception:  # peers route by what is told here: it goes on, whatever one turn found
                _log.exception("a fault of ours in what peers are told")
            await asyncio.sleep(until_beat_s(asyncio.get_running_loop().time(), PUBLISH_S))

    def _on_message(self, node_id: str, head: Head, body: list[Buffer]) -> None:
        if isinstance(head, MeshReply):
            self.calls.on_reply(node_id, head, body)
        elif isinstance(head, MeshInvoke):
            self.desk.invoke(node_id, head, body)
        elif isinstance(head, MeshFault):
            self.calls.on_fault(node_id, head)
        elif isinstance(head, Cancel):
            self.desk.cancel(node_id, head.call)
        elif isinstance(head, Order):
            self.orders.on_order(node_id, head)
        elif isinstance(head, Ordered):
            self.orders.on_ordered(node_id, head)

    def _on_peer_change(self, node_id: str) -> None:
        peer = self.mesh.peer(node_id)
        if peer is None or peer.standing in ("dead", "joining"):
            self.calls.peer_gone(node_id)
            self.desk.peer_gone(node_id)
            self.orders.peer_gone(node_id)
            self.copies.peer_gone(node_id)
        elif peer.standing == "suspect":
            self.calls.peer_suspect(node_id)

    def _on_registers(self, registers: Iterable[Register]) -> None:
        self.keys.on_registers(registers)
        self.tritons.on_registers(registers)

    def _load(self, key: str, place: Place) -> None:
        self.loads.begin(key, place)

    # Warm.

    async def _warm(self, _node_id: str, order: Order) -> None:
        """A peer's callers will want this version here."""
        await self._dataplane.warm(self._dataplane.catalogue.resolve(order.model, order.version))

    async def _warm_elsewhere(self, model: ModelVersion) -> None:
        """Has a version that lies on other nodes warm on one of them. Raises UnavailableError where none can."""
        holders = self._dataplane.catalogue.holders(model)
        if self.tritons.has(holders):
            return
        error = UnavailableError(f"{model} is on other nodes alone, and none is in reach", retry_after_s=1.0)
        for node_id in self._nearest_first(holders):
            order = Order(0, "warm", str(model.name), str(model.version), model.digest)
            try:
                await self.orders.give(node_id, order, self._dataplane.settings.default_deadline_s)
            except UnavailableError as again:
                error = again
            else:
                return
        raise error

    def _nearest_first(self, node_ids: Sequence[str]) -> list[str]:
        peers = [peer for node_id in node_ids if (peer := self.mesh.peer(node_id)) is not None]
        return [peer.node_id for peer in sorted(peers, key=lambda peer: (peer.standing != "alive", peer.rtt_s))]

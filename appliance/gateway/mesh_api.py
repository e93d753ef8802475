"""The nodes of the mesh over HTTP: this one and those that it knows, how they stand, how busy they are, what is warm.

Runs in the gateway. Only tells what the mesh knows already: it asks no peer. Where the mesh is off a node lists itself.
"""

import time
from collections.abc import Mapping

from aiohttp import web

from appliance.core.addresses import Address
from appliance.core.errors import BadInputError
from appliance.core.names import ModelName, parse_name
from appliance.core.release import this_build
from appliance.gateway.answers import (
    NodeDescription,
    NodeLink,
    NodeList,
    NodeLoad,
    OtherMeshInSight,
    OtherNode,
    SandboxLayer,
    WarmModel,
)
from appliance.gateway.asked import who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Operation, Reply
from appliance.gateway.pacing import paced
from appliance.gateway.replies import json_reply
from appliance.security.scopes import Principal
from federation.messages import Load, ModelState
from federation.peer import Peer
from federation.sightings import OtherMesh

# Of each node's; a mesh of 200 with a thousand warm models each would be a page of 40 MB.
MAX_WARM = 32

OPERATIONS = (
    Operation(
        "list_nodes",
        "GET",
        "/v1/nodes",
        "node",
        "List the nodes that are known here, this one first: how they stand, how busy they are and what is warm there",
        {200: Reply("The nodes, the others by name, and other meshes in sight.", NodeList)},
    ),
)


class MeshApi:
    """The handler, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def list_nodes(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        told = NodeList([self._this(principal)])
        sight = self._dataplane.sight
        if sight is not None:
            told.key_id, told.provisional = sight.mesh.keyring.current.id, sight.mesh.keyring.provisional
            now_s = time.monotonic()
            known = [*sight.mesh.peers(), *sight.servers()]
            peers = sorted(known, key=lambda peer: (peer.outside, peer.name, peer.node_id))
            async for peer in paced(peers):
                told.nodes.append(node := describe_peer(peer, principal, now_s, sight.mesh.awaited_s(peer.node_id)))
                if self._dataplane.programs is not None and peer.hello.program is not None:
                    node.program = self._dataplane.programs.described(peer.hello.program)
            if principal.allows("admin", None):
                told.others = [_other(mesh) for mesh in sight.other_meshes()]
        return json_reply(told)

    def _this(self, principal: Principal) -> NodeDescription:
        dataplane, sight = self._dataplane, self._dataplane.sight
        layers = [SandboxLayer(*layer) for layer in dataplane.sandbox_layers()]
        this = NodeDescription(
            name=dataplane.node_name,
            state="ready" if dataplane.node_ready() else "not_ready",
            this=True,
            version=this_build().version,
            models=dataplane.catalogue.held_count,
            workers=dataplane.worker_count,
            device=dataplane.device,
            sandbox=layers if principal.allows("admin", None) else None,
            standing="draining" if dataplane.draining else "alive",
        )
        if sight is not None:
            own = sight.mesh.introduction
            this.node_id, this.addresses, this.tags = own.node_id, own.addresses, sight.mesh.tags
            this.mesh = _front(own.addresses, own.mesh_port)
            this.load = _load(sight.figures.load())
            models = sight.figures.models()
            this.warm_models, this.warm = warm_of(models, principal)
            this.engine_kind, this.engines = sight.mesh.engine_kind, _engines(models)
        if dataplane.programs is not None:
            this.program = dataplane.programs.own()
        return this


def describe_peer(peer: Peer, principal: Principal, now_s: float, awaited_s: float = 0.0) -> NodeDescription:
    """A peer as this node knows it; `now_s` on time.monotonic()'s clock, `awaited_s` as in NodeLink."""
    hello, addresses = peer.hello, peer.hello.introduction.addresses
    warm_models, warm = warm_of(peer.models, principal)
    return NodeDescription(
        name=peer.name,
        state="ready" if peer.standing == "alive" else "not_ready",
        this=False,
        version=hello.release,
        models=len({record.name for record in peer.holdings.values()}),
        workers=sum(state.replicas for state in peer.models.values()),
        device="",
        sandbox=None,
        node_id=peer.node_id,
        standing=peer.standing,
        standing_for_s=round(max(0.0, now_s - peer.since_s), 3),
        addresses=addresses,
        http=_front(addresses, hello.http),
        grpc=_front(addresses, hello.grpc),
        mesh=_front(addresses, hello.introduction.mesh_port),
        tags=hello.tags,
        link=NodeLink(peer.rtt_s, peer.bytes_per_s, round(awaited_s, 3)),
        load=_load(peer.load) if not peer.outside else None,
        warm_models=warm_models,
        warm=warm,
        outside=peer.outside,
        engine_kind=hello.engine_kind,
        engines=_engines(peer.models),
    )


def _engines(models: Mapping[str, ModelState]) -> int:
    return sum(state.engines is not None for state in models.values())


def warm_of(models: Mapping[str, ModelState], principal: Principal) -> tuple[int, list[WarmModel]]:
    """How many loaded versions there are that the caller may call, and the busiest of them. `models` by model_key()."""
    warm: list[WarmModel] = []
    for key, state in models.items():
        text, _, version = key.rpartition("@")[0].rpartition(":")
        if state.replicas and (name := _name(text)) is not None and principal.allows("call", name):
            warm.append(WarmModel(text, version, state.replicas, state.backlog_s, state.run_s.get(1, 0.0)))
    warm.sort(key=lambda model: (-model.backlog_s, -model.replicas, model.model, model.version))
    return len(warm), warm[:MAX_WARM]


def _name(text: str) -> ModelName | None:
    """None where a peer says what is no name."""
    try:
        return parse_name(text)
    except BadInputError:
        return None


def _load(load: Load) -> NodeLoad:
    return NodeLoad(
        backlog_s=load.backlog_s,
        in_flight=load.in_flight,
        memory_free_bytes=load.memory_free_bytes,
        device_free_bytes=None if load.device_free_bytes < 0 else load.device_free_bytes,
        cpu_share=load.cpu_share,
        power_w=None if load.power_w < 0 else load.power_w,
        temperature_c=None if load.temperature_c < 0 else load.temperature_c,
    )


def _front(addresses: list[str], port: int) -> str:
    return str(Address(addresses[0], port)) if addresses and port else ""


def _other(mesh: OtherMesh) -> OtherMeshInSight:
    nodes = [OtherNode(node.name, node.node_id, _front(node.addresses, node.mesh_port)) for node in mesh.nodes]
    return OtherMeshInSight(mesh.key_id, nodes)

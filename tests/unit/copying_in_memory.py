"""Nodes with catalogues of their own and a mesh that is memory: for the tests of copies. Models are mere bytes."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.staging import stage
from appliance.core.errors import RefusedError, UnavailableError
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import parse_name
from appliance.core.requests import Buffer
from appliance.core.tensors import Signature
from appliance.core.versions import parse_version
from appliance.gateway.copies import Copies
from appliance.gateway.mesh_catalogue import MeshCatalogue
from federation.holdings import record_key
from federation.hybrid_clock import HybridClock
from federation.messages import Head, Hello, Introduction, Order, Record, Register
from federation.peer import Peer
from federation.registers import RegisterSet
from federation.view import MeshView

INSPECTION = Inspection(Signature((), ()), True, "its first dimension is free")
NAME = parse_name("acme/digits")


class Looks:
    """Stands for the sandboxed look at a model: a node may refuse what it cannot run."""

    def __init__(self) -> None:
        self.refusal = ""
        self.count = 0

    async def inspect(self, folder: str, manifest: Manifest, on_step: object = None) -> Inspection:
        self.count += 1
        if self.refusal:
            raise RefusedError(self.refusal)
        return INSPECTION


class Endpoint:
    """What a node sees of the mesh."""

    def __init__(self, lan: "Lan", name: str) -> None:
        self.lan = lan
        self.node_id = node_id_of(name)
        self.name = name
        self.tags: tuple[str, ...] = ()
        self.own_registers = RegisterSet(HybridClock(self.node_id, lambda: lan.unix_s), lambda: lan.unix_s)
        self.view = MeshView(lambda name: self.own_registers.of(name).values())
        self.held: dict[str, Record] = {}
        self.on_catalogue_change: Callable[[Iterable[str]], None] = lambda _: None
        self.on_copy: Callable[[str, Head, list[Buffer]], None] = lambda *_: None

    @property
    def registers(self) -> list[Register]:
        return [register for name in self.own_registers.names() for register in self.own_registers.of(name).values()]

    def peers(self) -> list[Peer]:
        return [self.lan.peer(other) for other in self.lan.nodes if other != self.name]

    def peer(self, node_id: str) -> Peer | None:
        return next((peer for peer in self.peers() if peer.node_id == node_id), None)

    def send_copy(self, node_id: str, head: Head, body: Sequence[Buffer] = ()) -> bool:
        node = self.lan.by_id(node_id)
        if {node.name, self.name} & self.lan.away:
            return False
        copied: list[Buffer] = [bytes(part) for part in body]
        if not self.lan.drops(self.name, node.name, head):
            asyncio.get_running_loop().call_soon(node.mesh.on_copy, self.node_id, head, copied)
        return True

    def write_register(self, *, kind: str, name: str, key: str, value: str) -> None:
        self.take([self.own_registers.write(kind, name, key, value)])
        self.lan.spread()

    def take(self, registers: list[Register]) -> None:
        for register in self.own_registers.merge(registers):
            self.view.forget_made(register.name)
            self.on_catalogue_change([register.name])

    def set_holdings(self, records: Iterable[Record]) -> None:
        self.held = {record_key(record): record for record in records}
        self.lan.spread()

    def hear(self, node_id: str, held: dict[str, Record]) -> None:
        known = {record_key(r): r for name in self.view.names() for r in self._of(name, node_id)}
        for key in known.keys() - held.keys():
            self.view.let_go(node_id, key, known[key])
        for key in held.keys() - known.keys():
            self.view.hold(node_id, key, held[key])
        if changed := {(known | held)[key].name for key in known.keys() ^ held.keys()}:
            self.on_catalogue_change(changed)

    def _of(self, name: str, node_id: str) -> list[Record]:
        return list(self.view._held.get(name, {}).get(node_id, {}).values())


class Node:
    """One node: its catalogue, and the copies that it makes. start() again after stop() is a restart."""

    def __init__(self, lan: "Lan", name: str, folder: Path) -> None:
        self.lan = lan
        self.name = name
        self.folder = folder
        self.mesh = Endpoint(lan, name)
        self.looks = Looks()
        self.forgotten: list[ModelVersion] = []
        self.warmed: list[ModelVersion] = []
        self.used = (False, math.inf)  # of every version: whether it is warm, and seconds since it was called

    def start(self) -> None:
        self.catalogue = Catalogue(self.folder)
        self.mesh_catalogue = MeshCatalogue(self.catalogue, self.mesh, self.name)  # type: ignore[arg-type]
        self.copies = Copies(
            self.catalogue,
            self.looks,  # type: ignore[arg-type]
            self.mesh,
            name=self.name,
            tags=self.mesh.tags,
            order=self.order,
            forget=lambda model, _: self.forgotten.append(model),
            warm=self._warm,
            use=lambda _: self.used,
            keep_free_bytes=0,
            busy_share=lambda: 0.0,
        )
        self.mesh.on_copy = self.copies.on_copy
        self.mesh_catalogue.on_change = self.copies.on_change
        self.mesh_catalogue.start()
        self.copies.start()

    async def _warm(self, model: ModelVersion) -> None:
        self.warmed.append(model)

    async def order(self, node_id: str, order: Order, _timeout_s: float) -> None:
        node = self.lan.by_id(node_id)
        if node.name in self.lan.away:
            raise UnavailableError("there is no link to that node now")
        act: Callable[[str, Order], Awaitable[None]] = node.copies.acts()[order.act]
        await act(self.mesh.node_id, order)

    def stop(self) -> None:
        self.copies.stop()
        self.mesh_catalogue.stop()
        self.catalogue.close()

    def deploy(self, content: bytes, version: str = "1.0.0") -> ModelVersion:
        incoming = self.catalogue.new_incoming()
        upload = incoming / "upload"
        upload.write_bytes(b"\x08\x0a" + content)
        model, _ = self.catalogue.publish(
            stage(upload, incoming), INSPECTION, name=NAME, version=parse_version(version), manifest=Manifest()
        )
        return model

    def holds(self, version: str = "1.0.0") -> bool:
        entry = self.catalogue.own_entry(NAME)
        return any(str(v.version) == version for v in entry.versions) if entry else False


class Lan:
    """All nodes hear everything at once, but those that are away."""

    def __init__(self, folder: Path, names: str) -> None:
        self.unix_s = time.time() + 1
        self.away: set[str] = set()
        self.drops: Callable[[str, str, Any], bool] = lambda *_: False
        self.nodes = {name: Node(self, name, folder / name) for name in names}

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def by_id(self, node_id: str) -> Node:
        return next(node for node in self.nodes.values() if node.mesh.node_id == node_id)

    def peer(self, name: str) -> Peer:
        node_id = node_id_of(name)
        introduction = Introduction(node_id, name, b"", "", b"", [], 0, 0)
        return Peer(
            node_id=node_id,
            name=name,
            standing="dead" if name in self.away else "alive",
            since_s=0.0,
            hello=Hello(1, "0", introduction, 1, tags=list(self.nodes[name].mesh.tags)),
            holdings=self.nodes[name].mesh.held,  # as it last told
        )

    def leave(self, name: str) -> None:
        self.away.add(name)
        self.spread()

    def come_back(self, name: str) -> None:
        self.away.discard(name)
        self.spread()

    def spread(self) -> None:
        """Everyone in reach knows what everyone in reach has and wrote."""
        for name, node in self.nodes.items():
            for other, peer in self.nodes.items():
                in_reach = name == other or not {name, other} & self.away
                node.mesh.hear(peer.mesh.node_id, peer.mesh.held if in_reach else {})
                if in_reach and name != other:
                    node.mesh.take(peer.mesh.registers)


def node_id_of(name: str) -> str:
    return (name.encode().hex() * 32)[:32]

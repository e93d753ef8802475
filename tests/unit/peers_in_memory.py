"""Nodes that fetch artifacts from each other through memory, with real files and threads: for the transfer's tests."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

from appliance.core.digests import folder_digest
from appliance.core.requests import Buffer
from federation.messages import Chunk, Head
from federation.serving import Held
from federation.transfer import Transfers

Deliver = Callable[[str, str, Head, list[Buffer]], tuple[Head, list[Buffer]] | None]


class Node:
    """One node; what it holds, it serves."""

    def __init__(self, network: "Network", node_id: str, folder: Path) -> None:
        self.node_id = node_id
        self.folder = folder
        self.holds: dict[str, Held] = {}
        self.transfers = Transfers(
            lambda to, head, body: network.send(node_id, to, head, body),
            self.holds.get,
            lambda: network.alive(node_id),
            lambda: 0.0,
        )

    def put(self, files: dict[str, bytes]) -> str:
        """Has the node hold these files as an artifact; its digest."""
        digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
        digest = folder_digest(digests)
        for path, content in files.items():
            target = self.folder / "held" / digest / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        self.holds[digest] = Held(self.folder / "held" / digest, digests)
        return digest

    def fetched(self, digest: str) -> dict[str, bytes]:
        """The files of an artifact that it fetched."""
        root = self.folder / "fetches" / digest / "artifact"
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


class Network:
    """`deliver` may change what is sent (from, to, head, body), or drop it by giving None."""

    def __init__(self, folder: Path, names: str) -> None:
        self.nodes = {name: Node(self, name, folder / name) for name in names}
        self.dead: set[str] = set()
        self.deliver: Deliver = lambda _from, _to, head, body: (head, body)
        self.said: list[tuple[str, str, Head]] = []

    def alive(self, node_id: str) -> list[str]:
        return [name for name in self.nodes if name != node_id and name not in self.dead]

    def send(self, sender: str, to: str, head: Head, body: list[Buffer]) -> bool:
        if to in self.dead or sender in self.dead:
            return False
        sent = self.deliver(sender, to, head, [bytes(part) for part in body])
        if sent is not None:
            self.said.append((sender, to, sent[0]))
            asyncio.get_running_loop().call_soon(self._arrive, sender, to, *sent)
        return True

    def _arrive(self, sender: str, to: str, head: Head, body: list[Buffer]) -> None:
        if to not in self.dead:
            self.nodes[to].transfers.on_copy(sender, head, body)

    def kill(self, node_id: str) -> None:
        self.dead.add(node_id)
        for name in self.alive(""):
            self.nodes[name].transfers.lost(node_id)

    def dies_midway(self, node_id: str) -> None:
        """Has it die once it has given a list and a piece."""
        given = 0

        def deliver(sender: str, _to: str, head: Head, body: list[Buffer]) -> tuple[Head, list[Buffer]] | None:
            nonlocal given
            if isinstance(head, Chunk) and sender == node_id:
                given += 1
                if given > 2:
                    self.kill(node_id)
                    return None
            return head, body

        self.deliver = deliver

    def holders(self, digest: str) -> list[str]:
        return [name for name, node in self.nodes.items() if digest in node.holds and name not in self.dead]

    async def fetch(self, node_id: str, digest: str, size_bytes: int) -> dict[str, str]:
        node = self.nodes[node_id]
        return await node.transfers.fetch(
            digest,
            size_bytes,
            node.folder / "fetches" / digest,
            holders=lambda: [name for name in self.holders(digest) if name != node_id],
        )

    def stop(self) -> None:
        for node in self.nodes.values():
            node.transfers.stop()

"""Meshes of several nodes' shells in one process: real sockets and real keys on the loopback, no node around them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from appliance.core.addresses import Address
from federation.identity import load_identity
from federation.keyring import Keyring
from federation.mesh import Mesh
from federation.settings import MeshSettings

KEY = "5a" * 32
_PATIENCE_S = 20.0
MAX_BODY_BYTES = 16 * 1024 * 1024


class Shells:
    """start() makes one; all are stopped when the context ends. Introductions by datagram bring them together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[Mesh] = []
        self.address: dict[str, Address] = {}

    async def start(self, name: str, *, key: str = KEY, settings: MeshSettings | None = None) -> Mesh:
        """A node with this name; with that of one that was stopped, the same node again."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        mesh = Mesh(
            data_dir=folder,
            identity=load_identity(folder),
            keyring=Keyring(folder, given=key),
            settings=settings or MeshSettings(),
            name=name,
            release="0.1.0",
            mesh=Address("127.0.0.1", 0),
            max_body_bytes=MAX_BODY_BYTES,
        )
        port, _ = await mesh.start(http=1, grpc=2, zmq=3, tls_fingerprint="")
        self.all.append(mesh)
        self.address[mesh.node_id] = Address("127.0.0.1", port)
        return mesh

    async def pair(self) -> tuple[Mesh, Mesh]:
        """Two that have met."""
        one, other = await self.start("one"), await self.start("other")
        one.join(self.address[other.node_id])
        await self.met(one, other)
        return one, other

    async def met(self, *meshes: Mesh) -> None:
        """Returns when each of these has a link with each other one."""
        await until(
            lambda: all(stands(one, other) == "alive" for one in meshes for other in meshes if one is not other)
        )

    async def stop(self, mesh: Mesh) -> None:
        self.all.remove(mesh)
        await mesh.stop()


@contextlib.asynccontextmanager
async def shells(folder: Path) -> AsyncIterator[Shells]:
    made = Shells(folder)
    try:
        yield made
    finally:
        for mesh in made.all:
            await mesh.stop()


def stands(mesh: Mesh, other: Mesh) -> str:
    """How a node stands as another sees it; empty where it does not know it."""
    peer = mesh.peer(other.node_id)
    return peer.standing if peer is not None else ""


async def until(condition: Callable[[], object]) -> None:
    """Returns when it holds; fails where it does not in all the time that a loaded machine may need."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError("what was waited for did not come") from None

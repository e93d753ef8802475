"""A member of a mesh of real nodes that is no node: it has the mesh's key, a link with each of them, and says what a
test wants said. Runs in a thread of the test's process that is on a host of the LAN."""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import uvloop

from appliance.core.addresses import Address
from appliance.core.requests import Buffer
from federation.identity import load_identity
from federation.keyring import Keyring
from federation.mesh import Mesh as Shell
from federation.messages import Head
from federation.settings import MeshSettings
from tests.mesh.lan import Host
from tests.mesh.meshes import Mesh, MeshNode, until

MAX_BODY_BYTES = 256 * 1024 * 1024
_PATIENCE_S = 20.0

T = TypeVar("T")


class Member:
    """`heard` are the calls, orders and answers that nodes said to it, and from whom."""

    def __init__(self, shell: Shell, loop: asyncio.AbstractEventLoop) -> None:
        self.shell = shell
        self.heard: queue.SimpleQueue[tuple[str, Head]] = queue.SimpleQueue()
        self._loop = loop
        shell.on_call = lambda node_id, head, body: self.heard.put((node_id, head))

    def do(self, act: Callable[[], T]) -> T:
        """What `act` gives in the thread in which the shell may be used."""

        async def acting() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(acting(), self._loop).result(_PATIENCE_S)

    def say(self, node: MeshNode, head: Head, body: Sequence[Buffer] = ()) -> None:
        """On the link with a node, which is awaited."""
        until(lambda: self.do(lambda: self.shell.send(self.id_of(node), head, body)), f"a link with {node.name}")

    def hears(self) -> tuple[str, Head]:
        """What was said next. Raises queue.Empty."""
        return self.heard.get(timeout=_PATIENCE_S)

    def id_of(self, node: MeshNode) -> str:
        """Empty where it has not met the node yet."""
        return next((peer.node_id for peer in self.shell.peers() if peer.name == node.name), "")


@contextmanager
def member(mesh: Mesh, host: Host, folder: Path, nodes: Sequence[MeshNode]) -> Iterator[Member]:
    """One that has met these nodes."""
    ready: queue.SimpleQueue[Member | BaseException] = queue.SimpleQueue()
    ended = threading.Event()

    async def life() -> None:
        folder.mkdir()
        shell = Shell(
            data_dir=folder,
            identity=load_identity(folder),
            keyring=Keyring(folder, given=mesh.key),
            settings=MeshSettings(),
            name=host.name,
            release="0.1.0",
            mesh=Address("0.0.0.0", 0),
            max_body_bytes=MAX_BODY_BYTES,
        )
        try:
            await shell.start(http=1, grpc=2, zmq=3, tls_fingerprint="")
            for node in nodes:
                shell.join(Address(node.host.ipv4, int(node.told["mesh"].rpartition(":")[2])))
            ready.put(Member(shell, asyncio.get_running_loop()))
            await asyncio.to_thread(ended.wait)
        finally:
            await shell.stop()

    def run() -> None:
        try:
            with host.entered():
                uvloop.run(life())
        except BaseException as error:
            ready.put(error)
            raise

    thread = threading.Thread(target=run, name=f"member-{host.name}")
    thread.start()
    try:
        made = ready.get(timeout=_PATIENCE_S)
        if isinstance(made, BaseException):
            raise made
        until(lambda: all(made.id_of(node) for node in nodes), "the member and the nodes have met")
        yield made
    finally:
        ended.set()
        thread.join()

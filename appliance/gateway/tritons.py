"""The Triton servers that the mesh was given by address: which there are (registers, so that all nodes know them), and
each as one more holder of its models. A node that was told of one calls it itself.

Runs in the gateway's event loop. gRPC is imported with the first server. `Holders` is what the router reads: nodes and
servers as one mapping.
"""

import asyncio
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from appliance.core.addresses import Address, is_loopback, parse_address
from appliance.core.errors import BadInputError, BusyError, NotFoundError
from appliance.core.names import parse_name
from appliance.core.requests import Buffer
from appliance.gateway.remote_calls import RemoteCalls
from appliance.workers.translator import Translator
from federation.mesh import Mesh
from federation.messages import Cancel, Head, MeshFault, MeshInvoke, MeshReply, Record, Register
from federation.peer import Peer

if TYPE_CHECKING:
    from appliance.gateway.triton_server import TritonServer

KIND = "triton"  # of a register; federation/messages.py says what is in it
SCHEME = "triton://"
DEFAULT_OWNER = "triton"
MAX_SERVERS = 64
CHECK_S = 5.0


class Declared(msgspec.Struct):
    """A register's value: the owner in its models' names."""

    owner: str = DEFAULT_OWNER


class Server(NamedTuple):
    """A server that was added."""

    address: Address
    owner: str


def parse_server(text: str) -> Address:
    """The address in `triton://HOST:PORT`. Raises BadInputError."""
    try:
        address = parse_address(text.removeprefix(SCHEME).rstrip("/")) if text.startswith(SCHEME) else None
    except BadInputError:
        address = None
    if address is None or not address.port or len(address.host) > 253 or not all(c.isprintable() for c in address.host):
        raise BadInputError(
            f"'{text[:100]}' is no server: expected triton://HOST:PORT with its gRPC port, such as triton://10.0.0.5:8001"
        )
    return address


def _checked_owner(owner: str) -> str:
    parse_name(f"{owner}/model")
    return owner


class Holders(Mapping[str, Peer]):
    """All who may have a model, by id: nodes, which another object keeps, and `servers`. It is read at each call."""

    def __init__(self, nodes: Mapping[str, Peer]) -> None:
        self.servers: dict[str, Peer] = {}
        self._nodes = nodes

    def __getitem__(self, key: str) -> Peer:
        peer = self._nodes.get(key) or self.servers.get(key)
        if peer is None:
            raise KeyError(key)
        return peer

    def get(self, key: str, default: Any = None, /) -> Any:
        return self._nodes.get(key) or self.servers.get(key, default)

    def __iter__(self) -> Iterator[str]:
        return chain(self._nodes, self.servers)

    def __len__(self) -> int:
        return len(self._nodes) + len(self.servers)

    # Mapping's own views look each value up by its key.

    def items(self) -> ItemsView[str, Peer]:
        if not self.servers:
            return self._nodes.items()
        return cast(ItemsView[str, Peer], chain(self._nodes.items(), self.servers.items()))

    def values(self) -> ValuesView[Peer]:
        if not self.servers:
            return self._nodes.values()
        return cast(ValuesView[Peer], chain(self._nodes.values(), self.servers.values()))


class Tritons:
    """start() once the mesh has started; on_registers() is fed with what the mesh tells; stop() before the mesh."""

    def __init__(self, mesh: Mesh, holders: Holders, translator: Translator, *, max_body_bytes: int) -> None:
        self._mesh = mesh
        self._holders = holders
        self._translator = translator
        self._max_body_bytes = max_body_bytes
        self._servers: dict[str, TritonServer] = {}  # by id
        self._closing: set[asyncio.Task[None]] = set()
        self.calls: RemoteCalls | None = None

    def start(self) -> None:
        self._follow()

    async def stop(self) -> None:
        closing = [server.close() for server in self._servers.values()]
        await asyncio.gather(*closing, *self._closing, return_exceptions=True)
        self._translator.stop()

    def on_registers(self, registers: Iterable[Register]) -> None:
        """Some were written, here or elsewhere."""
        if any(register.kind == KIND for register in registers):
            self._follow()

    # Which there are.

    def wanted(self) -> list[Server]:
        """The servers that this node is to call, by address: MAX_SERVERS at most."""
        found: dict[Address, Server] = {}
        for register in sorted(self._registers(), key=lambda register: (register.name, register.key)):
            try:
                address = parse_server(SCHEME + register.name)
                owner = _checked_owner(msgspec.json.decode(register.value, type=Declared).owner)
            except (BadInputError, msgspec.MsgspecError):
                continue  # a later version's
            found[address] = Server(address, owner)
        return list(found.values())[:MAX_SERVERS]

    def _registers(self) -> list[Register]:
        keys = ("", self._mesh.node_id)
        return [r for r in self._mesh.registers if r.kind == KIND and r.key in keys and r.value]

    async def add(self, text: str, owner: str) -> Server:
        """Has every node of the mesh call the server; this node alone where the address is a loopback's. Raises
        BadInputError, UnavailableError where nothing answers there, BusyError where there are too many."""
        server = Server(parse_server(text), _checked_owner(owner or DEFAULT_OWNER))
        if name := self._mesh.node_at(*server.address):
            raise BadInputError(f"the node '{name}' of this mesh answers at {server.address}: it needs no adding")
        wanted = self.wanted()
        if len(wanted) >= MAX_SERVERS and server.address not in (known.address for known in wanted):
            raise BusyError(f"the mesh has {MAX_SERVERS} Triton servers, and takes no more: remove one first")
        trial = self._make(server)
        try:
            await trial.check(CHECK_S)
        finally:
            await trial.close()
        key = self._mesh.node_id if is_loopback(server.address.host) else ""
        value = msgspec.json.encode(Declared(server.owner)).decode()
        self._mesh.write_register(kind=KIND, name=str(server.address), key=key, value=value)
        self._follow()
        return server

    def remove(self, text: str) -> Server:
        """Has no node call it any more. Raises BadInputError, NotFoundError where it was not added."""
        address = parse_server(text)
        known = next((server for server in self.wanted() if server.address == address), None)
        if known is None:
            raise NotFoundError(f"the mesh has no server {SCHEME}{address}: `ingle mesh` shows those that it has")
        for register in self._registers():
            if register.name == str(address):
                self._mesh.write_register(kind=KIND, name=register.name, key=register.key, value="")
        self._follow()
        return known

    def _make(self, server: Server) -> "TritonServer":
        from appliance.gateway.triton_server import TritonServer

        return TritonServer(server.address, server.owner, self, self._translator, max_body_bytes=self._max_body_bytes)

    def _follow(self) -> None:
        wanted = set(self.wanted())
        for known in list(self._servers.values()):
            if Server(known.address, known.owner) not in wanted:
                self._drop(known)
        present = {Server(known.address, known.owner) for known in self._servers.values()}
        for server in sorted(wanted - present):
            made = self._make(server)
            self._servers[made.id] = made
            self._holders.servers[made.id] = made.peer
            made.start()

    def _drop(self, server: "TritonServer") -> None:
        del self._servers[server.id], self._holders.servers[server.id]
        self._mesh.set_outside(server.id, ())
        if self.calls is not None:
            self.calls.peer_gone(server.id)
        task = asyncio.get_running_loop().create_task(server.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def peers(self) -> list[Peer]:
        """Each server as it stands now."""
        return [server.peer for server in self._servers.values()]

    # Calls.

    def send(self, node_id: str, head: Head, body: Sequence[Buffer]) -> bool:
        """As Mesh.send(), to nodes and servers alike."""
        server = self._servers.get(node_id)
        if server is None:
            return self._mesh.send(node_id, head, body)
        if isinstance(head, MeshInvoke):
            return server.invoke(head, body)
        if isinstance(head, Cancel):
            server.cancel(head.call)
            return True
        return False

    def on_answer(self, server_id: str, head: MeshReply | MeshFault, body: Sequence[Buffer]) -> None:
        if self.calls is None or server_id not in self._servers:
            return
        if isinstance(head, MeshReply):
            self.calls.on_reply(server_id, head, body)
        else:
            self.calls.on_fault(server_id, head)

    def on_standing(self, server_id: str) -> None:
        server = self._servers.get(server_id)
        if server is None or self.calls is None:
            return
        if server.peer.standing == "dead":
            self.calls.peer_gone(server_id)
        elif server.peer.standing == "suspect":
            self.calls.peer_suspect(server_id)

    def on_records(self, server_id: str, records: Sequence[Record]) -> None:
        if server_id in self._servers:
            self._mesh.set_outside(server_id, records)

    def has(self, server_ids: Iterable[str]) -> bool:
        """Whether one of them is a server that lives: what it tells of is loaded there."""
        return any(self._servers[one].peer.standing == "alive" for one in server_ids if one in self._servers)

"""The mesh as one object: links, introductions and what peers say, around a core that decides without I/O.

Runs in the gateway's event loop. Knows nothing of models but what is said of them; who serves a call that a peer asks
for is whoever took `on_call`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from appliance.core.addresses import Address
from appliance.core.requests import Buffer
from federation.identity import Identity
from federation.keyring import Keyring
from federation.messages import Head, Introduction, Load, ModelState, Record, Register
from federation.peer import Peer
from federation.settings import MeshSettings
from federation.view import MeshView

# A message from a peer: its node id, the head, and the body as frames.read_message() gives it.
OnMessage = Callable[[str, Head, list[Buffer]], None]


def _ignored(*_: object) -> None:
    """Nobody listens yet."""


class Mesh:
    """start(), then send() and what the callbacks bring; drain() and stop() at the end.

    `on_call` gets INVOKE, REPLY, FAULT, CANCEL, ORDER and ORDERED, `on_bulk` what came on a bulk link.
    `on_peer_change` is called with a node's id when it comes to stand otherwise (up, suspect, dead, draining).
    `on_catalogue_change`: what `view` says of these models (owner/name) may be otherwise. `on_registers`: these were
    written, here or by a peer. All are called in the loop, and may call the mesh in their turn.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        identity: Identity,
        keyring: Keyring,
        settings: MeshSettings,
        name: str,
        release: str,
        mesh: Address,
        max_body_bytes: int,
    ) -> None:
        self.node_id = identity.node_id
        self.keyring = keyring
        self.on_call: OnMessage = _ignored
        self.on_bulk: OnMessage = _ignored
        self.on_peer_change: Callable[[str], None] = _ignored
        self.on_catalogue_change: Callable[[Iterable[str]], None] = _ignored
        self.on_registers: Callable[[Iterable[Register]], None] = _ignored
        self._data_dir = data_dir
        self._identity = identity
        self._settings = settings
        self._name = name
        self._release = release
        self._address = mesh
        self._max_body_bytes = max_body_bytes

    async def start(self, *, http: int, grpc: int, zmq: int, tls_fingerprint: str) -> tuple[int, int]:
        """Listens; the ports of the mesh and of bulk transfers. The arguments are what peers are told of this node's
        fronts: ports, 0 for one that is off. Raises OSError where the address cannot be had."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Tells all peers that this node takes no new calls; returns when they are told."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Ends every link."""
        raise NotImplementedError

    # Who is there.

    @property
    def introduction(self) -> Introduction:
        """How this node shows itself now: changes with the keyring and with the box's addresses."""
        raise NotImplementedError

    def peers(self) -> list[Peer]:
        """All that are known but this node."""
        raise NotImplementedError

    @property
    def by_id(self) -> Mapping[str, Peer]:
        """The same by node id: one object, always current."""
        raise NotImplementedError

    @property
    def tags(self) -> list[str]:
        """Those of this node, as its settings have them."""
        raise NotImplementedError

    @property
    def view(self) -> MeshView:
        """What the mesh has, by model: one object, always current."""
        raise NotImplementedError

    def set_addresses(self, addresses: list[str]) -> None:
        """Where this node is reached from now on; peers are told."""
        raise NotImplementedError

    def peer(self, node_id: str) -> Peer | None:
        """The peer with this id, or None."""
        raise NotImplementedError

    def introduced(self, introduction: Introduction) -> str:
        """Someone is said to be there: dials it where its credential is good. Else changes nothing, and tells why, as
        the end of a sentence."""
        raise NotImplementedError

    def join(self, address: Address) -> None:
        """Introduces this node to whoever answers at an address, again and again until they have met."""
        raise NotImplementedError

    # What is said.

    def send(self, node_id: str, head: Head, body: Sequence[Buffer] = ()) -> bool:
        """Says something to a peer. False where there is no link to it, or it has left too much unread."""
        raise NotImplementedError

    def send_bulk(self, node_id: str, head: Head, body: Sequence[Buffer] = ()) -> bool:
        """As send(), on the link for bulk transfers, where large things delay nobody."""
        raise NotImplementedError

    def publish(self, load: Load, models: Mapping[str, ModelState]) -> None:
        """How this node and its models (by model_key()) fare now; peers are told what changed enough."""
        raise NotImplementedError

    def set_holdings(self, records: Iterable[Record]) -> None:
        """All versions that lie on this node's disk now."""
        raise NotImplementedError

    @property
    def registers(self) -> list[Register]:
        """What the mesh's members have written last."""
        raise NotImplementedError

    def write_register(self, *, kind: str, name: str, key: str, value: str) -> None:
        """Writes a register with this node's clock, here and on every peer. See messages.Register."""
        raise NotImplementedError

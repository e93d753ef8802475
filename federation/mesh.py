"""The mesh as one object: links, introductions and what peers say, around a core that decides without I/O.

Runs in the gateway's event loop. Performs what MeshCore wants done, and asks of whoever is met whether the keyring
believes him. Knows nothing of models but what is said of them; who serves a call that a peer asks for is whoever took
`on_call`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from appliance.core.addresses import Address, is_loopback
from appliance.core.beats import until_beat_s
from appliance.core.errors import BadInputError
from appliance.core.requests import Buffer
from federation.actions import Action, CatalogueChanged, Cut, Dial, Fault, PeerChanged, Send, StoreRegisters
from federation.core import MAX_HINTS, TICK_S, MeshCore
from federation.credentials import introduce
from federation.identity import Identity, next_incarnation
from federation.interfaces import read_interfaces
from federation.key_care import KeyCare
from federation.key_rotation import Step
from federation.keyring import Keyring
from federation.links import LinkEvents, Links, OnMessage
from federation.meeting import Meeting
from federation.mesh_disk import MeshDisk
from federation.messages import (
    PROTOCOL,
    Drain,
    Head,
    Hello,
    Introduction,
    Keys,
    Load,
    MeshInvoke,
    ModelState,
    Order,
    Ordered,
    Probe,
    Probed,
    Program,
    Record,
    Register,
)
from federation.own_addresses import own_addresses
from federation.peer import Peer
from federation.pinned_names import Pin
from federation.settings import MeshSettings
from federation.streams import OF_CALLS
from federation.view import MeshView

_CALLS = (*OF_CALLS, Order, Ordered)
_PORTS_TRIED = 20
_GOODBYE_S = 0.5
_GOODBYE, _GOODBYE_TO_CALLS = 2**62, 2**62 + 1  # numbers of probes that are not the core's

_log = logging.getLogger("ingle.mesh")


def _ignored(*_: object) -> None:
    """Nobody listens yet."""


class Mesh:
    """start(), then send() and what the callbacks bring; drain() and stop() at the end.

    `on_call` gets INVOKE, REPLY, FAULT, CANCEL, ORDER and ORDERED, `on_copy` what came on a stream for copies.
    `on_peer_change` is called with a node's id when it comes to stand otherwise (up, suspect, dead, draining), tells
    something else of itself, or is there no more. `on_catalogue_change(names)`: what `view` says of these models is
    otherwise than before; `on_registers(registers)`: these were written, here or elsewhere. All are called in the loop,
    and may call the mesh in their turn.

    `by_id` are all peers by id, `view` what the mesh has: two objects for good, always current. `introduction` is how
    this node shows itself.
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
        """Reads what the data folder keeps of the mesh. Raises IngleError where it is damaged, BadInputError where
        `settings.advertise` is no list of addresses."""
        self.node_id = identity.node_id
        self.keyring = keyring
        self.tags = [tag.strip() for tag in settings.tags.split(",") if tag.strip()]
        self.on_call: OnMessage = _ignored
        self.on_copy: OnMessage = _ignored
        self.on_peer_change: Callable[[str], None] = _ignored
        self.on_catalogue_change: Callable[[Iterable[str]], None] = _ignored
        self.on_left: Callable[[], None] = _ignored
        self.on_registers: Callable[[Iterable[Register]], None] = _ignored
        self._identity = identity
        self._settings = settings
        self._name = name
        self._address = mesh
        self._loop = asyncio.get_running_loop()
        own = Pin(identity.public_key.hex(), identity.node_id, name)
        self._disk = MeshDisk(data_dir, keyring, own)
        self.names = self._disk.names
        self._addresses = own_addresses(read_interfaces(), bound_to=mesh.host, advertise=settings.advertise)
        self._ports = (0, 0)
        incarnation = next_incarnation(data_dir, time.time())
        me = Hello(PROTOCOL, release, self.introduction, incarnation, tags=self.tags, packs=True)
        self._me = me
        self._core = MeshCore(
            me, settings, now_s=time.monotonic(), unix_s=time.time, registers=self._disk.registers.values()
        )
        self.by_id: Mapping[str, Peer] = self._core.peers
        self.view: MeshView = self._core.view()
        self._links = Links(
            identity,
            settings,
            max_body_bytes=max_body_bytes,
            hello=self._hello_to,
            events=LinkEvents(self._on_up, self._on_down, self._on_message, self._on_copy),
        )
        self._meeting = Meeting(self.node_id, keyring, self.names, self._links, self)
        self._care = KeyCare(self.node_id, keyring, living=self._meeting.linked, tell=self._links.send_to_each)
        self._tick_handle: asyncio.TimerHandle | None = None
        self._performing = False
        self._goodbyes: dict[tuple[str, int], asyncio.Future[None]] = {}

    async def start(self, *, http: int, grpc: int, zmq: int, tls_fingerprint: str) -> tuple[int, int]:
        """Listens; the ports of the mesh and of its streams. The arguments are what peers are told of this node's
        fronts: ports, 0 for one that is off. Raises OSError where the address cannot be had."""
        self._ports = self._listen()
        self._me = replace(self._me, http=http, grpc=grpc, zmq=zmq, tls_fingerprint=tls_fingerprint)
        self._show_myself()
        self.keyring.listeners.append(self._keyring_changed)
        self._tick()
        for introduction in self._disk.remembered.peers():
            self.introduced(introduction)
        return self._ports

    def _listen(self) -> tuple[int, int]:
        """TCP and UDP on ports of one number: the system chooses one of UDP's, which TCP may lack."""
        host, port = self._address
        for _ in range(_PORTS_TRIED - 1 if port == 0 else 0):
            with contextlib.suppress(OSError):
                return self._listen_at(Address(host, self._meeting.open(self._address)), 0)
        return self._listen_at(Address(host, self._meeting.open(self._address)), port + 1 if port else 0)

    def _listen_at(self, address: Address, bulk_port: int) -> tuple[int, int]:
        return address.port, self._links.open(address, Address(address.host, bulk_port))

    async def drain(self) -> None:
        """Tells all peers that this node takes no new calls; returns when they heard it, or half a second later."""
        self._core.drain(time.monotonic())
        self._perform()
        await self.wait_until_heard()

    async def say_goodbye(self) -> None:
        """Tells all peers that this node leaves for good; returns as drain() does. forget_mesh() comes next."""
        self._links.send_to_each(tuple(self.by_id), Drain(leaving=True))
        await self.wait_until_heard()

    async def wait_until_heard(self) -> None:
        """Returns when peers have heard all that was said to them, or half a second later. stop() drops what has not
        left by then."""
        for peer in self.peers():
            if self._links.send(peer.node_id, Probe(_GOODBYE)):
                self._goodbyes[peer.node_id, _GOODBYE] = self._loop.create_future()
            if self._links.send_behind_calls(peer.node_id, Probe(_GOODBYE_TO_CALLS)):
                self._goodbyes[peer.node_id, _GOODBYE_TO_CALLS] = self._loop.create_future()
        if self._goodbyes:
            await asyncio.wait(self._goodbyes.values(), timeout=_GOODBYE_S)
            self._goodbyes.clear()

    async def stop(self) -> None:
        """Ends every link, and writes what is not written yet."""
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        if self._keyring_changed in self.keyring.listeners:
            self.keyring.listeners.remove(self._keyring_changed)
        self._care.close()
        await self._meeting.close()
        self._links.close()
        await self._disk.close()

    # Who is there.

    @property
    def introduction(self) -> Introduction:
        """How this node shows itself now: changes with the keyring and with the box's addresses."""
        return self.shown_to(None)

    def shown_to(self, peer: Introduction | None) -> Introduction:
        """The same, to a node that may know another key of the mesh than the current one."""
        return introduce(
            self._identity,
            self.keyring,
            name=self._name,
            addresses=self._addresses,
            mesh_port=self._ports[0],
            bulk_port=self._ports[1],
            to=peer,
        )

    def _hello_to(self, node_id: str) -> Hello:
        return replace(self._core.hello(), introduction=self.shown_to(self._meeting.believed.get(node_id)))

    def set_addresses(self, addresses: list[str]) -> None:
        """The box has other addresses than before: peers are told."""
        if addresses != self._addresses:
            self._addresses = addresses
            self._show_myself()

    def set_program(self, program: Program | None) -> None:
        """What this node runs from, and gives to peers that ask for it."""
        self._me = replace(self._me, program=program)
        self._show_myself()

    @property
    def engine_kind(self) -> str:
        """As set_engine_kind() said; empty before."""
        return self._me.engine_kind

    def set_engine_kind(self, kind: str) -> None:
        """What TensorRT's engines depend on here, where peers of the same kind may have this node's."""
        self._me = replace(self._me, engine_kind=kind)
        self._show_myself()

    def _show_myself(self) -> None:
        self._me = replace(self._me, introduction=self.introduction)
        self._core.greet(self._me, time.monotonic())
        self._perform()

    def peers(self) -> list[Peer]:
        """All that are known but this node."""
        return list(self.by_id.values())

    def peer(self, node_id: str) -> Peer | None:
        """The peer with this id, or None."""
        return self.by_id.get(node_id)

    def node_at(self, host: str, grpc_port: int) -> str:
        """The name of the node of this mesh, this one among them, whose gRPC front is known to be there; else empty."""
        if self._me.grpc == grpc_port and (host in self._addresses or is_loopback(host)):
            return self._name
        for peer in self.peers():
            if peer.hello.grpc == grpc_port and host in peer.hello.introduction.addresses:
                return peer.name
        return ""

    def linked(self) -> list[Introduction]:
        """How those show themselves with whom there is a link."""
        return self._meeting.linked()

    @property
    def rotation(self) -> Step:
        """How far a rotation of the key is."""
        return self._care.step

    def trouble(self, node_id: str) -> str:
        """Why there is no link to a node, as far as it is known; else empty."""
        return self._links.trouble(node_id)

    def awaited_s(self, node_id: str) -> float:
        """For how long a node has not come to this one's port for calls and copies, though it was asked to; else 0."""
        return self._links.awaited_s(node_id)

    def introduced(self, introduction: Introduction) -> str:
        """Someone is said to be there: dials it where its credential is good. Else changes nothing, and tells why, as
        the end of a sentence."""
        if why := self._meeting.why_distrusted(introduction):
            return why
        is_other = introduction.node_id != self.node_id
        # Of one with a link its own word stands: mDNS repeats what it showed before.
        if is_other and not self._links.is_up(introduction.node_id):
            self._meeting.believe(introduction)
        self._core.introduced(introduction, time.monotonic())
        self._perform()
        if is_other and introduction.node_id not in self.by_id:
            self._meeting.forbid(introduction.node_id, "there is no room for it")
            return "this node knows as many others as it can, or it was revoked"
        return ""

    def join(self, address: Address) -> None:
        """Introduces this node to whoever answers at an address, whenever there is no link with a node there."""
        self._meeting.join(address)

    def forget_mesh(self) -> None:
        """This node has left its mesh: ends all links, and forgets every peer and what they said."""
        for node_id in tuple(self._meeting.believed):
            self._forbid(node_id, "this node has left the mesh")
        self._core.forget_peers(time.monotonic())
        self.names.forget_all()
        self._disk.remembered.forget_all()
        self._disk.save_soon()
        self._perform()
        self.on_left()

    def _forbid(self, node_id: str, reason: str) -> None:
        self._meeting.forbid(node_id, reason)
        self._core.link_down(node_id, reason, time.monotonic())

    def _keyring_changed(self) -> None:
        """Whoever is not believed any more is cut off; this node shows what the current key gives."""
        for node_id, shown in tuple(self._meeting.believed.items()):
            if why := self._meeting.why_distrusted(shown):
                self._forbid(node_id, why)
                self._disk.remembered.forget(node_id)
        for pin in self.names.others():
            if self.keyring.is_revoked(public_key := bytes.fromhex(pin.public_key)):
                self.names.forget(public_key)
        self._disk.save_soon(keyring=True)
        self._show_myself()

    # Links.

    def _on_up(self, node_id: str, hello: Hello) -> None:
        shown = hello.introduction
        self._shown(shown)
        self.keyring.settle()
        self._core.link_up(node_id, self._seen(hello), time.monotonic())
        _log.info("there is a link with %s", self._name_of(node_id))
        self._disk.save_soon()
        self._perform()
        self._care.linked(shown)

    def _shown(self, shown: Introduction) -> None:
        """A node with a link shows itself, maybe otherwise than before."""
        if self._meeting.believe(shown):
            self._meeting.proved(shown)
            self._disk.remembered.met(shown)

    def _seen(self, hello: Hello) -> Hello:
        """As it is passed on: by the name that is pinned to its key, and with those alone of whom it tells that are to
        be believed."""
        shown = hello.introduction
        pinned = self.names.see(Pin(shown.public_key.hex(), shown.node_id, shown.name)).shown
        peers = [peer for peer in hello.peers[:MAX_HINTS] if not self._meeting.why_distrusted(peer)]
        return replace(hello, introduction=replace(shown, name=pinned), peers=peers)

    def _on_down(self, node_id: str, reason: str) -> None:
        _log.info("the link with %s ended: %s", self._name_of(node_id), reason)
        self._core.link_down(node_id, reason, time.monotonic())
        self._perform()
        self._care.look()

    def _on_message(self, node_id: str, head: Head, body: list[Buffer], size_bytes: int) -> None:
        now_s = time.monotonic()
        if isinstance(head, _CALLS):
            self._core.called(node_id, now_s)
            self._core.heard(node_id, now_s)
            self._perform()
            self.on_call(node_id, head, body)
            return
        if isinstance(head, Probed) and (goodbye := self._goodbyes.get((node_id, head.number))) is not None:
            if not goodbye.done():
                goodbye.set_result(None)
        elif isinstance(head, Keys):
            self._core.heard(node_id, now_s)
            self._hear_keys(node_id, head)
        elif isinstance(head, Hello):
            self._shown(head.introduction)
            self._core.received(node_id, self._seen(head), now_s, size_bytes)
        else:
            if isinstance(head, Drain) and head.leaving:
                self._forget(node_id)
            self._core.received(node_id, head, now_s, size_bytes)
        self._perform()

    def _forget(self, node_id: str) -> None:
        """It is no member any more: it is not sought, and has no right from having been one."""
        if (shown := self._meeting.believed.get(node_id)) is not None:
            self.names.forget(shown.public_key)
        self._disk.remembered.forget(node_id)
        self._disk.save_soon()

    def _hear_keys(self, node_id: str, keys: Keys) -> None:
        try:
            self._care.told(node_id, keys)
        except BadInputError as error:
            self._links.complain(node_id, f"tells of keys what cannot be: {error.sentence}")

    def _on_copy(self, node_id: str, head: Head, body: list[Buffer]) -> None:
        self.on_copy(node_id, head, body)

    def _name_of(self, node_id: str) -> str:
        peer = self.by_id.get(node_id)
        return f"{peer.name} ({node_id[:8]})" if peer is not None else node_id[:8]

    # What the core wants.

    def _tick(self) -> None:
        self._tick_handle = self._loop.call_later(until_beat_s(self._loop.time(), TICK_S), self._tick)
        self._core.tick(time.monotonic())
        self._perform()

    def _perform(self) -> None:
        """Does what the core wants, and what comes of that. Callbacks may come back here: order is kept."""
        if self._performing:
            return
        self._performing = True
        try:
            while actions := self._core.take_actions():
                for action in actions:
                    try:
                        self._do(action)
                    except Exception:  # of one action; the others are of other peers
                        _log.exception("a fault of ours in what the mesh does")
        finally:
            self._performing = False

    def _do(self, action: Action) -> None:
        match action:
            case Send(to, head, pad_bytes):
                self._links.send_to_each(to, head, [bytes(pad_bytes)] if pad_bytes else ())
            case PeerChanged(node_id):
                if node_id not in self.by_id:
                    self._forbid(node_id, "it is forgotten")
                self.on_peer_change(node_id)
            case CatalogueChanged(names):
                self.on_catalogue_change(names)
            case Dial(introduction):
                self._meeting.dial(introduction)
            case Cut(node_id, reason):
                _log.info("the link with %s is cut: %s", self._name_of(node_id), reason)
                self._links.cut(node_id, reason)
            case StoreRegisters(registers, gone):
                self._store(registers, gone)
            case Fault(_, sentence):
                _log.warning("%s", sentence)

    def _store(self, registers: Sequence[Register], gone: Sequence[tuple[str, str, str]]) -> None:
        self._disk.store(registers, gone)
        revoked = [r.name for r in registers if r.kind == "node" and r.key == "revoked" and r.value]
        with contextlib.suppress(ValueError):
            self.keyring.revoke(map(bytes.fromhex, revoked))
        self.on_registers(registers)

    # What is said.

    def send(self, node_id: str, head: Head, body: Sequence[Buffer] = ()) -> bool:
        """Says something to a peer. False where there is no link to it, or it has left too much unread."""
        if isinstance(head, MeshInvoke):
            self._core.called(node_id, time.monotonic())
        return self._links.send(node_id, head, body)

    def send_copy(self, node_id: str, head: Head, body: Sequence[Buffer] = ()) -> bool:
        """Says something about copies to a peer, on its stream for these. False where there is none, or it has left too
        much unread."""
        return self._links.send_copy(node_id, head, body)

    def heard_load(self, node_id: str, key: str, model_state: ModelState | None, load: Load | None) -> None:
        """What came with a peer's answer; `key` is that of the version that was called (model_key())."""
        self._core.heard_load(node_id, key, model_state, load, time.monotonic())
        self._perform()

    def moved(self, node_id: str, size_bytes: int, took_s: float) -> None:
        """A message and its answer, of so many bytes together, took so long on the way alone."""
        self._core.moved(node_id, size_bytes, took_s)

    def publish(self, load: Load, models: Mapping[str, ModelState]) -> None:
        """How this node and its models (by model_key()) fare now; peers are told what changed enough."""
        self._core.publish(load, models, time.monotonic())
        self._perform()

    def set_holdings(self, records: Iterable[Record]) -> None:
        """All versions that lie on this node's disk now. One that stays costs least if it is the same object."""
        self._core.set_holdings(records, time.monotonic())
        self._perform()

    def set_outside(self, server_id: str, records: Iterable[Record]) -> None:
        """All that a server has which is no node: `view` shows it among the holders, on this node alone."""
        self._core.set_outside(server_id, records)
        self._perform()

    @property
    def registers(self) -> list[Register]:
        """What the mesh's members have written last, and this node keeps."""
        return list(self._disk.registers.values())

    def write_register(self, *, kind: str, name: str, key: str, value: str) -> None:
        """Writes a register with this node's clock, here and on every peer. See messages.Register. Raises
        BadInputError where it cannot be kept."""
        self._core.write_register(kind, name, key, value, time.monotonic())
        self._perform()

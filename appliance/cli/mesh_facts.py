"""What `ingle doctor mesh` finds out of this box, its network, and each node that could be met. It judges nothing.

It asks the running node where there is one, listens beside it, and knocks at other nodes' ports. Of the data folder it
only reads. What is not known, because there is no node yet or it is another user's, is left empty.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from appliance.cli.target import find, read_node_file
from appliance.client_answers import MeshNode, Nodes
from appliance.core.addresses import Address, parse_address
from appliance.core.errors import BadInputError, IngleError
from appliance.settings import Settings
from federation.advertisement import usable_addresses
from federation.credentials import make_credential
from federation.identity import IDENTITY_FILE, Identity, load_identity
from federation.interfaces import Interface, multicast_places, read_interfaces
from federation.keyring import MeshKey, read_current
from federation.knocking import Answer, Knock, ask, knock
from federation.look_around import look_around
from federation.messages import Introduction
from federation.multicast_check import Heard, listen_everywhere
from federation.own_addresses import parse_advertised
from federation.remembered import Remembered

DEFAULT_PORT = 8004
LOOK_S = 1.5
KNOCK_S = 2.0
MAX_TRIED = 32
_MAX_ADDRESSES = 4  # of one node


class Tried(msgspec.Struct):
    """A node that was knocked at: at that of its addresses where most was found. `seen` and `known`: what mDNS and the
    running node say of it, where they know it. `bulk` is the port for calls and copies, where it is known which one."""

    name: str
    address: Address
    tcp: Knock
    udp: Answer | None = None  # None where there is no key to ask with
    bulk: Knock | None = None
    bulk_port: int = 0
    seen: Introduction | None = None
    known: MeshNode | None = None
    node_id: str = ""
    other: str = ""  # who is at that address in its place
    others: list["Tried"] = []  # its other addresses

    @property
    def outcome(self) -> tuple[str, bool, str]:
        """What it gave, to be told apart from what another address gave."""
        return self.tcp.ending, self.tcp.is_mesh, "" if self.name == str(self.address) else self.name

    @property
    def found(self) -> int:
        """How much."""
        return (self.tcp.ending == "open") + 2 * (self.udp is not None and self.udp.ending == "open")


class Facts(msgspec.Struct, kw_only=True):
    """`mesh`: where the mesh listens, None where it is off. `told`: what the running node says, None where none runs or
    answers. `port_faults`: why a node could not have its ports, by port's words. `advertised`: the addresses that the
    owner wants told; `twin_at`: where another box says that it is this node."""

    mesh: Address | None
    discover: bool
    join: str = ""
    told: Nodes | None = None
    runs: bool = False
    port_faults: dict[str, str] = {}
    key: MeshKey | None = None
    key_fault: str = ""
    interfaces: list[Interface] = []
    heard: list[Heard] = []
    seen: list[Introduction] = []
    advertised: list[str] = []
    twin_at: list[str] = []
    look_fault: str = ""
    tried: list[Tried] = []


class Candidate(msgspec.Struct):
    """A node that could be met. `addresses`: where it may be, the likeliest first. `name`: empty where only an
    address was given."""

    name: str
    addresses: list[str]
    port: int
    bulk_port: int = 0
    seen: Introduction | None = None
    known: MeshNode | None = None
    node_id: str = ""  # likewise


def gather(settings: Settings, targets: Sequence[Address]) -> Facts:
    """All of it, in about LOOK_S + KNOCK_S; `targets`: the addresses of the one node to knock at, in place of all that
    are known."""
    mesh = parse_address(settings.mesh)
    advertised = parse_advertised(settings.federation.advertise)
    facts = Facts(mesh=mesh, discover=settings.federation.discover, join=settings.join, advertised=advertised)
    if mesh is None:
        return facts
    facts.runs = read_node_file(settings.data_dir) is not None
    facts.told = _ask_node() if facts.runs else None
    if facts.told is None:
        facts.port_faults = _port_faults(mesh)
    identity: Identity | None = None
    try:
        facts.key = read_current(settings.data_dir)
        identity = load_identity(settings.data_dir) if (settings.data_dir / IDENTITY_FILE).exists() else None
    except (IngleError, OSError) as error:
        facts.key_fault = str(error)
    facts.interfaces = read_interfaces()
    asyncio.run(_look(facts, mesh, identity, targets, settings.data_dir))
    return facts


async def _look(
    facts: Facts, mesh: Address, identity: Identity | None, targets: Sequence[Address], data_dir: Path
) -> None:
    places = multicast_places(facts.interfaces, mesh.host)
    own_id = identity.node_id if identity else ""
    own_addresses = frozenset(address for interface in facts.interfaces for address in interface.addresses)
    called_the_same: set[str] = set()
    heard_at = [] if targets else places
    listening = asyncio.ensure_future(listen_everywhere(heard_at, own=own_addresses, wait_s=LOOK_S))
    try:
        facts.seen = await look_around(
            places, own_node_id=own_id, key=facts.key, look_s=LOOK_S, on_own_address=called_the_same.add
        )
    except OSError as error:
        facts.look_fault = error.strerror or str(error)
    facts.heard = await listening
    facts.twin_at = sorted(called_the_same - own_addresses - set(facts.advertised))
    key, own = facts.key, None
    if key is not None and identity is not None:
        credential = make_credential(key, identity.public_key, identity.node_id)
        own = Introduction(
            identity.node_id, "doctor", identity.public_key, key.id, credential, [], mesh.port, mesh.port
        )
    if targets:
        hosts = [target.host for target in targets]
        candidates = [Candidate("", hosts, targets[0].port, seen=_at(facts.seen, targets))]
    else:
        remembered = Remembered(data_dir).peers() if facts.key is not None else []
        candidates = candidates_of(facts, remembered, own_id)
    facts.tried = list(await asyncio.gather(*(_try(candidate, facts.key, own) for candidate in candidates)))


def candidates_of(facts: Facts, remembered: Iterable[Introduction], own_id: str) -> list[Candidate]:
    """Whoever has this mesh's key or was met before, each once, with all that is known of where it is."""
    found: dict[str, Candidate] = {}
    for told in facts.told.nodes if facts.told else ():
        address = parse_address(told.mesh) if told.mesh and not told.this else None
        if address is not None:
            found[told.node_id] = Candidate(told.name, told.addresses, address.port, known=told, node_id=told.node_id)
    introduced = [told for told in facts.seen if facts.key is not None and told.key_id == facts.key.id]
    for told_of in (*introduced, *remembered):
        candidate = found.setdefault(
            told_of.node_id, Candidate(told_of.name, [], told_of.mesh_port, node_id=told_of.node_id)
        )
        candidate.addresses = usable_addresses([*candidate.addresses, *told_of.addresses])
        candidate.bulk_port = candidate.bulk_port or told_of.bulk_port
        if candidate.seen is None and told_of in facts.seen:
            candidate.seen = told_of
            candidate.port = told_of.mesh_port
    found.pop(own_id, None)
    return list(found.values())[:MAX_TRIED]


async def _try(candidate: Candidate, key: MeshKey | None, own: Introduction | None) -> Tried:
    addresses = [Address(host, candidate.port) for host in candidate.addresses[:_MAX_ADDRESSES]]
    tries = await asyncio.gather(*(_try_address(address, candidate, key, own) for address in addresses))
    best = max(tries, key=lambda tried: tried.found)
    best.others = [tried for tried in tries if tried is not best]
    return best


async def _try_address(address: Address, candidate: Candidate, key: MeshKey | None, own: Introduction | None) -> Tried:
    asking = ask(address, key, own, wait_s=KNOCK_S) if key is not None and own is not None else _nothing()
    tcp, udp = await asyncio.gather(knock(address, wait_s=KNOCK_S), asking)
    tried = Tried(candidate.name or str(address), address, tcp, udp, seen=candidate.seen, known=candidate.known)
    tried.node_id = candidate.node_id
    if udp is not None and udp.introduction is not None and candidate.node_id not in ("", udp.introduction.node_id):
        tried.other = udp.introduction.name
    elif udp is not None and udp.introduction is not None:
        tried.name, tried.bulk_port = udp.introduction.name, udp.introduction.bulk_port
    tried.bulk_port = tried.bulk_port or candidate.bulk_port
    if tried.bulk_port and tcp.ending == "open":
        tried.bulk = await knock(Address(address.host, tried.bulk_port), wait_s=KNOCK_S)
    return tried


async def _nothing() -> None:
    return None


def _at(seen: list[Introduction], targets: Sequence[Address]) -> Introduction | None:
    """Who advertises itself at one of the addresses."""
    at = [told for told in seen if any(told.mesh_port == port and host in told.addresses for host, port in targets)]
    return at[0] if at else None


def _ask_node() -> Nodes | None:
    try:
        with find("", "").client(timeout_s=5.0) as client:
            return client.nodes()
    except IngleError:
        return None


def _port_faults(mesh: Address) -> dict[str, str]:
    """What would keep a node from listening where it is told to; nothing for a port that the system chooses."""
    if mesh.port == 0:
        return {}
    family = socket.AF_INET6 if ":" in mesh.host else socket.AF_INET
    wanted = {
        f"TCP {mesh}": (socket.SOCK_STREAM, mesh.port),
        f"UDP {mesh}": (socket.SOCK_DGRAM, mesh.port),
        f"TCP {Address(mesh.host, mesh.port + 1)} (for copies)": (socket.SOCK_STREAM, mesh.port + 1),
    }
    faults: dict[str, str] = {}
    for words, (kind, port) in wanted.items():
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((mesh.host, port))
            except (OSError, OverflowError) as error:
                faults[words] = getattr(error, "strerror", "") or str(error)
    return faults


def parse_target(text: str) -> list[Address]:
    """`HOST`, `HOST:PORT` or `[v6]:PORT`: the addresses that the host resolves to, the first _MAX_ADDRESSES of them.
    Raises BadInputError."""
    try:
        address = Address(str(ipaddress.ip_address(text.strip("[]"))), DEFAULT_PORT)
    except ValueError:
        parsed = parse_address(text if ":" in text else f"{text}:{DEFAULT_PORT}")
        if parsed is None or not parsed.port:
            raise BadInputError(
                f"'{text[:80]}' is no node's address: expected HOST:PORT such as 10.0.0.7:8004"
            ) from None
        address = parsed
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BadInputError(
            f"the name '{address.host[:80]}' is not known here ({error.strerror}): say its address"
        ) from None
    hosts = dict.fromkeys(str(place[0]) for *_, place in found)
    return [Address(host, address.port) for host in hosts][:_MAX_ADDRESSES]

"""A node's Introduction as the TXT record of its mDNS service, and back. Pure; no network.

What lies on the wire, each key once: `v` the protocol, `k` the public key, `i` the mesh key's id, `c` the credential,
`n` the node's name, `b` the bulk port, `a` the addresses in their order, `m` the seal: an HMAC with the mesh key over
all the rest and the port, so that nobody else can make a node knock anywhere. Keys that are unknown are passed over,
and sealed all the same. DNS's own address records keep no order and anyone may add to them: they only tell behind which
interface a link-local address is. The node's id is not told: it is the public key's digest, and the instance is named
by it, so that names cannot collide and no probing is needed.
"""

import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from federation.credentials import mac
from federation.identity import KEY_BYTES, node_id_of
from federation.keyring import MeshKey
from federation.messages import PROTOCOL, Introduction

SERVICE_TYPE = "_ingle._tcp.local."
MAX_TXT_BYTES = 400  # ours is less; a record that is larger is no node's
MAX_ADDRESSES = 8

_CREDENTIAL_BYTES = 32
_MAX_NAME = 128
_CONTEXT = b"ingle-advertisement-1"
_SEAL_DIGITS = 32
_INSTANCE = re.compile(r"ingle-([0-9a-f]{32})\._ingle\._tcp\.local\.")
_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{_MAX_NAME}}}")
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")


class NoIntroductionError(ValueError):
    """What was advertised is no node's introduction; says why."""


def instance_name(node_id: str) -> str:
    return f"ingle-{node_id}.{SERVICE_TYPE}"


def node_of_instance(name: str) -> str | None:
    """The node id in an instance's name, however it is written; None for names that no node gives itself."""
    found = _INSTANCE.fullmatch(name.lower())
    return found[1] if found else None


class Advertised(NamedTuple):
    """What a service record says of a node, and its TXT record."""

    introduction: Introduction
    txt: Mapping[bytes, bytes | None]

    def is_sealed_with(self, key: MeshKey) -> bool:
        """Whether someone with this key has said so, of this port and these addresses."""
        fields = {name: value or b"" for name, value in self.txt.items()}
        return hmac.compare_digest(_seal(fields, self.introduction.mesh_port, key), fields.get(b"m", b""))


def txt_of(introduction: Introduction, key: MeshKey) -> dict[str, str]:
    """What the TXT record tells of a node, in no more than MAX_TXT_BYTES: of its addresses the first that fit."""
    txt = {
        "v": str(PROTOCOL),
        "k": introduction.public_key.hex(),
        "i": introduction.key_id,
        "c": introduction.credential.hex(),
        "n": introduction.name,
        "b": str(introduction.bulk_port),
        "a": "",
    }
    room = MAX_TXT_BYTES - sum(len(name) + len(value) + 2 for name, value in txt.items()) - len("m=") - 1 - _SEAL_DIGITS
    fitting: list[str] = []
    for address in introduction.addresses:
        if len(",".join([*fitting, address])) > room:
            break
        fitting.append(address)
    txt["a"] = ",".join(fitting)
    encoded = {name.encode(): value.encode() for name, value in txt.items()}
    return txt | {"m": _seal(encoded, introduction.mesh_port, key).decode()}


def advertised(node_id: str, txt: Mapping[bytes, bytes | None], mesh_port: int, heard: Iterable[str]) -> Advertised:
    """What a service record says of the node `node_id`, proved by nothing yet. `heard`: the addresses in DNS's own
    records, link-local ones with the interface they were heard at. Raises NoIntroductionError.
    """
    public_key = _digits(txt, b"k", KEY_BYTES)
    if node_id_of(public_key) != node_id:
        raise NoIntroductionError("the public key is not that of the node's id")
    protocol = _text(txt, b"v")
    if not re.fullmatch("[1-9][0-9]{0,4}", protocol):
        raise NoIntroductionError(f"the protocol is no number: {protocol[:20]!r}")
    name, key_id = _text(txt, b"n"), _text(txt, b"i")
    if not _NAME.fullmatch(name) or not _KEY_ID.fullmatch(key_id):
        raise NoIntroductionError("the name or the key's id is none")
    bulk = _text(txt, b"b")
    if not re.fullmatch("[0-9]{1,5}", bulk) or int(bulk) > 65535 or not 0 < mesh_port <= 65535:
        raise NoIntroductionError("a port is none")
    scoped = {address.partition("%")[0]: address for address in heard if "%" in address}
    told = [scoped.get(address, address) for address in usable_addresses(_text(txt, b"a").split(","))]
    usable = [address for address in told if _dialable(address)]
    if not usable:
        raise NoIntroductionError("no address is told at which another box could reach it")
    credential = _digits(txt, b"c", _CREDENTIAL_BYTES)
    return Advertised(
        Introduction(node_id, name, public_key, key_id, credential, usable, mesh_port, int(bulk)), dict(txt)
    )


def usable_addresses(addresses: Iterable[str]) -> list[str]:
    """Those that a connection can be made to, each once, in their order, no more than MAX_ADDRESSES."""
    usable: dict[str, None] = {}
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if not (address.is_multicast or address.is_unspecified):
            usable[str(address)] = None
    return list(usable)[:MAX_ADDRESSES]


def _dialable(text: str) -> bool:
    """Not so an IPv6 link-local address without a scope, which says nothing of the interface it is behind."""
    return "%" in text or ":" not in text or not ipaddress.ip_address(text).is_link_local


def _seal(fields: Mapping[bytes, bytes], mesh_port: int, key: MeshKey) -> bytes:
    told = [part for name, value in sorted(fields.items()) if name != b"m" for part in (name, value)]
    return mac(key, _CONTEXT, str(mesh_port).encode(), *told).hex()[:_SEAL_DIGITS].encode()


def _text(txt: Mapping[bytes, bytes | None], key: bytes) -> str:
    value = txt.get(key)
    if value is None:
        raise NoIntroductionError(f"'{key.decode()}' is missing")
    return value.decode("ascii", errors="replace")


def _digits(txt: Mapping[bytes, bytes | None], key: bytes, size_bytes: int) -> bytes:
    text = _text(txt, key)
    if not re.fullmatch(f"[0-9a-f]{{{2 * size_bytes}}}", text):
        raise NoIntroductionError(f"'{key.decode()}' is not {size_bytes} bytes in hexadecimal")
    return bytes.fromhex(text)

"""Who is at the other end of a connection, as the kernel says: which address, and on this box which user.

Runs in the gateway. An address says nothing of whom a proxy on this box speaks for.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Peer(NamedTuple):
    """The address and port of a connection's other end; empty where it is not IP."""

    host: str
    port: int

    @property
    def ip(self) -> Ip | None:
        """None where it is no IP address. IPv4 written as IPv6 counts as IPv4."""
        try:
            return _unmapped(ipaddress.ip_address(self.host.partition("%")[0]))
        except ValueError:
            return None

    @property
    def on_this_box(self) -> bool:
        """Whether the connection comes from a loopback address."""
        return self.ip is not None and self.ip.is_loopback


NOBODY = Peer("", 0)
INTRODUCED = "x-ingle-introduced"  # metadata between this node's own processes


def _unmapped(ip: Ip) -> Ip:
    return (ip.version == 6 and ip.ipv4_mapped) or ip


def peer_of_socket(peername: object) -> Peer:
    """From what a transport says of its peer."""
    if isinstance(peername, tuple) and len(peername) >= 2:
        return Peer(str(peername[0]), int(peername[1]))
    return NOBODY


def peer_of_grpc(text: str) -> Peer:
    """From gRPC's words: `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`."""
    scheme, _, rest = text.partition(":")
    host, _, port = unquote(rest).rpartition(":")
    if scheme not in ("ipv4", "ipv6") or not (port.isascii() and port.isdigit()):
        return NOBODY
    return Peer(host.strip("[]"), int(port))


def peer_of_call(context: Any) -> Peer:
    """Who makes a gRPC call. One that came by the node's private socket was relayed by a front process, which says who
    its caller is; on any other way nobody is believed."""
    text: str = context.peer()
    if text.startswith("unix:"):
        text = str(dict(context.invocation_metadata() or ()).get(INTRODUCED, ""))
    return peer_of_grpc(text)


def user_of(peer: Peer, tables: Path = Path("/proc/net")) -> int | None:
    """The user whose socket this box's peer is, or None where the kernel's tables do not list it. Reads them: slow."""
    ip = peer.ip
    if ip is None:
        return None
    for table in ("tcp", "tcp6"):
        try:
            text = (tables / table).read_text()
        except OSError:
            continue
        for address, port, user in _sockets(text):
            if port == peer.port and address == ip:
                return user
    return None


def _sockets(text: str) -> Iterator[tuple[Ip, int, int]]:
    """Local address, port and user of each connection that is established. Format: proc(5), `/proc/net/tcp`."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[3] == "01":
            address, _, port = fields[1].partition(":")
            # Each 32-bit group is printed as a number of this machine's byte order.
            words = [struct.pack("=I", int(address[i : i + 8], 16)) for i in range(0, len(address), 8)]
            family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
            ip = ipaddress.ip_address(socket.inet_ntop(family, b"".join(words)))
            yield _unmapped(ip), int(port, 16), int(fields[7])

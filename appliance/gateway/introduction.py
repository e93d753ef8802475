"""How a front process introduces a caller whose connection it relays: the first line of the PROXY protocol, version 1.

Both ends use it. The socket that it arrives on is private to the node's own processes, so that what it says is true: a
caller's own bytes come only after it. Source: HAProxy, "The PROXY protocol", section 2.1.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any, cast

MAX_LINE_BYTES = 107  # as the specification has it
UNKNOWN = b"PROXY UNKNOWN\r\n"

Peername = tuple[str, int] | None


def write_introduction(peername: object, sockname: object) -> bytes:
    """From what a transport says of its two ends."""
    try:
        (host, port), (own_host, own_port) = _address(peername), _address(sockname)
    except ValueError:
        return UNKNOWN
    if host.version != own_host.version:
        return UNKNOWN
    return f"PROXY TCP{host.version} {host} {own_host} {port} {own_port}\r\n".encode()


def _address(name: object) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    if not isinstance(name, tuple) or len(name) < 2:
        raise ValueError("no address of the Internet")
    return ipaddress.ip_address(str(name[0]).partition("%")[0]), int(name[1])


def read_introduction(line: bytes) -> Peername:
    """Who is introduced, without the line's end; None where nobody is. Raises ValueError for any other line."""
    words = line.decode("ascii").split(" ")
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return None
    if len(words) != 6 or words[0] != "PROXY" or words[1] not in ("TCP4", "TCP6"):
        raise ValueError("no introduction")
    return str(ipaddress.ip_address(words[2])), int(words[4])


class Introduced:
    """A transport that says who was introduced where it is asked who is at the other end."""

    def __init__(self, transport: asyncio.Transport, peername: Peername, *, encrypted: bool) -> None:
        self._transport = transport
        self._said = {"peername": peername, "sslcontext": True if encrypted else None}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._said[name] if name in self._said else self._transport.get_extra_info(name, default)


class Introducing(asyncio.Protocol):
    """Reads the introduction and leaves the connection to the protocol that `make` makes."""

    def __init__(self, make: Callable[[], asyncio.Protocol], *, encrypted: bool) -> None:
        """`encrypted`: the caller's own connection speaks TLS."""
        self._make = make
        self._encrypted = encrypted
        self._transport: asyncio.Transport
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        line, found, rest = self._received.partition(b"\r\n")
        if not found and len(self._received) < MAX_LINE_BYTES:
            return
        try:
            peername = read_introduction(line)
        except ValueError:
            self._transport.abort()
            return
        protocol = self._make()
        self._transport.set_protocol(protocol)
        protocol.connection_made(
            cast("asyncio.Transport", Introduced(self._transport, peername, encrypted=self._encrypted))
        )
        if rest:
            protocol.data_received(rest)

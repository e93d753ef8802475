"""Whether multicast works here: each interface asks a question that nobody else asks, and listens for it.

Runs in the command line's process, in an event loop, beside a node that may be running. A question comes back to the
box that sent it, so one that does not was dropped on this box; that others are heard shows that the network carries it.
"""

import asyncio
import secrets
import socket
import struct
from typing import NamedTuple

_PORT = 5353
_IPV4_GROUP, _IPV6_GROUP = "224.0.0.251", "ff02::fb"
_PTR, _IN = 12, 1
_MAX_HEARD = 1000  # boxes that were heard; an office's printers are fewer


class Heard(NamedTuple):
    """What came of one interface: `itself` whether its question came back; `others`: who else said something there, by
    IP address; `fault`: why it could not be asked at all."""

    place: str | int
    itself: bool
    others: frozenset[str] = frozenset()
    fault: str = ""


async def listen_everywhere(places: list[str | int], *, own: frozenset[str], wait_s: float) -> list[Heard]:
    """Asks at each place, an IPv4 address or the number of an interface for IPv6, and listens so long to all that is
    said there. `own`: this box's IP addresses. Takes `wait_s`."""
    return list(await asyncio.gather(*(_listen(place, own, wait_s) for place in places)))


async def _listen(place: str | int, own: frozenset[str], wait_s: float) -> Heard:
    loop = asyncio.get_running_loop()
    token = secrets.token_hex(8).encode()
    itself, others = False, set[str]()
    try:
        with _socket(place) as sock:
            group = (_IPV4_GROUP, _PORT) if isinstance(place, str) else (_IPV6_GROUP, _PORT, 0, place)
            # All kinds of services that there are: printers and televisions answer, so that a quiet network is heard.
            await loop.sock_sendto(sock, _question(token + b"._ingle-doctor._udp"), group)
            await loop.sock_sendto(sock, _question(b"_services._dns-sd._udp"), group)
            async with asyncio.timeout(wait_s):
                while True:
                    packet, sender = await loop.sock_recvfrom(sock, 65536)
                    itself = itself or token in packet
                    host = str(sender[0]).partition("%")[0]
                    if host not in own and len(others) < _MAX_HEARD:
                        others.add(host)
    except TimeoutError:
        return Heard(place, itself, frozenset(others))
    except OSError as error:
        return Heard(place, itself=False, fault=error.strerror or str(error))


def _socket(place: str | int) -> socket.socket:
    """One that hears and says what is said at this place. Raises OSError."""
    family = socket.AF_INET if isinstance(place, str) else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if isinstance(place, str):
            own = socket.inet_aton(place)
            sock.bind(("", _PORT))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(_IPV4_GROUP) + own)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        else:
            number = struct.pack("@I", place)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(("::", _PORT))
            group = socket.inet_pton(socket.AF_INET6, _IPV6_GROUP)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + number)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
    except OSError:
        sock.close()
        raise
    return sock


def _question(name: bytes) -> bytes:
    """A query of mDNS for pointers of this name, which lies in `.local`."""
    labels = b"".join(bytes([len(label)]) + label for label in (*name.split(b"."), b"local"))
    return struct.pack("!6H", 0, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", _PTR, _IN)

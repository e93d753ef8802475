"""Whether an address can be listened on now and, where it cannot, why, in words. Any process; keeps no socket open."""

import errno
import socket
from typing import Any

from appliance.core.addresses import Address

_REASONS = {
    errno.EADDRINUSE: "another program has it",
    errno.EADDRNOTAVAIL: "this box has no such address",
    errno.EACCES: "this user may not have it; ports below 1024 are root's alone",
}
_MAX_TRIED = 16  # of a name's addresses


def why_not(address: Address, *, datagrams: bool = False, every: bool = False) -> str:
    """Why TCP, or UDP for `datagrams`, cannot be had there; empty where it can, or where the system chooses the port
    and the host is there. Of a name with several addresses one is enough, or `every` one is needed; where they differ,
    it is said of each."""
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
    except OSError as error:
        return f"its host is not known: {error.strerror}"
    # As servers do: what this kernel does not speak at all is passed over (`localhost` is ::1 too, without IPv6).
    spoken = [one for one in found[:_MAX_TRIED] if _is_spoken(one[0], kind)] or found[:1]
    faults = {str(place[0]): _fault(family, kind, protocol, place) for family, _, protocol, _, place in spoken}
    if not any(faults.values()) or not (every or all(faults.values())):
        return ""
    if len(set(faults.values())) == 1:
        return next(iter(faults.values()))
    return "; ".join(f"{host}: {fault or 'it could be had'}" for host, fault in faults.items())


def _is_spoken(family: int, kind: socket.SocketKind) -> bool:
    try:
        socket.socket(family, kind).close()
    except OSError:
        return False
    return True


def _fault(family: int, kind: socket.SocketKind, protocol: int, place: tuple[Any, ...]) -> str:
    try:
        with socket.socket(family, kind, protocol) as probe:
            if kind == socket.SOCK_STREAM:  # as a server does: what ended a minute ago is in nobody's way
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(place)
    except OSError as error:
        return _REASONS.get(error.errno or 0, error.strerror or str(error))
    return ""

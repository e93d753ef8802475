"""Whether an address can be listened on now and, where it cannot, why, in words. Any process; keeps no socket open."""

import errno
import socket

from appliance.core.addresses import Address

_REASONS = {
    errno.EADDRINUSE: "another program has it",
    errno.EADDRNOTAVAIL: "this box has no such address",
    errno.EACCES: "this user may not have it; ports below 1024 are root's alone",
}


def why_not(address: Address, *, datagrams: bool = False) -> str:
    """Why TCP, or UDP for `datagrams`, cannot be had there; empty where it can, or where the system chooses the port
    and the host is there."""
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
    except OSError as error:
        return f"its host is not known: {error.strerror}"
    for family, _, protocol, _, place in found[:1]:
        with socket.socket(family, kind, protocol) as probe:
            if not datagrams:  # as a server does: what ended a minute ago is in nobody's way
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(place)
            except OSError as error:
                return _REASONS.get(error.errno or 0, error.strerror or str(error))
    return ""

"""The network interfaces of this box as they are now, and which of them mDNS goes over.

Reads the kernel's lists: no network traffic, about a millisecond. What to do with them is decided
by functions of that list, here for mDNS and in own_addresses.py for what other nodes are told.
"""

import ipaddress
import re
import socket
from typing import NamedTuple

import psutil

LOOPBACK = "127.0.0.1"
# A socket may join 20 groups of IPv4 unless the owner of the box says otherwise (igmp_max_memberships).
MAX_INTERFACES = 16
# Interfaces to containers and virtual machines of this box, by the names that their makers give.
_INWARD = re.compile(r"docker|br-[0-9a-f]{12}|veth|virbr|vnet|lxcbr|lxdbr|cni|flannel|cali|podman")
_TUNNEL = re.compile(r"tun|tap|wg|tailscale|zt")


class Interface(NamedTuple):
    """One interface that is up. `addresses` are those that can be bound now, IPv6 without a scope."""

    name: str
    number: int  # the kernel's index of it
    loopback: bool
    addresses: tuple[str, ...]

    @property
    def inward(self) -> bool:
        """Whether it leads only to what runs on this box, as far as its name tells."""
        return _INWARD.match(self.name) is not None

    @property
    def tunnel(self) -> bool:
        return _TUNNEL.match(self.name) is not None


def read_interfaces() -> list[Interface]:
    """The interfaces that are up and have addresses; in the order of their numbers. Raises OSError."""
    states, addresses_by_name = psutil.net_if_stats(), psutil.net_if_addrs()
    found: list[Interface] = []
    for number, name in socket.if_nameindex():
        state = states.get(name)
        if state is None or not state.isup:
            continue
        told = [
            address.address.partition("%")[0]
            for address in addresses_by_name.get(name, ())
            if address.family in (socket.AF_INET, socket.AF_INET6)
        ]
        usable = tuple(address for address in told if _binds(address, number))
        if usable:
            found.append(Interface(name, number, "loopback" in state.flags.split(","), usable))
    return sorted(found, key=lambda interface: interface.number)


def ip_bound_to(host: str, interfaces: list[Interface]) -> str:
    """The IP address at which whoever listens on `host` listens: that, or an interface's name, as ZeroMQ takes it, or a
    name that this box knows. Where it is none of these: all."""
    for interface in interfaces:
        if interface.name == host:
            return interface.addresses[0]
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0])
    except (OSError, UnicodeError):
        return "0.0.0.0"


def multicast_places(interfaces: list[Interface], bound_to: str) -> list[str | int]:
    """Where mDNS listens and asks, as zeroconf wants it told: IPv4 addresses, and indexes of interfaces with IPv6.

    `bound_to`: where the mesh listens, as `--mesh` says it; where it is a certain address, only the interface with it.
    The loopback is always among the others, so that nodes of one box meet whatever becomes of its cable.
    """
    host = ipaddress.ip_address(ip_bound_to(bound_to, interfaces))
    if not host.is_unspecified:
        if host.is_loopback:
            return [LOOPBACK] if any(LOOPBACK in interface.addresses for interface in interfaces) else []
        return [
            str(host) if host.version == 4 else interface.number
            for interface in interfaces
            if str(host) in interface.addresses
        ]
    places: list[str | int] = []
    for interface in sorted(interfaces, key=lambda one: (not one.loopback, one.inward, one.tunnel, one.number))[
        :MAX_INTERFACES
    ]:
        if interface.loopback:
            places += [LOOPBACK] if LOOPBACK in interface.addresses else []
            continue
        ipv4 = [address for address in interface.addresses if ":" not in address]
        places += ipv4[:1]
        if len(ipv4) < len(interface.addresses):
            places.append(interface.number)
    return places


def _binds(address: str, number: int) -> bool:
    """Whether the kernel lets it be used yet: an IPv6 address is tried for duplicates for about a second first."""
    family, scope = (socket.AF_INET6, (0, number)) if ":" in address else (socket.AF_INET, ())
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0, *scope))
        except OSError:
            return False
    return True

"""Which addresses of this box other nodes are told, the likeliest to be reached first. Pure."""

import ipaddress

from appliance.core.errors import BadInputError
from federation.advertisement import MAX_ADDRESSES, usable_addresses
from federation.interfaces import Interface, ip_bound_to


def own_addresses(interfaces: list[Interface], *, bound_to: str, advertise: str = "") -> list[str]:
    """No more than MAX_ADDRESSES: those of `advertise` where it names some, else that which the mesh is bound to, else
    all of the box: IPv4 before IPv6, link-local ones after them, tunnels' last. Those of bridges to containers, which
    every box has alike, are told only where there is no other, and the loopback's only where there are none of these.

    `bound_to`: where the mesh listens, as `--mesh` says it. Raises BadInputError where `advertise` is no list of IP
    addresses.
    """
    if advertise.strip():
        return parse_advertised(advertise)
    host = ipaddress.ip_address(ip_bound_to(bound_to, interfaces))
    if not host.is_unspecified:
        return [str(host)]
    ipv4_only = host.version == 4
    ranked = sorted(
        (_rank(address, interface), number, address)
        for number, interface in enumerate(interfaces)
        for address in interface.addresses
        if not (ipv4_only and ":" in address)
    )
    for bound in (_INWARD, _LOOPBACK, _LOOPBACK + 1):
        if told := [address for rank, _, address in ranked if rank < bound]:
            return usable_addresses(told)
    return []


def parse_advertised(advertise: str) -> list[str]:
    """The IP addresses that the owner wants told. Raises BadInputError."""
    said = [part.strip() for part in advertise.split(",") if part.strip()]
    for text in said:
        if not usable_addresses([text]):
            raise BadInputError(
                f"'{text[:80]}' is no IP address to advertise: expected some such as 192.168.1.7,fd00::7"
            )
    if len(said) > MAX_ADDRESSES:
        raise BadInputError(f"{len(said)} addresses are too many to advertise: name the {MAX_ADDRESSES} best")
    return usable_addresses(said)


_TUNNEL, _INWARD, _LOOPBACK = 4, 10, 20


def _rank(text: str, interface: Interface) -> int:
    address = ipaddress.ip_address(text)
    if address.is_loopback:
        return _LOOPBACK
    rank = (0 if address.version == 4 else 1) + (2 if address.is_link_local else 0)
    return rank + (_INWARD if interface.inward else _TUNNEL if interface.tunnel else 0)

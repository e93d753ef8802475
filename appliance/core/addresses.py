"""Addresses that a node listens on or is reached at: `HOST:PORT`, `[v6]:PORT`. Pure; any process."""

import ipaddress
from typing import NamedTuple

from appliance.core.errors import BadInputError

OFF = "off"


class Address(NamedTuple):
    """A host and a port; port 0 leaves the choice to the system. `str()` gives `HOST:PORT`, IPv6 in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address | None:
    """The address in `HOST:PORT`, or None for `off`. Raises BadInputError."""
    if text == OFF:
        return None
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise BadInputError(
            f"'{text[:80]}' is no address: expected HOST:PORT such as 0.0.0.0:8000, or off "
            "(ports go to 65535; 0: the system's choice)"
        )
    return Address(host, int(port))


def is_loopback(host: str) -> bool:
    """Whether another box would find itself there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"

"""All connections with one peer: the one that is its link, those that an end has not let go yet, and those for bulk.

Runs in the gateway's event loop. Who may be here at all is links.py's.
"""

import ipaddress
from collections.abc import Callable, Iterator

from appliance.core.addresses import Address
from federation.dialled import DialledWire
from federation.link_choice import Candidate
from federation.listener import AcceptedWire
from federation.messages import Introduction

MAX_ADDRESSES = 8  # of a node that are dialled

AnyWire = DialledWire | AcceptedWire


class PeerLink:
    """`wire` is None while there is no link. `said`: connections whose HELLO was heard, by how each stands."""

    def __init__(self, node_id: str, public_key: bytes) -> None:
        self.node_id = node_id
        self.public_key = public_key
        self.introduction: Introduction | None = None
        self.wire: AnyWire | None = None
        self.said: dict[AnyWire, Candidate] = {}
        self.attempts: dict[Address, DialledWire] = {}
        self.bulk: list[AnyWire] = []
        self.bulk_attempt: DialledWire | None = None
        self.trouble = ""  # why the last attempt came to nothing
        self.complained_s = float("-inf")

    def wires(self) -> Iterator[AnyWire]:
        """Everything that is open or being tried."""
        yield from tuple(self.said)
        yield from tuple(self.attempts.values())
        yield from tuple(self.bulk)
        if self.bulk_attempt is not None:
            yield self.bulk_attempt

    def give_up_attempts(self, reason: str, *, but: Callable[[DialledWire], bool] = lambda _: False) -> None:
        """Ends what is being tried, as far as it is not meant by `but`."""
        for attempt in tuple(self.attempts.values()):
            if not but(attempt):
                attempt.end(reason)


def dialable(introduction: Introduction) -> list[Address]:
    """Where a node says that it is, as far as that can be dialled: IP addresses of one host each, the first few."""
    addresses: list[Address] = []
    for text in introduction.addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if not (address.is_unspecified or address.is_multicast) and 0 < introduction.mesh_port < 65536:
            addresses.append(Address(text, introduction.mesh_port))
    return addresses[:MAX_ADDRESSES]

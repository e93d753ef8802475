"""How this node and others come to know each other: whom it believes, where they are, and introductions by datagram.

Runs in the gateway's event loop, under mesh.py. Whoever the keyring believes may have a link; where a node is said to
be counts for less than where it has proved to be, since anybody can tell the first.
"""

import asyncio
import contextlib
import time
from typing import Protocol

from msgspec.structs import replace

from appliance.core.addresses import Address
from federation.advertisement import usable_addresses
from federation.credentials import why_distrusted
from federation.introducer import Introducer
from federation.keyring import Keyring
from federation.links import Links
from federation.messages import Introduction
from federation.pinned_names import PinnedNames

_JOIN_AGAIN_S = (0.1, 5.0)  # first, at last
_MET_LATELY_S = 2.0


class Acquaintance(Protocol):
    """What a Meeting asks of the mesh."""

    def shown_to(self, peer: Introduction | None) -> Introduction:
        """How this node introduces itself, to that node if one is named."""

    def introduced(self, introduction: Introduction) -> str:
        """Someone is said to be there. Why that changes nothing; else empty."""


class Meeting:
    """open() and close(); between them dial() and join(). `believed`: of each node that may have a link, how it was
    believed last."""

    def __init__(self, own_id: str, keyring: Keyring, names: PinnedNames, links: Links, mesh: Acquaintance) -> None:
        self.believed: dict[str, Introduction] = {}
        self._own_id = own_id
        self._keyring = keyring
        self._names = names
        self._links = links
        self._mesh = mesh
        self._proved: dict[str, list[str]] = {}  # addresses, the last proved first
        self._met_s: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()
        self._joining: list[asyncio.Task[None]] = []
        self._introducer = Introducer(
            keyring,
            shown=mesh.shown_to,
            is_believed=lambda told: not self.why_distrusted(told),
            on_met=self._met,
        )

    def open(self, address: Address) -> int:
        """Answers introductions; the port. Raises OSError where it cannot be had."""
        return self._introducer.open(address)

    async def close(self) -> None:
        """Answers no more, and joins nobody."""
        for task in self._joining:
            task.cancel()
        await asyncio.gather(*self._joining, return_exceptions=True)
        self._introducer.close()

    # Whom to believe.

    def why_distrusted(self, introduction: Introduction) -> str:
        """Why this introduction proves nothing, as the end of a sentence; empty where it is to be believed."""
        return why_distrusted(introduction, self._keyring, self._names.knows)

    def believe(self, introduction: Introduction) -> bool:
        """Lets a node have a link, unless its introduction proves nothing. Whether it may."""
        if introduction.node_id == self._own_id or self.why_distrusted(introduction):
            return False
        self.believed[introduction.node_id] = introduction
        self._links.allow(introduction.node_id, introduction.public_key)
        return True

    def proved(self, introduction: Introduction) -> None:
        """A node that is believed tells, over a link or by a datagram just made, where it is."""
        before = self._proved.get(introduction.node_id, [])
        self._proved[introduction.node_id] = usable_addresses([*introduction.addresses, *before])

    def forbid(self, node_id: str, reason: str) -> None:
        """Ends all that there is with a node, and lets it in no more until it is believed anew."""
        self.believed.pop(node_id, None)
        self._proved.pop(node_id, None)
        self._met_s.pop(node_id, None)
        self._links.forbid(node_id, reason)

    def linked(self) -> list[Introduction]:
        """How those show themselves with whom there is a link."""
        return [shown for node_id, shown in self.believed.items() if self._links.is_up(node_id)]

    # Reaching them.

    def dial(self, introduction: Introduction) -> None:
        """Introduces this node and dials, where the node has proved to be and where it is said to be."""
        node_id = introduction.node_id
        if node_id not in self.believed and not self.believe(introduction):
            return
        hosts = usable_addresses([*self._proved.get(node_id, ()), *introduction.addresses])
        if time.monotonic() - self._met_s.get(node_id, float("-inf")) > _MET_LATELY_S:
            for host in hosts:
                self._introducer.ask(Address(host, introduction.mesh_port))
        self._links.dial(replace(introduction, addresses=hosts))

    def _met(self, introduction: Introduction, host: str) -> None:
        """A datagram has proved that a node is at this host, and what it says is fresh."""
        node_id = introduction.node_id
        if node_id == self._own_id:
            return
        self._met_s[node_id] = time.monotonic()
        told = replace(introduction, addresses=usable_addresses([host, *introduction.addresses]))
        self.proved(told)
        if self.believed.get(node_id) != told:
            self._mesh.introduced(told)
        else:
            self._links.dial(told)

    def join(self, address: Address) -> None:
        """Introduces this node to whoever answers at an address, whenever there is no link with a node there."""
        self._joining.append(self._loop.create_task(self._join_for_ever(address)))

    async def _join_for_ever(self, address: Address) -> None:
        wait_s, last_s = _JOIN_AGAIN_S
        while True:
            hosts = await self._hosts(address)
            if self._is_linked_at(hosts, address.port):
                wait_s = last_s
            else:
                for host in hosts:
                    self._introducer.ask(Address(host, address.port))
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, last_s)

    async def _hosts(self, address: Address) -> list[str]:
        with contextlib.suppress(OSError):  # no such name now; there may be one later
            found = await self._loop.getaddrinfo(address.host, address.port)
            return list(dict.fromkeys(str(place[4][0]) for place in found))
        return []

    def _is_linked_at(self, hosts: list[str], port: int) -> bool:
        for shown in self.linked():
            places = {*shown.addresses, *self._proved.get(shown.node_id, ())}
            if shown.mesh_port == port and not places.isdisjoint(hosts):
                return True
        return False

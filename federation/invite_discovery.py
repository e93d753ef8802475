"""Finds the node that has an invitation open, by multicast DNS, from those characters of a code that anyone may see.

A service type of its own, so that a box that is no node yet need not be able to read the mesh's advertisements, and so
that it is gone when the invitation is. Both ends open a Zeroconf only for as long as they need one.
"""

import logging
from collections.abc import Collection

from zeroconf import Error, IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from appliance.core.addresses import Address
from federation.interfaces import multicast_places, read_interfaces
from federation.own_addresses import own_addresses

SERVICE_TYPE = "_ingle-invite._tcp.local."
FIND_S = 4.0
_MAX_ADDRESSES = 8

_log = logging.getLogger("ingle.mesh")


class InviteAnnouncer:
    """Tells the LAN at which port this node's open invitations are answered."""

    def __init__(self, bound_to: str = "0.0.0.0", advertise: str = "") -> None:
        """`bound_to`: the IP address that the mesh listens on; `advertise`: that of MeshSettings."""
        self._bound_to = bound_to
        self._advertise = advertise
        self._zeroconf: AsyncZeroconf | None = None
        self._services: dict[str, AsyncServiceInfo] = {}
        self.trouble = ""  # why nobody can find this node, for people; empty where it can be found

    async def announce(self, labels: Collection[str], port: int) -> None:
        """These invitations are open now, and no others. Where mDNS cannot be had, `trouble` says why."""
        try:
            for label in self._services.keys() - set(labels):
                await self._take_back(label)
            if not labels:
                await self.close()
                return
            if self._zeroconf is None:
                self._zeroconf = _zeroconf(self._bound_to)
            for label in set(labels) - self._services.keys():
                service = self._services[label] = self._service(label, port)
                # The label was drawn by chance: to ask first whether another has it would take a second.
                await self._zeroconf.async_register_service(service, cooperating_responders=True)
            self.trouble = ""
        except (OSError, Error) as error:
            self.trouble = f"multicast DNS cannot be had here: {error}"
            _log.warning("the new node must be told this one's address: %s", self.trouble)
            await self.close()

    async def close(self) -> None:
        """Takes everything back."""
        if self._zeroconf is None:
            return
        zeroconf, self._zeroconf = self._zeroconf, None
        self._services.clear()
        said = zeroconf.zeroconf.generate_unregister_all_services()
        if said is not None:
            zeroconf.zeroconf.async_send(said)
        await zeroconf.async_close()

    async def _take_back(self, label: str) -> None:
        assert self._zeroconf is not None
        await self._zeroconf.async_unregister_service(self._services.pop(label))

    def _service(self, label: str, port: int) -> AsyncServiceInfo:
        addresses = own_addresses(read_interfaces(), bound_to=self._bound_to, advertise=self._advertise)
        return AsyncServiceInfo(
            SERVICE_TYPE,
            f"{label}.{SERVICE_TYPE}",
            port=port,
            server=f"ingle-invite-{label.lower()}.local.",
            parsed_addresses=addresses,
        )


async def find_inviting(label: str, *, find_s: float = FIND_S, bound_to: str = "0.0.0.0") -> list[Address]:
    """Where the invitation of this label is answered, as far as multicast DNS tells; empty where nobody says so in
    time. Whoever answers may be anybody: the code is what proves it. Raises OSError where mDNS cannot be had."""
    try:
        zeroconf = _zeroconf(bound_to)
    except Error as error:
        raise OSError(str(error)) from None
    service = AsyncServiceInfo(SERVICE_TYPE, f"{label}.{SERVICE_TYPE}")
    try:
        if not await service.async_request(zeroconf.zeroconf, find_s * 1000):
            return []
    finally:
        await zeroconf.async_close()
    port = service.port or 0
    return [Address(host, port) for host in service.parsed_scoped_addresses(IPVersion.All)][:_MAX_ADDRESSES]


def _zeroconf(bound_to: str) -> AsyncZeroconf:
    places = multicast_places(read_interfaces(), bound_to)
    version = IPVersion.All if any(isinstance(place, int) for place in places) else IPVersion.V4Only
    return AsyncZeroconf(interfaces=places, ip_version=version)

"""Finds the nodes of this mesh by multicast DNS and lets them find this one. Runs in the gateway's event loop.

Owns one Zeroconf, no thread. What it hears of a node with a valid credential it hands on as an Introduction; it opens
no connection and never judges life: caches of mDNS keep the dead for hours. Other meshes are only remembered, for
people's eyes. What the network sends is taken for hostile: see mdns_listener.py and sightings.py for its bounds.

zeroconf's browser, which asks for what there is, keeps a timer for each name it ever heard; so it lives only while it
asks. Interfaces come and go, so all is built anew whenever they differ from those it was built for.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable

from msgspec.structs import replace
from zeroconf import DNSQuestionType, Error, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from federation.advertisement import MAX_ADDRESSES, SERVICE_TYPE, Advertised, instance_name, txt_of
from federation.credentials import why_distrusted
from federation.faults import copied_to
from federation.interface_events import InterfaceEvents
from federation.interfaces import multicast_places, read_interfaces
from federation.keyring import Keyring
from federation.mdns_listener import MdnsListener
from federation.messages import Introduction
from federation.own_addresses import own_addresses
from federation.sightings import OtherMesh, Sightings
from federation.zeroconf_log import put_in_words

FIRST_ASK_S = 4.0  # a browser asks at once, and again after 1 and 3 seconds
ASK_S = 0.3  # once
ASK_EVERY_S = 60.0
_ASK_EVERY_PER_NODE_S = 3.0  # so that all of a mesh of 200 asks no more often than all of one of 20
LOOK_EVERY_S = 10.0
RETRY_S = 1.0
_SETTLE_S = 0.3  # changes of interfaces come in swarms
FLOOD_PAUSE_S = 10.0

_log = logging.getLogger("ingle.mesh")


class Discovery:
    """start(), update() whenever what is told of this node changes, stop(). Callbacks are called in the event loop."""

    def __init__(
        self,
        own: Introduction,
        *,
        keyring: Keyring,
        on_introduction: Callable[[Introduction], object],
        on_addresses: Callable[[list[str]], object] | None = None,
        bound_to: str = "0.0.0.0",
        advertise: str = "",
    ) -> None:
        """`keyring` says whose credentials are good, be it by a key that was changed since: `on_introduction` is given
        those alone.

        `own`'s addresses are replaced by those this box has; `on_addresses` is told of them whenever they differ, first
        within start(). `bound_to`: where the mesh listens, as `--mesh` says it. `advertise`: that of MeshSettings;
        raises BadInputError where it is no list of addresses.
        """
        self._own = own
        self._keyring = keyring
        self._on_introduction = on_introduction
        self._on_addresses = on_addresses
        self._bound_to = bound_to
        self._advertise = advertise
        self._interfaces = read_interfaces()
        own_addresses(self._interfaces, bound_to=bound_to, advertise=advertise)
        self._sightings = Sightings()
        self._own_addresses: set[str] = set()  # all that this node ever had or told
        self._twin_addresses: set[str] = set()
        self._zeroconf: AsyncZeroconf | None = None
        self._listener: MdnsListener | None = None
        self._announcing: asyncio.Future[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._building = asyncio.Lock()
        self._look = asyncio.Event()
        self._flooded = False
        self._events = InterfaceEvents(self._look.set)
        self.trouble = ""  # why nothing can be found, for people; empty where mDNS is up

    async def start(self) -> None:
        """Advertises this node and asks for others. Where mDNS cannot be had, says so in the log and tries on."""
        put_in_words()
        self._events.start()
        await self._build()
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def update(self, own: Introduction) -> None:
        """Advertises what is now true of this node; its addresses are found anew."""
        self._own = own
        await self._build()

    def other_meshes(self) -> list[OtherMesh]:
        """What is in sight and has another key. Half a second after start() all that answers has answered."""
        return self._sightings.other_meshes(time.monotonic())

    async def stop(self) -> None:
        """Takes the advertisement back and lets every socket go."""
        self._events.stop()
        await _end(self._watching)
        async with self._building:
            await self._close(goodbye=True)

    async def _build(self) -> None:
        """Closes what there is and opens what fits the interfaces there are now."""
        async with self._building:
            await self._close(goodbye=False)
            self._interfaces = read_interfaces()
            addresses = own_addresses(self._interfaces, bound_to=self._bound_to, advertise=self._advertise)
            if addresses != self._own.addresses:
                self._own = replace(self._own, addresses=addresses)
                if self._on_addresses is not None:
                    self._on_addresses(addresses)
            self._own_addresses.update(addresses, *(interface.addresses for interface in self._interfaces))
            places = multicast_places(self._interfaces, self._bound_to)
            try:
                await self._open(places)
            except (OSError, RuntimeError, Error) as error:  # an interface may go while it is being opened
                await self._close(goodbye=False)
                self._say(f"no other node can be found by multicast DNS: {error}")
                return
            self._say("" if places else "no other node can be found by multicast DNS: no interface is up")

    async def _open(self, places: list[str | int]) -> None:
        # With no interface at all: IPv4, which every kernel has.
        version = IPVersion.All if any(isinstance(place, int) for place in places) else IPVersion.V4Only
        self._zeroconf = AsyncZeroconf(interfaces=places, ip_version=version)
        self._listener = MdnsListener(
            self._own.node_id,
            on_found=self._found,
            on_gone=self._sightings.gone,
            on_flood=self._flood,
            on_own_address=self._own_address,
        )
        self._zeroconf.zeroconf.async_add_listener(self._listener, None)
        service = AsyncServiceInfo(
            SERVICE_TYPE,
            instance_name(self._own.node_id),
            port=self._own.mesh_port,
            properties=txt_of(self._own, self._keyring.get(self._own.key_id) or self._keyring.current),
            server=f"ingle-{self._own.node_id}.local.",
            parsed_addresses=self._own.addresses,
        )
        announced = await self._zeroconf.async_register_service(service, cooperating_responders=True)
        self._announcing = asyncio.ensure_future(announced)
        self._asking = asyncio.get_running_loop().create_task(self._ask_for_ever(self._zeroconf.zeroconf))

    async def _close(self, *, goodbye: bool) -> None:
        await _end(self._asking, self._announcing)
        if self._listener is not None:
            await self._listener.stop()
        if self._zeroconf is not None:
            zeroconf = self._zeroconf.zeroconf
            if self._listener is not None:
                zeroconf.async_remove_listener(self._listener)
            # One goodbye: zeroconf's own way says it three times and takes a quarter of a second.
            said = zeroconf.generate_unregister_all_services()
            if goodbye and said is not None:
                zeroconf.async_send(said)
            await self._zeroconf.async_close()
        self._zeroconf = self._listener = self._asking = self._announcing = None

    async def _watch(self) -> None:
        """Builds anew when the interfaces differ, and what failed or was flooded, after a while."""
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for(), which in Python 3.11 may swallow the task's end.
                async with asyncio.timeout(LOOK_EVERY_S if self._zeroconf is not None else RETRY_S):
                    await self._look.wait()
                await asyncio.sleep(_SETTLE_S)
            self._look.clear()
            if self._flooded:
                async with self._building:
                    await self._close(goodbye=False)
                self._say(f"a flood of multicast DNS: nothing is listened to for {FLOOD_PAUSE_S:g} s")
                await asyncio.sleep(FLOOD_PAUSE_S)
                self._flooded = False
            try:
                if self._zeroconf is None or read_interfaces() != self._interfaces:
                    await self._build()
            except OSError as error:
                self._say(f"the interfaces of this box cannot be read: {error}")

    async def _ask_for_ever(self, zeroconf: Zeroconf) -> None:
        """Asks which nodes there are; those that are known already need not answer."""
        ask_s = FIRST_ASK_S
        while True:
            async with AsyncServiceBrowser(
                zeroconf, SERVICE_TYPE, handlers=[_passed_over], question_type=DNSQuestionType.QM
            ):
                await asyncio.sleep(ask_s)
            every_s = max(ASK_EVERY_S, _ASK_EVERY_PER_NODE_S * self._sightings.count_of_ours)
            await asyncio.sleep(every_s * random.uniform(0.8, 1.2))  # noqa: S311 - so that nodes do not ask in step
            ask_s = ASK_S

    def _found(self, found: Advertised) -> None:
        told = found.introduction
        key = self._keyring.get(told.key_id) or self._keyring.get_retired(told.key_id, time.time())
        if key is None:
            self._sightings.heard(told, ours=False, now_s=time.monotonic())
            return
        # Whether the holder of a key that was changed since is a member, the mesh knows.
        why = why_distrusted(told, self._keyring, was_member=lambda _: True)
        if why or not found.is_sealed_with(key):
            why = why or "it is not sealed with the mesh's key"
            _log.debug("what is advertised as node %s is not believed: %s", told.node_id, why)
        elif self._sightings.heard(told, ours=True, now_s=time.monotonic()):
            self._on_introduction(told)

    def _own_address(self, host: str) -> None:
        """A node with this one's id says that it is there: two whose data folder is one's copy never meet, so that
        nobody else might say it."""
        known = self._own_addresses | self._twin_addresses
        if host not in known and len(self._twin_addresses) < MAX_ADDRESSES:
            self._twin_addresses.add(host)
            _log.warning("%s", copied_to(host))

    def _flood(self) -> None:
        self._flooded = True
        self._look.set()

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            _log.warning("%s", trouble)
        self.trouble = trouble


async def _end(*futures: asyncio.Future[None] | None) -> None:
    running = [future for future in futures if future is not None]
    for future in running:
        future.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _passed_over(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
    """The browser only asks: what is answered is read by the listener, with all the rest."""

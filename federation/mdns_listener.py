"""Makes introductions of the mDNS records that arrive. Runs in the event loop, called by zeroconf.

Everything is taken for hostile: only names that a node could have given itself are looked at, so many a packet and no
more, and where the records come as a flood the listener stops reading and says so. Who has
said so, and what that is worth, is not judged here.
"""

import asyncio
import contextlib
import ipaddress
import logging
import time
from collections.abc import Callable

from zeroconf import Error, IPVersion, RecordUpdate, RecordUpdateListener, Zeroconf
from zeroconf._dns import DNSAddress
from zeroconf.asyncio import AsyncServiceInfo

from federation.advertisement import (
    MAX_TXT_BYTES,
    SERVICE_TYPE,
    Advertised,
    NoIntroductionError,
    advertised,
    instance_name,
    node_of_instance,
)

MAX_NODES_A_PACKET = 32
MAX_RESOLVING = 4
_RESOLVE_MS = 1500.0
# Records, not packets: one packet holds up to 750. Far more than a mesh of 200 says when all of it starts at once.
FLOOD_RECORDS_A_SECOND = 20_000

# RFC 1035 and 3596: types of records.
_A, _TXT, _AAAA, _SRV = 1, 16, 28, 33

_log = logging.getLogger("ingle.mesh")


class MdnsListener(RecordUpdateListener):
    """For one Zeroconf. stop() when that is closed."""

    def __init__(
        self,
        own_node_id: str,
        *,
        on_found: Callable[[Advertised], None],
        on_gone: Callable[[str], None],
        on_flood: Callable[[], None],
        on_own_address: Callable[[str], None],
    ) -> None:
        """`on_found` at each announcement, also of what is known; `on_gone` with a node id whose advertisement was
        taken back or ran out; `on_flood` once: nothing is read from then on; `on_own_address` with each address at
        which a node with this node's own id says that it is."""
        self._own_node_id = own_node_id
        self._on_found = on_found
        self._on_gone = on_gone
        self._on_flood = on_flood
        self._on_own_address = on_own_address
        self._dirty: set[str] = set()
        self._resolving: set[asyncio.Task[None]] = set()
        self._second_s = 0.0
        self._records_left = FLOOD_RECORDS_A_SECOND
        self._zeroconf: Zeroconf | None = None

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Called with what arrived or ran out, before it is in the cache. `now` in zeroconf's milliseconds."""
        if self._flooded(len(records)):
            return
        self._zeroconf = zc
        for update in records:
            record = update.new
            if record.type in (_TXT, _SRV):
                node_id = node_of_instance(record.name)
            elif record.type in (_A, _AAAA):
                node_id = node_of_instance(record.name.lower().removesuffix("local.") + SERVICE_TYPE)
            else:
                continue
            if node_id == self._own_node_id and isinstance(record, DNSAddress) and not record.is_expired(now):
                self._on_own_address(str(ipaddress.ip_address(record.address)))
            if node_id is None or node_id == self._own_node_id:
                continue
            if not record.is_expired(now):
                if len(self._dirty) < MAX_NODES_A_PACKET:
                    self._dirty.add(node_id)
            elif record.type == _TXT:
                self._on_gone(node_id)

    def async_update_records_complete(self) -> None:
        """Called once what arrived is in the cache."""
        dirty, self._dirty = self._dirty, set()
        for node_id in dirty:
            assert self._zeroconf is not None
            service = AsyncServiceInfo(SERVICE_TYPE, instance_name(node_id))
            if service.load_from_cache(self._zeroconf):
                self._found(node_id, service)
            elif len(self._resolving) < MAX_RESOLVING:
                task = asyncio.get_running_loop().create_task(self._resolve(self._zeroconf, service))
                self._resolving.add(task)
                task.add_done_callback(self._resolving.discard)

    def _flooded(self, records: int) -> bool:
        now_s = time.monotonic()
        if self._records_left >= 0 and now_s - self._second_s >= 1:
            self._second_s, self._records_left = now_s, FLOOD_RECORDS_A_SECOND
        if self._records_left >= 0:
            self._records_left -= records
            if self._records_left < 0:
                self._on_flood()
        return self._records_left < 0

    async def _resolve(self, zeroconf: Zeroconf, service: AsyncServiceInfo) -> None:
        """Asks for what is missing; the answer comes the way of all records."""
        with contextlib.suppress(Error, OSError):
            await service.async_request(zeroconf, _RESOLVE_MS)

    def _found(self, node_id: str, service: AsyncServiceInfo) -> None:
        if len(service.text) > MAX_TXT_BYTES:
            return
        addresses = service.parsed_scoped_addresses(IPVersion.All)
        try:
            found = advertised(node_id, service.properties, service.port or 0, addresses)
        except NoIntroductionError as error:
            _log.debug("what is advertised as node %s is none: %s", node_id, error)
            return
        self._on_found(found)

    async def stop(self) -> None:
        for task in self._resolving:
            task.cancel()
        await asyncio.gather(*self._resolving, return_exceptions=True)

"""Which nodes are in sight by multicast DNS right now, for whoever is no node: it advertises nothing.

Runs in the command line's process, in an event loop, beside a node that may be running.
"""

import asyncio
from collections.abc import Callable

from zeroconf import DNSQuestionType, Error, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from federation.advertisement import SERVICE_TYPE, Advertised
from federation.keyring import MeshKey
from federation.mdns_listener import MdnsListener
from federation.messages import Introduction

MAX_SEEN = 512


async def look_around(
    places: list[str | int],
    *,
    own_node_id: str,
    key: MeshKey | None,
    look_s: float,
    on_own_address: Callable[[str], None],
) -> list[Introduction]:
    """Whoever else advertises itself as a node within `look_s`, by name; `on_own_address` as MdnsListener's. What is
    said under `key` was said by someone who has it; the rest is proved by nothing. Raises OSError where multicast DNS
    cannot be had."""
    seen: dict[str, Introduction] = {}

    def found(advertised: Advertised) -> None:
        told = advertised.introduction
        forged = key is not None and told.key_id == key.id and not advertised.is_sealed_with(key)
        if len(seen) < MAX_SEEN and not forged:
            seen[told.node_id] = told

    def gone(node_id: str) -> None:
        seen.pop(node_id, None)

    version = IPVersion.All if any(isinstance(place, int) for place in places) else IPVersion.V4Only
    try:
        opened = AsyncZeroconf(interfaces=places, ip_version=version)
    except (RuntimeError, Error) as error:
        raise OSError(0, str(error)) from None
    listener = MdnsListener(
        own_node_id, on_found=found, on_gone=gone, on_flood=seen.clear, on_own_address=on_own_address
    )
    try:
        opened.zeroconf.async_add_listener(listener, None)
        async with AsyncServiceBrowser(
            opened.zeroconf, SERVICE_TYPE, handlers=[_passed_over], question_type=DNSQuestionType.QM
        ):
            await asyncio.sleep(look_s)
    finally:
        await listener.stop()
        await opened.async_close()
    return sorted(seen.values(), key=lambda told: (told.name, told.node_id))


def _passed_over(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
    """The browser only asks: what is answered is read by the listener."""

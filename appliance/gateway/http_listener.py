"""Where HTTP is listened for, and how long a connection may be silent. Runs in whichever process takes connections."""

import asyncio

from appliance.core.addresses import Address
from appliance.gateway.fast_calls import FastFront
from appliance.gateway.progress import LOOK_S
from appliance.security.tls import Tls

KEEPALIVE_S = 75.0
HANDSHAKE_S = 15.0  # within which TLS must be agreed on


async def listen(front: FastFront, address: Address, tls: Tls | None, *, share_port: bool = False) -> asyncio.Server:
    """Listens. `share_port`: other processes of this node do so on the same port, and the kernel divides the callers.
    Raises OSError where the address cannot be had."""
    return await asyncio.get_running_loop().create_server(
        front,
        address.host,
        address.port,
        backlog=1024,
        reuse_port=share_port or None,
        ssl=tls and tls.context(),
        ssl_handshake_timeout=HANDSHAKE_S if tls else None,
    )


async def look(front: FastFront) -> None:
    """Has the front look at its connections every now and then, until this is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_S)
        front.look(loop.time() - KEEPALIVE_S)

"""gRPC's library, told before it is loaded what it cannot be told later. Runs in the gateway; the front's other modules
take `grpc` from here.
"""

import os
from typing import Any

# The node starts processes by fork and exec, never to go on with gRPC in them: gRPC's own preparations for forks would
# cost something on each call, and complain of each child on stderr.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import grpc.aio

from appliance.core.machine import connections_allowed, descriptor_limit
from appliance.security.tls import Tls

__all__ = ["add_port", "grpc", "make_server"]

MAX_METADATA_BYTES = 16 * 1024  # of a call's headers, all together
MAX_CALLS = 1024  # at once, streams among them: more are RESOURCE_EXHAUSTED
IDLE_S = 900.0  # a connection without a call is closed after so long


def make_server(max_body_bytes: int, max_connections: int, *, share: int = 1) -> Any:
    """A server within this node's bounds. `share`: so many processes listen on its port and divide the bounds."""
    connections = min(max_connections, connections_allowed(descriptor_limit()))
    calls = -(-MAX_CALLS // share)
    return grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.max_concurrent_streams", calls),
            ("grpc.max_connection_idle_ms", int(IDLE_S * 1000)),
            ("grpc.max_allowed_incoming_connections", -(-connections // share)),
            # gRPC's default lets a second node take the same port in silence.
            ("grpc.so_reuseport", int(share > 1)),
        ),
        maximum_concurrent_rpcs=calls,
    )


def add_port(server: Any, address: str, tls: Tls | None) -> int:
    """Has a server listen; the port. Raises OSError where the address cannot be had."""
    try:
        if tls is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, grpc.ssl_server_credentials([(tls.key, tls.chain)])))
    except RuntimeError as error:
        raise OSError(f"cannot listen for gRPC on {address}: {error}") from None

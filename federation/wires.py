"""What a connection between two nodes is, whoever dialled it, and how its sockets are set up.

Runs in the gateway's event loop. Knows no messages and not what a connection is for.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import zmq

from appliance.core.requests import Buffer
from federation.identity import Identity
from federation.zap import ZAP_DOMAIN

_HANDSHAKE_MS = 3000
# In shares of suspect_s. With 0.75 s an end that is frozen or cut off is seen after 0.64 to 1.14 s, and TCP has had the
# time to send anew twice what was lost. ZMQ_HEARTBEAT_TTL would halve the traffic, but any message ends its effect.
_ASK_EVERY, _GIVE_UP_AFTER = 0.667, 0.85


# linux/ip.h, IPTOS_LOWDELAY and IPTOS_THROUGHPUT: for queues on the way that tell calls from transfers.
LOW_DELAY, THROUGHPUT = 0x10, 0x08


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """How connections of one purpose are kept. `suspect_s`: a peer that says nothing for about so long is given up by
    ZeroMQ. `unsent_bytes` and `unsent_messages` bound what one peer may leave unread."""

    suspect_s: float
    max_message_bytes: int
    unsent_bytes: int
    unsent_messages: int
    type_of_service: int  # ip(7), IP_TOS


class Wire(Protocol):
    """A connection whose handshake has succeeded: who is at its other end is proved."""

    node_id: str
    dialled: bool  # by this node

    def has_room(self, size_bytes: int) -> bool:
        """Whether send() of so much would be taken, as far as large messages are concerned."""

    def send(self, parts: Sequence[Buffer]) -> bool:
        """Sends a message. False where the connection has ended, or too much that was sent waits to be read."""

    def end(self, reason: str) -> None:
        """Ends it; what was sent and has not left is dropped. Whoever listens is told, in a later turn."""


def secure(sock: "zmq.Socket[bytes]", identity: Identity, tuning: Tuning, *, server_key: bytes = b"") -> None:
    """Sets a socket's options: as one that listens, or that connects to whoever has `server_key`."""
    sock.set(zmq.CURVE_PUBLICKEY, identity.public_key)
    sock.set(zmq.CURVE_SECRETKEY, identity.secret_key)
    if server_key:
        sock.set(zmq.CURVE_SERVERKEY, server_key)
    else:
        sock.set(zmq.CURVE_SERVER, 1)
        sock.set_string(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        sock.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
    for option, value in (
        (zmq.IMMEDIATE, 1),
        (zmq.MAXMSGSIZE, tuning.max_message_bytes),
        (zmq.HANDSHAKE_IVL, _HANDSHAKE_MS),
        (zmq.SNDHWM, tuning.unsent_messages),
        (zmq.RCVHWM, tuning.unsent_messages),
        (zmq.TOS, tuning.type_of_service),
        (zmq.HEARTBEAT_IVL, round(_ASK_EVERY * tuning.suspect_s * 1000)),
        (zmq.HEARTBEAT_TIMEOUT, round(_GIVE_UP_AFTER * tuning.suspect_s * 1000)),
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.TCP_KEEPALIVE_IDLE, 30),
        (zmq.TCP_KEEPALIVE_INTVL, 10),
        (zmq.TCP_KEEPALIVE_CNT, 3),
    ):
        sock.set(option, value)

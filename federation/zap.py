"""Who may connect: the ZAP handler of this node's sockets, and the list of public keys that it lets in.

Runs in the gateway's event loop (https://rfc.zeromq.org/spec/27/). Without a handler CURVE would let anyone in. Whoever
is not on the list is told so at once (400): his side tries again when it sees fit, and may be known by then. With 300
he would be left waiting for the handshake's time to pass.
"""

import zmq

from federation.identity import node_id_of
from federation.sockets import Context, DrivenSocket

ZAP_DOMAIN = "ingle"
_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"


class Gate:
    """allow() and forbid() say who may connect; the User-Id of each message of whoever does is its node id."""

    def __init__(self, context: Context) -> None:
        """Opens it; sockets of this context that listen with CURVE come after."""
        self._node_ids: dict[bytes, str] = {}
        self._socket = DrivenSocket(context, zmq.REP, self._answer)
        self._socket.zmq.bind(_ENDPOINT)
        self._socket.drive()

    def allow(self, public_key: bytes) -> None:
        """Lets the node with this key in, from now on."""
        self._node_ids[public_key] = node_id_of(public_key)

    def forbid(self, public_key: bytes) -> None:
        """Lets it in no more. Its connections are not ended by this."""
        self._node_ids.pop(public_key, None)

    def _answer(self, frames: list[zmq.Frame]) -> None:
        told = [frame.bytes for frame in frames]
        request = told[1] if len(told) > 1 else b""
        node_id = None
        if len(told) == 7 and told[0] == _VERSION and told[2] == ZAP_DOMAIN.encode() and told[5] == b"CURVE":
            node_id = self._node_ids.get(told[6])
        status = (b"400", b"not known here", b"") if node_id is None else (b"200", b"OK", node_id.encode())
        self._socket.send([_VERSION, request, *status, b""])

    def close(self) -> None:
        """Nobody is let in any more."""
        self._socket.close()

"""The ZeroMQ front: calls and queries in the frames of core/client_frames.py, over the data plane.

Runs in the gateway's event loop. Each request stands for itself, with its key in its head: a client may go on with
another node, or after a reconnect, with nothing to be said again. A worker's answer is sent in the turn in which it
is read, and a call whose connection has ended is dropped.
"""

import asyncio
import logging

import msgspec

from appliance.core.addresses import Address
from appliance.core.client_frames import BrokenFrameError, Call, Fault, Query, Reply, message_parts, read_message
from appliance.core.errors import BadInputError, BusyError, IngleError, TooLargeError
from appliance.core.frames import Answer
from appliance.core.requests import Buffer
from appliance.gateway.dataplane import BegunCall, DataPlane
from appliance.gateway.waiter import Waiter
from appliance.gateway.zmq_asked import result_parts, to_call
from appliance.gateway.zmq_operations import Operations
from appliance.gateway.zmq_peer import RETRY_AFTER_S, Peer
from appliance.gateway.zmq_socket import RouterSocket

_LONGEST_SENTENCE = 4000

_encode_json = msgspec.json.Encoder().encode
_log = logging.getLogger("ingle.zmq")


class ZmqFront:
    """start() answers the port; stop() ends the connections. Made in the event loop that it is to run in."""

    def __init__(self, dataplane: DataPlane, address: Address) -> None:
        self._dataplane = dataplane
        self._address = address
        self._operations = Operations(dataplane)
        self._max_body_bytes = dataplane.settings.max_body_bytes
        self._socket = RouterSocket(self._on_message, Peer.gone, max_body_bytes=self._max_body_bytes)
        self._loop = asyncio.get_running_loop()

    async def start(self) -> int:
        """Listens. Raises OSError where the address cannot be had."""
        return self._socket.open(self._address)

    async def stop(self) -> None:
        await self._socket.close()

    # What comes.

    def _on_message(self, peer: Peer, parts: list[Buffer]) -> None:
        number = 0
        try:
            head, bodies = read_message(parts)
            number = head.call
            size = sum(map(len, bodies))
            if size > self._max_body_bytes:
                raise TooLargeError(f"the call's body has {size} bytes: this node takes at most {self._max_body_bytes}")
            if isinstance(head, Call):
                self._begin(peer, head, bodies, size)
            elif isinstance(head, Query):
                waiting = _Query(self, peer, head)
                peer.take(number, waiting, size)
                waiting.task = self._loop.create_task(waiting.run())
            else:
                raise BadInputError(f"a {type(head).__name__.upper()} is a node's word: a client sends CALL or QUERY")
        except BrokenFrameError as error:
            self.refuse(peer, error.number, error)
        except IngleError as error:
            self.refuse(peer, number, error)
        except Exception as error:
            self.fault(peer, number, error)

    def _begin(self, peer: Peer, asked: Call, bodies: list[Buffer], size: int) -> None:
        dataplane = self._dataplane
        principal = dataplane.principal(asked.key or None)
        try:
            request = to_call(asked, bodies)
        except BadInputError:
            # That a model is not here is the first thing to say, whatever else is wrong.
            dataplane.catalogue.resolve(asked.model, asked.version, by_ordinal=True)
            raise
        call = _Call(self, peer, asked.call)
        peer.take(asked.call, call, size)
        try:
            call.begun = dataplane.begin(request, principal, call)
        except BaseException:
            peer.leave(asked.call)
            raise

    # What goes.

    def answered(self, call: "_Call", answer: Answer, body: bytes) -> None:
        """The worker's answer has come; called from the link's read, so that it leaves in the same turn."""
        assert call.begun is not None
        call.peer.leave(call.number)
        try:
            parts = result_parts(call.number, self._dataplane.finished(call.begun, answer, body))
            if not call.peer.may_send(len(body)):
                raise BusyError(
                    "the answer is not sent, since those before it lie unread: read them, or ask for fewer at once",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._socket.send(call.peer, parts)
        except IngleError as error:
            self.refuse(call.peer, call.number, error)
        except Exception as error:
            self.fault(call.peer, call.number, error)

    def failed(self, call: "_Call", error: IngleError) -> None:
        assert call.begun is not None
        self._dataplane.failed(call.begun, error)
        if not call.abandoned:
            call.peer.leave(call.number)
            self.refuse(call.peer, call.number, error)

    def dropped(self, begun: BegunCall) -> None:
        """The call's connection has ended before its answer."""
        self._dataplane.dropped(begun)

    def replied(self, peer: Peer, number: int, answer: object) -> None:
        """A query's answer."""
        self._socket.send(peer, message_parts(Reply(number, self._dataplane.node_name), (_encode_json(answer),)))

    def refuse(self, peer: Peer, number: int, error: IngleError) -> None:
        """Says why a call is not answered."""
        sentence = error.sentence[:_LONGEST_SENTENCE]
        node, again_s = self._dataplane.node_name, error.retry_after_s or 0.0
        self._socket.send(peer, message_parts(Fault(number, error.code, sentence, error.call, node, again_s)))

    def fault(self, peer: Peer, number: int, error: Exception) -> None:
        """A fault that is nobody's but ours."""
        _log.error("a fault of ours in a call", exc_info=error)
        self.refuse(peer, number, IngleError("the node failed on this request, and has logged why"))


class _Call(Waiter):
    """One call of a peer's."""

    __slots__ = ("_front", "abandoned", "number", "peer")

    def __init__(self, front: ZmqFront, peer: Peer, number: int) -> None:
        super().__init__(front)
        self._front = front
        self.abandoned = False
        self.peer = peer
        self.number = number

    def abandon(self) -> None:
        self.abandoned = True
        if not self.done():
            self.gone()
            assert self.begun is not None
            self._front.dropped(self.begun)


class _Query:
    """A query on its way."""

    def __init__(self, front: ZmqFront, peer: Peer, query: Query) -> None:
        self._front = front
        self._peer = peer
        self._query = query
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        front, peer, number = self._front, self._peer, self._query.call
        try:
            answer = await front._operations.answer(self._query)
            peer.leave(number)
            front.replied(peer, number, answer)
        except IngleError as error:
            peer.leave(number)
            front.refuse(peer, number, error)
        except Exception as error:
            peer.leave(number)
            front.fault(peer, number, error)

    def abandon(self) -> None:
        if self.task is not None:
            self.task.cancel()

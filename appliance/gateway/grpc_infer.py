"""ModelInfer: one request, one answer. The gRPC front's hot path; runs in the gateway.

Messages come and go as bytes, so that nothing is decoded or encoded that need not be.
"""

import asyncio
from typing import TYPE_CHECKING, Any, cast

from appliance.gateway.grpc_answers import infer_response
from appliance.gateway.grpc_asked import AUTHORIZATION, answered_metadata, ask_placement, shortest_deadline_s
from appliance.gateway.grpc_codec import parse_infer, to_call
from appliance.gateway.grpc_errors import refuse
from appliance.gateway.peers import NOBODY, peer_of_call

if TYPE_CHECKING:  # a front process has none
    from appliance.gateway.dataplane import DataPlane

# grpc.aio brings calls one in a turn of the event loop: where several are under way, more are likely to come in the
# next few, and one system call that wakes the worker serves them all.
PATIENCE_TURNS = 32


class ModelInfer:
    """Answers ModelInfer over a data plane."""

    def __init__(self, dataplane: "DataPlane") -> None:
        self._call = dataplane.call
        self._principal = dataplane.principal
        self._held = dataplane.held
        self._memory = dataplane.shared_memory
        # Calls taken up whose answers grpc.aio has not sent yet. It spends more time on them than the worker does, so
        # those that wait for the worker would seldom be more than one, however many callers there are.
        self._active = 0
        self._node = (("x-ingle-node", dataplane.node_name),)

    def _left(self, _task: "asyncio.Task[bytes]") -> None:
        self._active -= 1

    async def answer(self, data: bytes, context: Any) -> bytes:
        """The ModelInferResponse to the ModelInferRequest in `data`; faults become the call's status."""
        held_bytes = 0
        try:
            self._held.take(len(data))
            held_bytes = len(data)
            metadata = dict(context.invocation_metadata())
            principal = self._principal(metadata.get(AUTHORIZATION))
            message = parse_infer(data)
            request = to_call(
                message, self._memory.of(principal, peer_of_call(context) if self._memory.allowed else NOBODY)
            )
            request.deadline_s = shortest_deadline_s(request.deadline_s, metadata, context.time_remaining())
            ask_placement(request, metadata)
            self._active += 1
            cast("asyncio.Task[bytes]", asyncio.current_task()).add_done_callback(self._left)
            if self._active > 1:
                request.patience_turns = PATIENCE_TURNS
            answer = await self._call(request, principal)
            context.set_trailing_metadata(answered_metadata(answer))
            return infer_response(answer, request.model, message.id)
        except Exception as error:
            return refuse(context, error, self._node)
        finally:
            self._held.give_back(held_bytes)

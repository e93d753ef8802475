"""gRPC in a front process: ModelInfer becomes a frame, every other method is passed to the main process as bytes.

Runs in a front process's event loop. A ModelInfer that is wrong in any way, or that uses its caller's shared memory,
is passed on too, so that what is said of it is said by the main process alone.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from grpc_health.v1 import health_pb2

from appliance.core.errors import IngleError
from appliance.gateway.front_http import ELSEWHERE
from appliance.gateway.grpc_answers import infer_response
from appliance.gateway.grpc_asked import AUTHORIZATION, answered_metadata, ask_placement, shortest_deadline_s
from appliance.gateway.grpc_codec import parse_infer, to_call
from appliance.gateway.grpc_errors import refuse
from appliance.gateway.grpc_infer import PATIENCE_TURNS
from appliance.gateway.grpc_library import grpc
from appliance.gateway.grpc_stubs import SERVICE
from appliance.gateway.peers import INTRODUCED
from appliance.gateway.remote_plane import RemotePlane

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
# gRPC writes these itself on each hop.
_HOP = ("user-agent", "content-type", "te", INTRODUCED)
_LAST_HOP = ("grpc-status", "grpc-message", "content-type")

Unary = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcRelay:
    """Every method of the main process's gRPC server, over a channel to its private socket."""

    def __init__(self, path: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            f"unix:{path}",
            options=(("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)),
        )

    async def close(self) -> None:
        await self._channel.close()

    def unary(self, path: str) -> Unary:
        """A method of one request and one answer."""
        ask = self._channel.unary_unary(path)

        async def answer(data: bytes, context: Any) -> bytes:
            call = ask(data, metadata=_onwards(context), timeout=context.time_remaining())
            try:
                content: bytes = await call
            except grpc.aio.AioRpcError as error:
                return _ended(context, error.code(), error.details(), error.trailing_metadata())
            context.set_trailing_metadata(_kept(await call.trailing_metadata()))
            return content

        return answer

    def streamed(self, path: str) -> Callable[[Any, Any], Awaitable[None]]:
        """A method of streams both ways; one request is a stream of one."""
        ask = self._channel.stream_stream(path)

        async def answer(requests: Any, context: Any) -> None:
            call = ask(metadata=_onwards(context), timeout=context.time_remaining())
            sending = asyncio.create_task(_send(requests, context, call))
            try:
                while (data := await call.read()) is not grpc.aio.EOF:
                    await context.write(data)
                _ended(context, await call.code(), await call.details(), await call.trailing_metadata())
            except grpc.aio.AioRpcError as error:
                _ended(context, error.code(), error.details(), error.trailing_metadata())
            finally:
                sending.cancel()
                call.cancel()
                await asyncio.gather(sending, return_exceptions=True)

        return answer


async def _send(requests: Any, context: Any, call: Any) -> None:
    if isinstance(requests, bytes):
        await call.write(requests)
    else:
        while (data := await context.read()) is not grpc.aio.EOF:
            await call.write(data)
    await call.done_writing()


def _onwards(context: Any) -> tuple[tuple[str, str | bytes], ...]:
    """The caller's metadata, and who the caller is; whatever the caller itself said of that is left out."""
    said = ((name, value) for name, value in context.invocation_metadata() or () if name not in _HOP)
    return (*(item for item in said if not item[0].startswith("grpc-")), (INTRODUCED, context.peer()))


def _kept(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((name, value) for name, value in metadata or () if name not in _LAST_HOP)


def _ended(context: Any, code: Any, details: str | None, metadata: Any) -> bytes:
    """Ends the call as the main process ended it."""
    context.set_code(code)
    context.set_details(details or "")
    context.set_trailing_metadata(_kept(metadata))
    return b""


class RelayedInfer:
    """Answers ModelInfer."""

    def __init__(self, plane: RemotePlane, relay: Unary) -> None:
        self._plane = plane
        self._relay = relay
        self._node = (("x-ingle-node", plane.node_name),)
        self._active = 0  # as in grpc_infer.py

    def _left(self, _task: "asyncio.Task[bytes]") -> None:
        self._active -= 1

    async def answer(self, data: bytes, context: Any) -> bytes:
        """The ModelInferResponse to the ModelInferRequest in `data`; faults become the call's status."""
        held, held_bytes = self._plane.held, len(data)
        try:
            held.take(held_bytes)
        except IngleError as error:
            return refuse(context, error, self._node)
        try:
            return await self._answer(data, context)
        finally:
            held.give_back(held_bytes)

    async def _answer(self, data: bytes, context: Any) -> bytes:
        try:
            metadata = dict(context.invocation_metadata())
            message = parse_infer(data)
            request = to_call(message, ELSEWHERE)
            request.deadline_s = shortest_deadline_s(request.deadline_s, metadata, context.time_remaining())
            ask_placement(request, metadata)
            self._active += 1
            cast("asyncio.Task[bytes]", asyncio.current_task()).add_done_callback(self._left)
            if self._active > 1:
                request.patience_turns = PATIENCE_TURNS
            outcome = self._plane.ask(request, metadata.get(AUTHORIZATION))
        except IngleError:
            return await self._relay(data, context)
        try:
            answer = await outcome
            context.set_trailing_metadata(answered_metadata(answer))
            return infer_response(answer, request.model, message.id)
        except Exception as error:
            return refuse(context, error, self._node)


def handlers(plane: RemotePlane, relay: GrpcRelay) -> tuple[Any, ...]:
    """The services of a front process, for its server to add."""
    made = []
    for service in (SERVICE, _HEALTH):
        methods = {}
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            if method.client_streaming:
                methods[method.name] = grpc.stream_stream_rpc_method_handler(relay.streamed(path))
            elif method.server_streaming:
                methods[method.name] = grpc.unary_stream_rpc_method_handler(relay.streamed(path))
            elif path.endswith("/ModelInfer"):
                methods[method.name] = grpc.unary_unary_rpc_method_handler(
                    RelayedInfer(plane, relay.unary(path)).answer
                )
            else:
                methods[method.name] = grpc.unary_unary_rpc_method_handler(relay.unary(path))
        made.append(grpc.method_handlers_generic_handler(service.full_name, methods))
    return tuple(made)

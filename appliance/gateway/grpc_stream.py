"""ModelStreamInfer: requests on one stream run at the same time, within bounds, and are answered in their order.

Runs in the gateway. A fault is answered in its request's place and the stream goes on.
"""

import asyncio
from typing import Any

from appliance.core.errors import UnavailableError
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.grpc_answers import stream_error, stream_response
from appliance.gateway.grpc_asked import AUTHORIZATION, ask_placement, shortest_deadline_s
from appliance.gateway.grpc_codec import parse_infer, to_call, wants_final_mark
from appliance.gateway.grpc_errors import as_ingle_error, refuse
from appliance.gateway.grpc_library import grpc
from appliance.gateway.peers import peer_of_call

MAX_IN_FLIGHT = 64

Answer = asyncio.Task[bytes]


class Window:
    """How much of a stream may be under way at once: so many requests, and so many bytes of them or a single one."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._count = self._bytes = 0
        self._room = asyncio.Event()

    async def enter(self, size_bytes: int) -> None:
        """Wait until one more request of this size has room."""
        while self._count >= MAX_IN_FLIGHT or (self._count and self._bytes + size_bytes > self._max_bytes):
            self._room.clear()
            await self._room.wait()
        self._count += 1
        self._bytes += size_bytes

    def leave(self, size_bytes: int) -> None:
        self._count -= 1
        self._bytes -= size_bytes
        self._room.set()


class ModelStreamInfer:
    """Answers ModelStreamInfer over a data plane, until its caller or stop() ends the stream."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane
        self._node = (("x-ingle-node", dataplane.node_name),)
        self._readers: set[asyncio.Task[None]] = set()
        self._stopping = False

    def stop(self) -> None:
        """Take no more requests: what is under way is answered, then each stream ends as unavailable."""
        self._stopping = True
        for reader in self._readers:
            reader.cancel()

    async def answer(self, _requests: Any, context: Any) -> None:
        """Answer a stream. It ends when the caller has sent its last request and has its last answer."""
        metadata = dict(context.invocation_metadata())
        context.set_trailing_metadata(self._node)
        window = Window(self._dataplane.settings.max_body_bytes)
        answers: asyncio.Queue[tuple[Answer, int] | None] = asyncio.Queue()
        reader = asyncio.create_task(self._read(context, metadata, window, answers))
        self._readers.add(reader)
        if self._stopping:
            reader.cancel()
        try:
            while (item := await answers.get()) is not None:
                answer, size_bytes = item
                await context.write(await answer)
                window.leave(size_bytes)
        finally:
            self._readers.discard(reader)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            while not answers.empty():
                if (item := answers.get_nowait()) is not None:
                    item[0].cancel()
        if self._stopping:
            refuse(context, UnavailableError("the node is stopping: call another, or this one again later"), self._node)

    async def _read(
        self,
        context: Any,
        metadata: dict[str, str],
        window: Window,
        answers: asyncio.Queue[tuple[Answer, int] | None],
    ) -> None:
        try:
            while (data := await context.read()) is not grpc.aio.EOF:
                await window.enter(len(data))
                answers.put_nowait((asyncio.create_task(self._answer(data, context, metadata)), len(data)))
        finally:
            answers.put_nowait(None)

    async def _answer(self, data: bytes, context: Any, metadata: dict[str, str]) -> bytes:
        request_id = ""
        held_bytes = 0
        try:
            self._dataplane.held.take(len(data))
            held_bytes = len(data)
            # Asked for each request: a key may be revoked while a stream is open.
            principal = self._dataplane.principal(metadata.get(AUTHORIZATION))
            message = parse_infer(data)
            request_id = message.id
            memory = self._dataplane.shared_memory.of(principal, peer_of_call(context))
            request = to_call(message, memory)
            request.deadline_s = shortest_deadline_s(request.deadline_s, metadata, context.time_remaining())
            ask_placement(request, metadata)
            answer = await self._dataplane.call(request, principal)
            return stream_response(answer, request.model, request_id, final_mark=wants_final_mark(message))
        except Exception as error:
            return stream_error(as_ingle_error(error).sentence, request_id)
        finally:
            self._dataplane.held.give_back(held_bytes)

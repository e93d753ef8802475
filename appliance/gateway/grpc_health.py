"""grpc.health.v1.Health: whether the node takes calls, as load balancers and `grpc_health_probe` ask.

Runs in the gateway. No key is needed. Knows two services: the whole node (an empty name) and the V2 protocol's.
"""

import asyncio
from typing import Any

from grpc_health.v1 import health_pb2

from appliance.gateway.dataplane import DataPlane
from appliance.gateway.grpc_library import grpc
from appliance.gateway.grpc_stubs import SERVICE

# How late a watcher may learn of a change.
_WATCH_INTERVAL_S = 0.5

_Response: Any = health_pb2.HealthCheckResponse


class Health:
    """Answers health checks from what the data plane says of itself."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._ready = dataplane.node_ready
        self._stopping = asyncio.Event()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service, for a server to add."""
        request, answer = health_pb2.HealthCheckRequest.FromString, _Response.SerializeToString
        return grpc.method_handlers_generic_handler(
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check, request, answer),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch, request, answer),
            },
        )

    def stop(self) -> None:
        """Tell every watcher that the node no longer serves, and end the watches."""
        self._stopping.set()

    def _status(self, service: str) -> int:
        if service not in ("", SERVICE.full_name):
            unknown: int = _Response.SERVICE_UNKNOWN
            return unknown
        status: int = _Response.SERVING if self._ready() and not self._stopping.is_set() else _Response.NOT_SERVING
        return status

    async def _check(self, request: Any, context: Any) -> Any:
        status = self._status(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details(
                f"there is no service '{request.service[:200]}' here: ask for {SERVICE.full_name}, or leave it empty"
            )
        return _Response(status=status)

    async def _watch(self, request: Any, context: Any) -> None:
        last = None
        while True:
            status = self._status(request.service)
            if status != last:
                await context.write(_Response(status=status))
                last = status
            if self._stopping.is_set():
                return
            try:
                async with asyncio.timeout(_WATCH_INTERVAL_S):  # wait_for() of Python 3.11 may swallow the task's end
                    await self._stopping.wait()
            except TimeoutError:
                continue

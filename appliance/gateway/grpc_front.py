"""The gRPC front: inference.GRPCInferenceService and grpc.health.v1.Health on one port, over the data plane.

Runs in the gateway's event loop. Puts the service together and owns the server; what the RPCs do is in their own files.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import DecodeError

from appliance.core.addresses import Address
from appliance.core.errors import BadInputError
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.grpc_asked import AUTHORIZATION
from appliance.gateway.grpc_errors import refuse
from appliance.gateway.grpc_health import Health
from appliance.gateway.grpc_infer import ModelInfer
from appliance.gateway.grpc_library import add_port, grpc, make_server
from appliance.gateway.grpc_memory import GrpcMemory
from appliance.gateway.grpc_memory import Method as MemoryMethod
from appliance.gateway.grpc_service import OPEN, Method, V2Service
from appliance.gateway.grpc_stream import ModelStreamInfer
from appliance.gateway.grpc_stubs import SERVICE, message_class
from appliance.gateway.peers import Peer, peer_of_call
from appliance.security.scopes import ANONYMOUS, Principal
from appliance.security.tls import Tls

Handler = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcFront:
    """One gRPC server. Made in the event loop that it is to run in; started once and stopped once."""

    def __init__(
        self, dataplane: DataPlane, address: Address, tls: Tls | None = None, *, private_path: str = ""
    ) -> None:
        """Without `tls` it speaks in the clear. `private_path`: listen not on the address, but on a Unix socket there,
        to front processes that do."""
        self._private_path = private_path
        self._dataplane = dataplane
        self._address = address
        self._tls = tls
        self._node = (("x-ingle-node", dataplane.node_name),)
        self._stream = ModelStreamInfer(dataplane)
        self._health = Health(dataplane)
        settings = dataplane.settings
        self._server = make_server(settings.max_body_bytes, settings.max_connections)
        # As generic handlers only: for methods registered by name, grpc.aio waits on each of them at every call.
        self._server.add_generic_rpc_handlers((self._handlers(), self._health.handlers()))

    async def start(self) -> int:
        """Listen, and return the port. Raises OSError where the address cannot be had."""
        if self._private_path:
            port = add_port(self._server, f"unix:{self._private_path}", None)
        else:
            port = add_port(self._server, str(self._address), self._tls)
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, and return when those under way are answered; after `grace_s` seconds they are cut off."""
        self._health.stop()
        self._stream.stop()
        await self._server.stop(grace_s)

    def _handlers(self) -> grpc.GenericRpcHandler:
        service, memory = V2Service(self._dataplane), GrpcMemory(self._dataplane.shared_memory)
        handlers = {}
        for method in SERVICE.methods:
            if method.name == "ModelInfer":
                handlers[method.name] = grpc.unary_unary_rpc_method_handler(ModelInfer(self._dataplane).answer)
            elif method.name == "ModelStreamInfer":
                handlers[method.name] = grpc.stream_stream_rpc_method_handler(self._stream.answer)
            elif method.name in memory.methods:
                run = memory.methods[method.name]
                handlers[method.name] = grpc.unary_unary_rpc_method_handler(self._unary(method, run))
            else:
                run = _without_peer(service.method(method.name))
                handlers[method.name] = grpc.unary_unary_rpc_method_handler(self._unary(method, run))
        return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)

    def _unary(self, method: Any, run: MemoryMethod) -> Handler:
        """What serves one RPC of the service: the request's bytes in, the answer's bytes or a refusal out."""
        parse = message_class(method.input_type).FromString
        needs_key, principal, node = method.name not in OPEN, self._dataplane.principal, self._node

        async def answer(data: bytes, context: Any) -> bytes:
            try:
                caller = ANONYMOUS
                if needs_key:
                    caller = principal(dict(context.invocation_metadata()).get(AUTHORIZATION))
                message = await run(parse(data), caller, peer_of_call(context))
                context.set_trailing_metadata(node)
                encoded: bytes = message.SerializeToString()
                return encoded
            except DecodeError as error:
                fault = BadInputError(f"the request is no {method.input_type.name}: {error}")
                return refuse(context, fault, node)
            except Exception as error:
                return refuse(context, error, node)

        return answer


def _without_peer(run: Method) -> MemoryMethod:
    async def answer(request: Any, caller: Principal, _peer: Peer) -> Any:
        return await run(request, caller)

    return answer

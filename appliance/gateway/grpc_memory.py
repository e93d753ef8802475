"""The shared memory RPCs of the V2 protocol. What a region is, shared_memory.py says. Runs in the gateway."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from appliance.core.errors import UnsupportedError
from appliance.gateway.grpc_stubs import pb
from appliance.gateway.peers import Peer
from appliance.gateway.shared_memory import NO_CUDA, SharedMemory
from appliance.security.scopes import Principal

Method = Callable[[Any, Principal, Peer], Awaitable[Any]]


class GrpcMemory:
    """Each method takes a parsed request, the caller and where it calls from."""

    def __init__(self, regions: SharedMemory) -> None:
        self._regions = regions
        self.methods: dict[str, Method] = {
            "SystemSharedMemoryStatus": self.system_status,
            "SystemSharedMemoryRegister": self.system_register,
            "SystemSharedMemoryUnregister": self.system_unregister,
            "CudaSharedMemoryStatus": self.cuda_status,
            "CudaSharedMemoryRegister": self.cuda_register,
            "CudaSharedMemoryUnregister": self.cuda_unregister,
        }

    async def system_status(self, request: Any, caller: Principal, _peer: Peer) -> Any:
        answer = pb.SystemSharedMemoryStatusResponse()
        for region in self._regions.status(caller, request.name):
            answer.regions[region.name].CopyFrom(
                pb.SystemSharedMemoryStatusResponse.RegionStatus(**msgspec.to_builtins(region))
            )
        return answer

    async def system_register(self, request: Any, caller: Principal, peer: Peer) -> Any:
        await self._regions.register(
            caller, peer, name=request.name, key=request.key, offset=request.offset, byte_size=request.byte_size
        )
        return pb.SystemSharedMemoryRegisterResponse()

    async def system_unregister(self, request: Any, caller: Principal, _peer: Peer) -> Any:
        self._regions.unregister(caller, request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def cuda_status(self, _request: Any, _caller: Principal, _peer: Peer) -> Any:
        return pb.CudaSharedMemoryStatusResponse()

    async def cuda_register(self, _request: Any, _caller: Principal, _peer: Peer) -> Any:
        raise UnsupportedError(NO_CUDA)

    async def cuda_unregister(self, _request: Any, _caller: Principal, _peer: Peer) -> Any:
        return pb.CudaSharedMemoryUnregisterResponse()

"""Shared memory over V2's REST: register, list and forget regions. What a region is, shared_memory.py says.

Runs in the gateway. Source: Triton's system and CUDA shared memory extensions. CUDA's has addresses too, and answers
them with what is true: nothing is registered, and nothing can be.
"""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.core.errors import UnsupportedError
from appliance.gateway.asked import asked_json, who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Body, Operation, Parameter, Reply
from appliance.gateway.peers import Peer, peer_of_socket
from appliance.gateway.replies import encode_json
from appliance.gateway.shared_memory import NO_CUDA, RegionStatus

Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Registration(msgspec.Struct):
    """`key` is a file's name in /dev/shm, with or without a slash before it."""

    key: str
    byte_size: Size
    offset: Size = 0


_REGION = Parameter(
    "region",
    "path",
    {"type": "string", "pattern": "^[^/]+$", "minLength": 1},
    "what the caller calls it",
)
_LIST = Reply("A row for each region of this key.", {"application/json": list[RegionStatus]})
_DONE = Reply("Done.", None)


def _operations(kind: str, what: str, register: Operation) -> tuple[Operation, ...]:
    base = f"/v2/{kind}sharedmemory"
    region = f"{base}/region/{{region}}"
    return (
        Operation(f"{kind}_status", "GET", f"{base}/status", "v2", f"List {what} regions", {200: _LIST}),
        Operation(
            f"{kind}_region_status",
            "GET",
            f"{region}/status",
            "v2",
            f"Show one of the {what} regions",
            {200: _LIST},
            (404,),
            (_REGION,),
        ),
        register,
        Operation(f"{kind}_unregister", "POST", f"{base}/unregister", "v2", f"Forget all {what} regions", {200: _DONE}),
        Operation(
            f"{kind}_region_unregister",
            "POST",
            f"{region}/unregister",
            "v2",
            f"Forget one of the {what} regions",
            {200: _DONE},
            (),
            (_REGION,),
        ),
    )


OPERATIONS = (
    *_operations(
        "system",
        "shared memory",
        Operation(
            "system_region_register",
            "POST",
            "/v2/systemsharedmemory/region/{region}/register",
            "v2",
            "Register shared memory of this box",
            {200: _DONE},
            (409, 413, 415, 429),
            (_REGION,),
            Body({"application/json": Registration}),
        ),
    ),
    *_operations(
        "cuda",
        "CUDA shared memory",
        Operation(
            "cuda_region_register",
            "POST",
            "/v2/cudasharedmemory/region/{region}/register",
            "v2",
            "Not offered: says so",
            {},
            (415,),
            (_REGION,),
        ),
    ),
)


def peer_of(request: web.Request) -> Peer:
    """The other end of the request's connection."""
    return peer_of_socket(request.transport.get_extra_info("peername") if request.transport else None)


class V2Memory:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def system_status(self, request: web.Request) -> web.Response:
        return _rows(self._dataplane.shared_memory.status(who(request, self._dataplane)))

    async def system_region_status(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        return _rows(self._dataplane.shared_memory.status(principal, request.match_info["region"]))

    async def system_region_register(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        asked = await asked_json(request, Registration)
        await self._dataplane.shared_memory.register(
            principal,
            peer_of(request),
            name=request.match_info["region"],
            key=asked.key,
            offset=asked.offset,
            byte_size=asked.byte_size,
        )
        return web.Response()

    async def system_unregister(self, request: web.Request) -> web.Response:
        self._dataplane.shared_memory.unregister(who(request, self._dataplane))
        return web.Response()

    async def system_region_unregister(self, request: web.Request) -> web.Response:
        self._dataplane.shared_memory.unregister(who(request, self._dataplane), request.match_info["region"])
        return web.Response()

    async def cuda_status(self, request: web.Request) -> web.Response:
        who(request, self._dataplane)
        return _rows([])

    cuda_region_status = cuda_status

    async def cuda_region_register(self, request: web.Request) -> web.Response:
        who(request, self._dataplane)
        raise UnsupportedError(NO_CUDA)

    async def cuda_unregister(self, request: web.Request) -> web.Response:
        who(request, self._dataplane)
        return web.Response()

    cuda_region_unregister = cuda_unregister


def _rows(regions: list[RegionStatus]) -> web.Response:
    return web.Response(body=encode_json(regions), content_type="application/json")

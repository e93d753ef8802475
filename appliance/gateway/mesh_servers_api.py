"""The Triton servers that the mesh calls, over HTTP: added and removed. In the gateway; needs an admin key.

`GET /v1/nodes` tells how they stand.
"""

from typing import TYPE_CHECKING, Annotated

import msgspec
from aiohttp import web

from appliance.core.errors import NotFoundError
from appliance.gateway.asked import asked_json, who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Body, Operation, Parameter, Reply
from appliance.gateway.replies import json_reply
from appliance.gateway.tritons import SCHEME, Server

if TYPE_CHECKING:
    from appliance.gateway.tritons import Tritons


class ServerRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`server`: triton://HOST:PORT of its gRPC front. `owner`: of its models' names here; `triton` unless told."""

    server: Annotated[str, msgspec.Meta(max_length=300)]
    owner: Annotated[str, msgspec.Meta(max_length=128)] = ""


class ServerDescription(msgspec.Struct):
    """A server that every node of the mesh calls; this one alone where its address is a loopback's."""

    server: str
    owner: str


# Served, and told of in words, but no operations of the document: whoever tries every operation in turn would have the
# nodes call addresses that he made up.
UNLISTED = (
    Operation(
        "add_server",
        "POST",
        "/v1/mesh/servers",
        "mesh",
        "Have the mesh call a Triton server for its models; it must answer now",
        {201: Reply("The server.", ServerDescription)},
        (404, 413, 415, 429, 503),
        body=Body({"application/json": ServerRequest}),
    ),
    Operation(
        "remove_server",
        "DELETE",
        "/v1/mesh/servers/{address}",
        "mesh",
        "Have the mesh call a Triton server no more",
        {200: Reply("The server.", ServerDescription)},
        (404,),
        (Parameter("address", "path", {"type": "string"}, "HOST:PORT of the server"),),
    ),
)


class MeshServersApi:
    """The handlers, over one data plane's mesh."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def add_server(self, request: web.Request) -> web.Response:
        tritons = self._asked(request)
        wanted = await asked_json(request, ServerRequest)
        return json_reply(_described(await tritons.add(wanted.server, wanted.owner)), 201)

    async def remove_server(self, request: web.Request) -> web.Response:
        tritons = self._asked(request)
        return json_reply(_described(tritons.remove(SCHEME + request.match_info["address"])))

    def _asked(self, request: web.Request) -> "Tritons":
        who(request, self._dataplane).require("admin", None)
        if self._dataplane.tritons is None:
            raise NotFoundError("this node has no mesh: it was started with --mesh off")
        return self._dataplane.tritons


def _described(server: Server) -> ServerDescription:
    return ServerDescription(f"{SCHEME}{server.address}", server.owner)

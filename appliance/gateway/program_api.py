"""The one file of a peer, fetched into this node's data folder, over HTTP. In the gateway; needs an admin key.

It chooses nothing: `ingle update`, on the node's own box, takes the file from there or not.
"""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.core.errors import NotFoundError
from appliance.gateway.answers import ProgramFetch
from appliance.gateway.asked import asked_json, who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Body, Operation, Reply
from appliance.gateway.programs import Programs
from appliance.gateway.replies import json_reply


class ProgramRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`node`: the name or id of a peer."""

    node: Annotated[str, msgspec.Meta(max_length=300)]


OPERATIONS = (
    Operation(
        "show_program",
        "GET",
        "/v1/program",
        "mesh",
        "Show how far the last fetch of a peer's program is",
        {200: Reply("The fetch.", ProgramFetch)},
        (404,),
    ),
    Operation(
        "fetch_program",
        "POST",
        "/v1/program",
        "mesh",
        "Begin to fetch the signed one file that a peer runs from, for `ingle update` on this node's box",
        {202: Reply("The fetch.", ProgramFetch)},
        (404, 409, 413, 415, 422, 503),
        body=Body({"application/json": ProgramRequest}),
    ),
)


class ProgramApi:
    """The handlers, over one data plane's mesh."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def show_program(self, request: web.Request) -> web.Response:
        return json_reply(self._asked(request).fetched())

    async def fetch_program(self, request: web.Request) -> web.Response:
        programs = self._asked(request)
        wanted = await asked_json(request, ProgramRequest)
        return json_reply(programs.begin(wanted.node), 202)

    def _asked(self, request: web.Request) -> Programs:
        who(request, self._dataplane).require("admin", None)
        if self._dataplane.programs is None:
            raise NotFoundError("this node has no mesh: it was started with --mesh off")
        return self._dataplane.programs

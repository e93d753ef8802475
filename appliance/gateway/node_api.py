"""The node itself over HTTP: whether it lives and is ready, what became of a call, and draining it.

Runs in the gateway. Health needs no key. What the node is, and the others of its mesh, are told by mesh_api.py.
"""

import msgspec
from aiohttp import web

from appliance.core.errors import NotFoundError, UnavailableError
from appliance.core.names import parse_name
from appliance.gateway.answers import CallDescription, DrainAnswer, Health
from appliance.gateway.asked import who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Operation, Parameter, Reply
from appliance.gateway.patterns import ID, whole
from appliance.gateway.replies import json_reply
from appliance.observability.calls import CallRecord

_ID = Parameter("id", "path", {"type": "string", "pattern": whole(ID)}, "what X-Ingle-Call said")

OPERATIONS = (
    Operation(
        "livez",
        "GET",
        "/livez",
        "health",
        "Whether the node lives",
        {200: Reply("It does.", Health)},
        open=True,
    ),
    Operation(
        "readyz",
        "GET",
        "/readyz",
        "health",
        "Whether the node takes calls",
        {200: Reply("It does.", Health)},
        (503,),
        open=True,
    ),
    Operation(
        "find_call",
        "GET",
        "/v1/calls/{id}",
        "node",
        "Say what became of a recent call, and where its time went",
        {200: Reply("The call's record.", CallDescription)},
        (404,),
        (_ID,),
    ),
)
# Served, and told of in words, but no operation of the document: whoever tries every operation in turn would take the
# node out of service with this one.
UNLISTED = (
    Operation(
        "drain",
        "POST",
        "/v1/drain",
        "node",
        "Take no new calls, and answer when those in flight are done",
        {200: Reply("Drained.", DrainAnswer)},
    ),
)


def _described(record: CallRecord) -> CallDescription:
    told = msgspec.structs.asdict(record)
    choice = told.pop("choice")
    return CallDescription(**told, route={} if choice is None else choice.explanation())


class Node:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def livez(self, _request: web.Request) -> web.Response:
        return json_reply(Health("live"))

    async def readyz(self, _request: web.Request) -> web.Response:
        if not self._dataplane.node_ready():
            raise UnavailableError("this node takes no calls: it is starting or draining")
        damaged = {"catalogue damaged": self._dataplane.catalogue.fault, "keys damaged": self._dataplane.keys.fault}
        return json_reply(Health("ready", [word for word, fault in damaged.items() if fault]))

    async def find_call(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        call_id = request.match_info["id"]
        record = self._dataplane.call_record(call_id)
        if record is None or not principal.allows("call", parse_name(record.model)):
            raise NotFoundError(
                f"no recent call '{call_id[:64]}' is remembered on this node: the one that the caller asked knows it"
            )
        return json_reply(_described(record))

    async def drain(self, request: web.Request) -> web.Response:
        who(request, self._dataplane).require("admin", None)
        await self._dataplane.drain()
        return json_reply(DrainAnswer(self._dataplane.node_name, drained=True))

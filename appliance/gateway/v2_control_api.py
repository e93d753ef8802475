"""V2's log and trace settings over REST. What they mean, observability says.

Runs in the gateway. Reading needs a key, changing one that may administer: the node, or the model. Source: Triton's
logging and trace extensions.
"""

import msgspec
from aiohttp import web

from appliance.core.errors import BadInputError, TooLargeError
from appliance.core.names import parse_name
from appliance.gateway.asked import MAX_JSON_BYTES, broken_bodies, who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.http_body import read_body
from appliance.gateway.operations import Body, Operation, Reply
from appliance.gateway.replies import encode_json, json_reply
from appliance.observability.log_switch import LogSettings

_LOGGING = Reply("The settings as they are now.", LogSettings)
_TRACING = Reply("The settings as they are now.", {"application/json": {"type": "object"}})
_CHANGES = Body({"application/json": {"type": "object"}}, "the settings to change; null clears one", required=False)

OPERATIONS = (
    Operation("logging", "GET", "/v2/logging", "v2", "Show the log settings", {200: _LOGGING}),
    Operation(
        "set_logging", "POST", "/v2/logging", "v2", "Change log settings", {200: _LOGGING}, (413, 415), (), _CHANGES
    ),
    Operation("tracing", "GET", "/v2/trace/setting", "v2", "Show the trace settings", {200: _TRACING}),
    Operation(
        "set_tracing",
        "POST",
        "/v2/trace/setting",
        "v2",
        "Change trace settings",
        {200: _TRACING},
        (413, 415),
        (),
        _CHANGES,
    ),
)


class V2Control:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def logging(self, request: web.Request) -> web.Response:
        who(request, self._dataplane)
        return json_reply(self._dataplane.log_switch.settings)

    async def set_logging(self, request: web.Request) -> web.Response:
        who(request, self._dataplane).require("admin", None)
        return json_reply(self._dataplane.log_switch.update(await _changes(request)))

    async def tracing(self, request: web.Request) -> web.Response:
        who(request, self._dataplane)
        return _words(self._dataplane.tracer.settings().words())

    async def set_tracing(self, request: web.Request) -> web.Response:
        who(request, self._dataplane).require("admin", None)
        return _words((await self._dataplane.tracer.update(await _changes(request))).words())

    async def model_tracing(self, request: web.Request) -> web.Response:
        return _words(self._dataplane.tracer.settings(self._model(request, "call")).words())

    async def set_model_tracing(self, request: web.Request) -> web.Response:
        model = self._model(request, "admin")
        return _words((await self._dataplane.tracer.update(await _changes(request), model)).words())

    def _model(self, request: web.Request, action: str) -> str:
        principal = who(request, self._dataplane)
        entry = self._dataplane.catalogue.entry(parse_name(request.match_info["model"]))
        principal.require(action, entry.name)
        return entry.name.v2


def _words(words: dict[str, object]) -> web.Response:
    return web.Response(body=encode_json(words), content_type="application/json")


async def _changes(request: web.Request) -> dict[str, object]:
    with broken_bodies():
        body = await read_body(request)
    try:
        if len(body) > MAX_JSON_BYTES:
            raise TooLargeError(f"settings are an object of {MAX_JSON_BYTES} bytes at most")
        return msgspec.json.decode(body or b"{}", type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError(f"the body is not the JSON object that was expected: {error}") from None

"""The V2 REST front: the Open Inference Protocol over HTTP, with Triton's extensions for binary tensors,
classification, configuration, statistics and the model repository.

Runs in the gateway. It turns requests into core calls and answers into V2's JSON; a tensor's elements are neither
parsed nor written here but in the worker, so a large JSON body does not hold the event loop up.
"""

import asyncio
from functools import partial
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from appliance.core.errors import BadInputError
from appliance.core.models import ModelVersion
from appliance.core.names import RESERVED
from appliance.gateway.asked import answered_headers, asked_deadline_s, asked_explanation, asked_pin
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.hang_up import dropped_with_caller
from appliance.gateway.http_answer import COMPRESS_FROM_BYTES, compressed, v2_content
from appliance.gateway.http_body import read_body
from appliance.gateway.operations import bind
from appliance.gateway.replies import encode_array
from appliance.gateway.v2_control_api import OPERATIONS as CONTROL
from appliance.gateway.v2_control_api import V2Control
from appliance.gateway.v2_generate import V2Generate
from appliance.gateway.v2_infer import read_infer
from appliance.gateway.v2_memory_api import peer_of
from appliance.gateway.v2_model import v2_config, v2_metadata, v2_server_metadata, v2_statistics

# One or two words, as tritonclient writes `owner/name` unescaped; what follows is the protocol's.
_MODEL = r"/v2/models/{model:[^/]+(?:/(?!(?:" + "|".join(sorted(RESERVED)) + r")(?:/|$))[^/]+)?}"
_VERSION = r"/versions/{version:[^/]+}"

Asked = TypeVar("Asked", bound=msgspec.Struct)

_encode = msgspec.json.Encoder().encode


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=_encode(value), content_type="application/json", status=status)


class V2Rest:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane
        self._catalogue = dataplane.catalogue

    def add_routes(self, app: web.Application) -> None:
        generate = V2Generate(self._dataplane)
        routes: list[tuple[str, str, Handler]] = [
            ("POST", "/infer", self.infer),
            ("POST", "/generate", generate.generate),
            ("POST", "/generate_stream", generate.generate_stream),
            ("GET", "/ready", self.model_ready),
            ("GET", "/config", self.config),
            ("GET", "/stats", self.statistics),
            ("GET", "", self.metadata),
        ]
        app.router.add_get("/v2", self.server_metadata)
        app.router.add_get("/v2/health/live", self.live)
        app.router.add_get("/v2/health/ready", self.ready)
        app.router.add_get("/v2/models/stats", self.all_statistics)
        # The longest first: the first pattern that fits is taken, and a model may be one word or two.
        for place in (_MODEL + _VERSION, _MODEL):
            for method, path, handler in routes:
                app.router.add_route(method, place + path, handler)
        control = V2Control(self._dataplane)
        app.router.add_get(_MODEL + "/trace/setting", control.model_tracing)
        app.router.add_post(_MODEL + "/trace/setting", control.set_model_tracing)
        bind(app, CONTROL, control)
        for repository in ("/v2/repository", "/v2/repository/{repository:[^/]+}"):
            app.router.add_post(repository + "/index", self.index)
        for word, handler in (("load", self.load), ("unload", self.unload)):
            app.router.add_post(r"/v2/repository/models/{model:[^/]+(?:/[^/]+)?}/" + word, handler)
            app.router.add_post(r"/v2/repository/{repository:[^/]+}/models/{model:[^/]+(?:/[^/]+)?}/" + word, handler)

    # Health: the one thing that needs no key.

    async def live(self, request: web.Request) -> web.Response:
        return web.Response()

    async def ready(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self._dataplane.node_ready() else 503)

    # What there is.

    async def server_metadata(self, request: web.Request) -> web.Response:
        self._dataplane.principal(request.headers.get("Authorization"))
        return _json(v2_server_metadata(shared_memory=self._dataplane.shared_memory.allowed))

    async def metadata(self, request: web.Request) -> web.Response:
        version = self._version(request)
        entry = self._catalogue.entry(version.name)
        return _json(v2_metadata(entry, version, request.match_info["model"]))

    async def config(self, request: web.Request) -> web.Response:
        version = self._version(request)
        return _json(v2_config(version, self._dataplane.max_batch(version)))

    async def model_ready(self, request: web.Request) -> web.Response:
        version = self._version(request)
        if not self._dataplane.model_ready(str(version.name), str(version.version)):
            raise BadInputError(f"{version} is not ready: it was unloaded or set aside")
        return web.Response()

    def _version(self, request: web.Request) -> ModelVersion:
        """The version that a path means, if the caller may see it."""
        principal = self._dataplane.principal(request.headers.get("Authorization"))
        path = request.match_info
        version = self._catalogue.resolve(path["model"], path.get("version", ""), by_ordinal=True)
        principal.require("call", version.name)
        return version

    async def statistics(self, request: web.Request) -> web.Response:
        version = self._version(request)
        asked = str(version.ordinal) if "version" in request.match_info else ""
        return _json(
            {"model_stats": [v2_statistics(row) for row in self._dataplane.statistics(str(version.name), asked)]}
        )

    async def all_statistics(self, request: web.Request) -> web.Response:
        principal = self._dataplane.principal(request.headers.get("Authorization"))
        may_see = partial(principal.allows, "call")
        rows = await encode_array(map(v2_statistics, self._dataplane.all_statistics(may_see)))
        return web.Response(body=b'{"model_stats":%b}' % rows, content_type="application/json")

    # The repository.

    async def index(self, request: web.Request) -> web.Response:
        principal = self._dataplane.principal(request.headers.get("Authorization"))
        asked = await _parameters(request, IndexRequest)
        rows = await self._dataplane.index(asked.ready, partial(principal.allows, "call"))
        return web.Response(body=await encode_array(rows), content_type="application/json")

    async def load(self, request: web.Request) -> web.Response:
        principal = self._dataplane.principal(request.headers.get("Authorization"))
        asked = await _parameters(request, RepositoryRequest)
        config = asked.parameters.get("config")
        if config is not None and not isinstance(config, str):
            raise BadInputError("the load's config must be a string that holds JSON")
        try:
            files = {
                name: msgspec.convert(value, bytes)  # base64 in JSON
                for name, value in asked.parameters.items()
                if name.startswith("file:")
            }
        except msgspec.ValidationError as error:
            raise BadInputError(f"a file of the load is no base64: {error}") from None
        await self._dataplane.deployer.load(request.match_info["model"], files, config, principal)
        return web.Response()

    async def unload(self, request: web.Request) -> web.Response:
        principal = self._dataplane.principal(request.headers.get("Authorization"))
        await _parameters(request, RepositoryRequest)
        await self._dataplane.deployer.unload(request.match_info["model"], principal)
        return web.Response()

    # Calls.

    async def infer(self, request: web.Request) -> web.Response:
        headers = request.headers
        principal = self._dataplane.principal(headers.get("Authorization"))
        path = request.match_info
        body = await read_body(request)
        model, version = path["model"], path.get("version", "")
        memory = self._dataplane.shared_memory.of(principal, peer_of(request))
        try:
            asked = read_infer(body, headers.get("Inference-Header-Content-Length"), model, version, memory)
        except BadInputError:
            # That a model is not here is the first thing to say, whatever else is wrong.
            self._catalogue.resolve(model, version, by_ordinal=True)
            raise
        asked.call.deadline_s = asked_deadline_s(request) or asked.call.deadline_s
        asked.call.pin, asked.call.explain = asked_pin(request), asked_explanation(request)
        with dropped_with_caller(request):
            answer = await self._dataplane.call(asked.call, principal)
        parts, json_size = v2_content(answer, path["model"], asked.id)
        content = b"".join(parts)
        answered = {**answered_headers(answer), "Content-Type": "application/json"}
        if json_size:
            answered["Inference-Header-Content-Length"] = str(json_size)
            answered["Content-Type"] = "application/octet-stream"
        if "Accept-Encoding" in headers and len(content) >= COMPRESS_FROM_BYTES:
            content, encoding = await asyncio.to_thread(compressed, content, headers["Accept-Encoding"])
            if encoding:
                answered["Content-Encoding"] = encoding
        return web.Response(body=content, headers=answered)


class IndexRequest(msgspec.Struct):
    """The body of an index request. `ready`: only what could answer."""

    ready: bool = False


class RepositoryRequest(msgspec.Struct):
    """The body of a load or unload."""

    parameters: dict[str, Any] = {}


async def _parameters(request: web.Request, kind: type[Asked]) -> Asked:
    body = await read_body(request)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError(f"the body is not the JSON that was expected: {error}") from None

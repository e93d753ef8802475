"""Managing what is deployed over HTTP: list, search, describe, delete, alias, rollback, logs.

Runs in the gateway, over the data plane and its catalogue. Catalogue writes touch the disk and run in a thread; a
caller sees of the catalogue what its key lets it call.
"""

import asyncio
import re
from urllib.parse import quote

from aiohttp import web

from appliance.catalogue.index import ModelEntry, Query
from appliance.core.names import parse_name
from appliance.core.versions import check_alias
from appliance.gateway import patterns
from appliance.gateway.answers import (
    AliasAnswer,
    AliasRequest,
    DeletedAlias,
    DeletedVersions,
    LogLines,
    ModelDescription,
    ModelList,
    ModelSummary,
)
from appliance.gateway.asked import (
    MAX_LISTED,
    NAME,
    OWNER,
    PLAIN_NAME,
    asked_json,
    asked_limit,
    asked_model,
    asked_name,
    who,
)
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.deployment import Deployer
from appliance.gateway.descriptions import describe, summarise
from appliance.gateway.operations import Body, Operation, Parameter, Reply
from appliance.gateway.pacing import paced
from appliance.gateway.patterns import ALIAS, whole
from appliance.gateway.replies import json_reply

_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")
_MODEL = "/v1/models/{owner}/{name}"
_ALIAS = Parameter(
    "alias",
    "path",
    {"type": "string", "pattern": whole(ALIAS)},
    "a word for a version, such as `prod`; `default` is what calls without a version get",
)
_QUERY = Parameter("q", "query", {"type": "string"}, "words that name, description, tags or labels hold")
_TAG = Parameter("tag", "query", {"type": "string"}, "a tag that the model carries")
_LIMIT = Parameter(
    "limit",
    "query",
    {"type": "integer", "minimum": 1, "maximum": MAX_LISTED},
    f"how many at most; {MAX_LISTED} unasked",
)
_AFTER = Parameter(
    "after",
    "query",
    {"type": "string", "pattern": whole(f"({patterns.NAME}/)?{patterns.NAME}")},
    "only models behind this name: what `next` of the page before says",
)
_LINES = {200: Reply("The last lines, oldest first.", LogLines)}
_ALIASED = {200: Reply("What the alias means now.", AliasAnswer)}
_DESCRIBED = {200: Reply("What the model wants, with an example, and how it fares.", ModelDescription)}
_DELETED = {200: Reply("What was deleted.", DeletedVersions)}
_DESCRIBE = "Say what a model wants, with an example, and how it fares"
_DELETE = "Delete one version, or without a version all of them"

OPERATIONS = (
    Operation(
        "list_models",
        "GET",
        "/v1/models",
        "models",
        "List or search the models that the key may call, by name, page by page",
        {200: Reply("The models, sorted by name; `next` is there where more follow.", ModelList)},
        parameters=(_QUERY, _TAG, _LIMIT, _AFTER),
    ),
    Operation("describe_model", "GET", _MODEL, "models", _DESCRIBE, _DESCRIBED, (404,), (OWNER, NAME)),
    Operation("describe_local", "GET", "/v1/models/{name}", "models", _DESCRIBE, _DESCRIBED, (404,), (NAME,)),
    Operation("delete_model", "DELETE", _MODEL, "models", _DELETE, _DELETED, (404,), (OWNER, NAME)),
    Operation("delete_local", "DELETE", "/v1/models/{name}", "models", _DELETE, _DELETED, (404,), (NAME,)),
    Operation(
        "set_alias",
        "PUT",
        _MODEL + "/aliases/{alias}",
        "models",
        "Let an alias mean a version",
        _ALIASED,
        (404, 413, 415),
        (OWNER, PLAIN_NAME, _ALIAS),
        Body({"application/json": AliasRequest}),
    ),
    Operation(
        "delete_alias",
        "DELETE",
        _MODEL + "/aliases/{alias}",
        "models",
        "Forget an alias",
        {200: Reply("The alias means nothing now.", DeletedAlias)},
        (404,),
        (OWNER, PLAIN_NAME, _ALIAS),
    ),
    Operation(
        "rollback",
        "POST",
        _MODEL + "/rollback",
        "models",
        "Let `default` mean what it meant before",
        _ALIASED,
        (404, 409),
        (OWNER, PLAIN_NAME),
    ),
    Operation(
        "read_logs",
        "GET",
        _MODEL + "/logs",
        "models",
        "Show the last lines that a model's workers wrote",
        _LINES,
        (404,),
        (OWNER, NAME),
    ),
)


class Models:
    """The handlers, over one data plane and what changes its models."""

    def __init__(self, dataplane: DataPlane, deployer: Deployer) -> None:
        self._dataplane = dataplane
        self._deployer = deployer
        self._catalogue = dataplane.catalogue

    async def list_models(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        query = Query(request.query.get("q", ""), request.query.get("tag", ""))
        limit, after = asked_limit(request), request.query.get("after")
        found: list[ModelSummary] = []
        async for entry in paced(self._catalogue.walk(None if after is None else parse_name(after))):
            if principal.allows("call", entry.name) and query.matches(entry):
                if len(found) == limit:
                    return json_reply(ModelList(found, found[-1].model))
                found.append(self._summary(entry))
        return json_reply(ModelList(found))

    def _summary(self, entry: ModelEntry) -> ModelSummary:
        default = entry.default
        return summarise(entry, self._dataplane.state_word(default), self._dataplane.workers(default))

    async def describe_model(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name, asked = asked_model(request)
        principal.require("call", name)
        version = self._catalogue.resolve(str(name), asked)
        entry = self._catalogue.entry(name)
        return json_reply(
            describe(entry, version, self._dataplane.state, self._catalogue.scale(name), address(request))
        )

    async def delete_model(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name, asked = asked_model(request)
        deleted = await self._deployer.delete(name, asked or None, principal)
        gone = [str(version.version) for version in deleted.versions]
        later = {version: list(holders) for version, holders in deleted.later.items()}
        return json_reply(DeletedVersions(str(name), gone, later, list(deleted.unknown)))

    async def set_alias(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name = asked_name(request)
        alias = check_alias(request.match_info["alias"])
        principal.require("deploy", name)
        wanted = await asked_json(request, AliasRequest)
        version = await self._deployer.set_alias(name, alias, wanted.version)
        return json_reply(AliasAnswer(str(name), alias, str(version.version)))

    async def delete_alias(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name = asked_name(request)
        alias = check_alias(request.match_info["alias"])
        principal.require("deploy", name)
        await asyncio.to_thread(self._catalogue.delete_alias, name, alias)
        return json_reply(DeletedAlias(str(name), alias))

    async def rollback(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name = asked_name(request)
        principal.require("deploy", name)
        version = await self._deployer.rollback(name)
        return json_reply(AliasAnswer(str(name), "default", str(version.version)))

    async def read_logs(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name, asked = asked_model(request)
        principal.require("deploy", name)
        return json_reply(LogLines(str(name), self._dataplane.logs(name, asked)))

    describe_local = describe_model
    delete_local = delete_model


def address(request: web.Request) -> str:
    """The URL that was asked, as a word that is safe in a shell: what a caller put in the Host header is not."""
    host = request.host if _HOST.fullmatch(request.host) else "localhost"
    return f"{request.scheme}://{host}{quote(request.path, safe='/:')}"

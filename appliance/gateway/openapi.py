"""`/openapi.json`: the document of this node's HTTP, made from the operations' rows and the answers' structs.

Runs in the gateway; made once, when first asked for. Says nothing that is not in a row or a struct.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import msgspec
from aiohttp import web

from appliance.core.release import VERSION
from appliance.gateway import (
    activity_api,
    backups_api,
    copies_api,
    deploys_api,
    keys_api,
    mesh_api,
    mesh_membership_api,
    metrics,
    models_api,
    node_api,
    openapi_v2,
    plain,
    program_api,
    traffic_api,
    v2_control_api,
    v2_memory_api,
)
from appliance.gateway.answers import ErrorAnswer
from appliance.gateway.operations import ERROR_MEANINGS, Body, Content, Operation, Parameter, Reply

OPERATIONS = (
    Operation(
        "openapi",
        "GET",
        "/openapi.json",
        "node",
        "Show this document",
        {200: Reply("The document.", {"application/json": {"type": "object"}})},
        open=True,
    ),
)
ALL_OPERATIONS = (
    *plain.OPERATIONS,
    *models_api.OPERATIONS,
    *deploys_api.OPERATIONS,
    *backups_api.OPERATIONS,
    *keys_api.OPERATIONS,
    *mesh_membership_api.OPERATIONS,
    *node_api.OPERATIONS,
    *mesh_api.OPERATIONS,
    *activity_api.OPERATIONS,
    *copies_api.OPERATIONS,
    *program_api.OPERATIONS,
    *traffic_api.OPERATIONS,
    *metrics.OPERATIONS,
    *OPERATIONS,
    *openapi_v2.OPERATIONS,
    *v2_memory_api.OPERATIONS,
    *v2_control_api.OPERATIONS,
)

_DESCRIPTION = """Models are called and managed here.

A key goes into the header `Authorization`, as `Bearer KEY`, `Simple KEY` or the bare key. On a node started with
`--open`, calling and reading need none.

Every error is `{"error": sentence, "code": word}`.

`POST /v1/drain`, with an admin key, makes the node refuse new calls and answers once those in flight are done.
`POST /v1/mesh/join` with `{"code": ..., "address": ...}`, `POST /v1/mesh/key` with `{"key": ...}` and `POST
/v1/mesh/leave` change the mesh that the node is in. These are left out of the operations below, so that a tool which
tries each of them takes the node neither out of service nor out of its mesh.
"""
_HEADERS: dict[str, dict[str, Any]] = {
    "X-Ingle-Call": {"description": "the call's id, for /v1/calls/{id}", "schema": {"type": "string"}},
    "X-Ingle-Node": {"description": "the node that ran the model", "schema": {"type": "string"}},
    "X-Ingle-Route": {
        "required": False,
        "description": "why it ran there, where X-Ingle-Explain asked for it: JSON, seconds of each term by candidate",
        "schema": {"type": "string"},
    },
}


class OpenApi:
    """The handler."""

    async def openapi(self, _request: web.Request) -> web.Response:
        return web.Response(body=document_text(), content_type="application/json")


@cache
def document_text() -> bytes:
    """The whole document as JSON."""
    return msgspec.json.encode(document(ALL_OPERATIONS))


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these operations."""
    operations = list(operations)
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ingle", "version": VERSION, "description": _DESCRIPTION},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas.components,
        },
    }


class _Schemas:
    """The types that the operations name, as components, and how each is referred to."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        kinds: list[Any] = [ErrorAnswer]
        for operation in operations:
            contents = [content for reply in operation.replies.values() for content in by_media_type(reply).values()]
            contents += operation.body.content.values() if operation.body else ()
            kinds += (content for content in contents if not isinstance(content, Mapping) and content not in kinds)
        template = "#/components/schemas/{name}"
        references, self.components = msgspec.json.schema_components(kinds, ref_template=template)
        self._references = list(zip(kinds, references, strict=True))

    def of(self, content: Content) -> Mapping[str, Any]:
        """The schema itself, or what msgspec makes of the type: for a struct the reference to its component."""
        if isinstance(content, Mapping):
            return content
        return next(reference for kind, reference in self._references if kind == content)


def by_media_type(reply: Reply) -> Mapping[str, Content]:
    """What the reply can carry; nothing where it has no body."""
    if reply.content is None:
        return {}
    return reply.content if isinstance(reply.content, Mapping) else {"application/json": reply.content}


def _described(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    replies = {str(status): _reply(reply, schemas) for status, reply in operation.replies.items()}
    for status in operation.error_statuses:
        replies[str(status)] = _reply(Reply(ERROR_MEANINGS[status], ErrorAnswer), schemas)
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.group],
        "summary": operation.summary,
        "responses": replies,
    }
    if operation.open:
        described["security"] = []
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body:
        described["requestBody"] = _body(operation.body, schemas)
    return described


def _reply(reply: Reply, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": reply.description}
    if reply.content is not None:
        described["content"] = {kind: {"schema": schemas.of(c)} for kind, c in by_media_type(reply).items()}
    if reply.headers:
        described["headers"] = {name: {"required": True, **_HEADERS[name]} for name in reply.headers}
    return described


def _body(body: Body, schemas: _Schemas) -> dict[str, Any]:
    content = {kind: {"schema": schemas.of(schema)} for kind, schema in body.content.items()}
    return {"description": body.description, "required": body.required, "content": content}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "schema": parameter.schema,
    }
    return {**described, "description": parameter.description} if parameter.description else described

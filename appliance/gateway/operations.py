"""An HTTP operation as a row: its address, its handler's name and what can be said of it in the OpenAPI document.

Used by the gateway. Routes and the document are made from the same rows, so an operation cannot be served without being
described. Knows nothing of what any operation does.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from aiohttp import web

from appliance.core.errors import ERRORS

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
# A type whose JSON Schema msgspec makes, or JSON Schema as it is.
Content = Any


class Parameter(NamedTuple):
    """A value in the path, the query or a header. `schema` is JSON Schema."""

    name: str
    place: Literal["path", "query", "header"]
    schema: Mapping[str, Any]
    description: str = ""

    @property
    def required(self) -> bool:
        return self.place == "path"


class Body(NamedTuple):
    """What a request carries, by media type."""

    content: Mapping[str, Content]
    description: str = ""
    required: bool = True


class Reply(NamedTuple):
    """What an answer of one status carries: a struct as JSON, or a content by media type; None: nothing."""

    description: str
    content: type[msgspec.Struct] | Mapping[str, Content] | None
    headers: tuple[str, ...] = ()


class Operation(NamedTuple):
    """`id` is the name of the handler's method. `errors` are the statuses it can answer in the one error form, besides
    those that any operation can (400, 500) and, unless `open`, those for want of a key (401, 403)."""

    id: str
    method: Method
    path: str
    group: str
    summary: str
    replies: Mapping[int, Reply]
    errors: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    open: bool = False

    @property
    def error_statuses(self) -> list[int]:
        """Every status of this operation that carries an error, sorted."""
        return sorted({400, 500, *self.errors, *(() if self.open else (401, 403))})


ERROR_MEANINGS: dict[int, str] = {
    400: "The request is malformed, or a value in it is not what it must be.",
    401: "No key, or one that is unknown or revoked.",
    403: "The key is known but does not allow this.",
    404: "What was asked for does not exist; the sentence says what does.",
    409: "It would change what is stored and does not change.",
    410: "The sequence was lost: start it anew.",
    413: "More than this node takes.",
    415: "Understood, but not offered for this model.",
    422: "The file was looked at and not taken; the sentence says why.",
    429: "A bound was reached; the same request may pass later.",
    500: "The model ran and failed, or the node did.",
    503: "The node starts or drains, or the model was set aside.",
    504: "The deadline passed.",
}
assert {error.status for error in ERRORS.values()} <= set(ERROR_MEANINGS)


def bind(app: web.Application, operations: Iterable[Operation], handlers: object) -> None:
    """Serve each operation by the method of `handlers` that bears its id."""
    for operation in operations:
        app.router.add_route(operation.method, operation.path, getattr(handlers, operation.id))
        if operation.method == "GET":
            app.router.add_route("HEAD", operation.path, getattr(handlers, operation.id))

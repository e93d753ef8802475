"""What an HTTP request asks beside its body: who asks, for which model, by when, where.

Used by the gateway's handlers; each function reads one thing and raises the error that belongs to it. Knows nothing of
what is done with the answer.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
from aiohttp import web

from appliance.core.errors import BadInputError, TooLargeError
from appliance.core.names import ModelName, parse_reference
from appliance.core.requests import CallAnswer
from appliance.core.versions import parse_version
from appliance.gateway import patterns
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.http_body import refuse_encoding
from appliance.gateway.operations import Parameter
from appliance.gateway.patterns import whole
from appliance.gateway.pin import read_pin
from appliance.security.scopes import Principal

Request = TypeVar("Request", bound=msgspec.Struct)

MAX_DEADLINE_MS = 86_400_000
MAX_JSON_BYTES = 1024 * 1024
MAX_LISTED = 1000

_NUMBER = re.compile(r"(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?")

OWNER = Parameter("owner", "path", {"type": "string", "pattern": whole(patterns.NAME)}, "the model's owner")
PLAIN_NAME = Parameter("name", "path", {"type": "string", "pattern": whole(patterns.NAME)}, "the model's name")
NAME = Parameter(
    "name",
    "path",
    {"type": "string", "pattern": whole(f"{patterns.NAME}(:{patterns.ANY_VERSION})?")},
    "the model's name, and behind a colon the version or alias: `name`, `name:1.2`, `name:prod`",
)
NEW_NAME = Parameter(
    "name",
    "path",
    {"type": "string", "pattern": whole(f"{patterns.NAME}(:{patterns.WHOLE_VERSION})?")},
    "the model's name, and behind a colon the version it shall be: `name`, `name:1.2.0`",
)
DEADLINE = Parameter(
    "X-Ingle-Deadline-Ms",
    "header",
    {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DEADLINE_MS},
    "how many milliseconds the call may take from its arrival",
)
PIN = Parameter(
    "X-Ingle-Pin",
    "header",
    {"type": "string", "pattern": whole(f"(local|(node|tag):{patterns.WORD})")},
    "where the call must run: `local`, `node:NAME` or `tag:WORD`",
)
EXPLAIN = Parameter(
    "X-Ingle-Explain",
    "header",
    {"type": "string", "enum": ["0", "1"]},
    "1: the header X-Ingle-Route of the answer says why the call ran where it did",
)


def who(request: web.Request, dataplane: DataPlane) -> Principal:
    """Who asks, by the Authorization header. Raises UnauthenticatedError."""
    return dataplane.principal(request.headers.get("Authorization"))


def asked_model(request: web.Request) -> tuple[ModelName, str]:
    """The model in the path, with the version behind its colon or an empty one. Raises BadInputError."""
    owner = request.match_info.get("owner")
    name = request.match_info["name"]
    reference = name if owner is None else f"{owner}/{name}"
    if reference.endswith(":"):
        raise BadInputError("there is no version behind the colon: give one, as in name:1.2, or leave the colon out")
    return parse_reference(reference)


def asked_name(request: web.Request) -> ModelName:
    """The model in a path that takes no version. Raises BadInputError where one is given."""
    name, version = asked_model(request)
    if version:
        raise BadInputError(f"this address is about the whole model: leave ':{version[:80]}' out")
    return name


def asked_new_version(request: web.Request) -> tuple[ModelName, str]:
    """The model to be made and its version: a whole one such as 1.2.0, or empty. Raises BadInputError."""
    name, version = asked_model(request)
    return name, str(parse_version(version)) if version else ""


def asked_limit(request: web.Request) -> int:
    """How many rows of a list are wanted at most. Raises BadInputError."""
    text = request.query.get("limit", str(MAX_LISTED))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= limit <= MAX_LISTED:
        raise BadInputError(f"limit is '{text[:40]}': expected a number from 1 to {MAX_LISTED}")
    return limit


def asked_deadline_s(request: web.Request) -> float:
    """The deadline in seconds from now, or 0 where none was asked for. Raises BadInputError."""
    text = request.headers.get(DEADLINE.name)
    if text is None:
        return 0.0
    milliseconds = float(text) if _NUMBER.fullmatch(text.strip()) else 0.0
    if not 0 < milliseconds <= MAX_DEADLINE_MS:
        raise BadInputError(
            f"{DEADLINE.name} is '{text[:40]}': expected a number of milliseconds above 0, at most {MAX_DEADLINE_MS}"
        )
    return max(milliseconds / 1000, 1e-6)  # 0 would mean that none was asked for


def asked_pin(request: web.Request) -> str:
    """Where the call must run, or empty. Raises BadInputError where that is no pin."""
    asked = request.headers.get(PIN.name)
    return "" if asked is None else read_pin(asked)


def asked_explanation(request: web.Request) -> bool:
    """Whether the answer is to say why the call ran where it did."""
    return request.headers.get(EXPLAIN.name, "0") not in ("0", "")


def answered_headers(answer: CallAnswer) -> dict[str, str]:
    """The headers that every answer to a call bears."""
    headers = {"X-Ingle-Call": answer.call, "X-Ingle-Node": answer.node}
    return {**headers, "X-Ingle-Route": answer.route} if answer.route else headers


@contextmanager
def broken_bodies() -> Iterator[None]:
    """Around the reading of a body: raises BadInputError where it breaks off or its chunks are malformed."""
    try:
        yield
    except (web.RequestPayloadError, ConnectionError) as error:
        raise BadInputError("the body broke off before its end, or its chunks are malformed") from error


async def asked_json(request: web.Request, kind: type[Request]) -> Request:
    """The request's JSON body. Raises BadInputError naming what is wrong with it, TooLargeError beyond 1 MiB,
    UnsupportedError where it is compressed."""
    refuse_encoding(request)
    body = b""
    with broken_bodies():
        while len(body) <= MAX_JSON_BYTES and (more := await request.content.readany()):
            body += more
    if len(body) > MAX_JSON_BYTES:
        raise TooLargeError(f"the body is larger than {MAX_JSON_BYTES} bytes, which is more than this request can need")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError(f"the body is not the JSON that was expected: {_readable(str(error))}") from None


def _readable(fault: str) -> str:
    """msgspec's words without the regular expression that a text must match, which the API's document has."""
    return _PATTERN.sub("a text is not of the form that /openapi.json says for it", fault)


_PATTERN = re.compile(r"Expected `str` matching regex '.*'(?= - at |$)")

"""The plain call: any content in, JSON out, for devices that install nothing.

Runs in the gateway. The content is not looked at here: the worker turns it into tensors in its sandbox and writes the
answer's text; here that text is put between who answered and where the time went.
"""

import msgspec
from aiohttp import web

from appliance.core.frames import AnswerForm, Encoding, TensorHead
from appliance.core.requests import CallAnswer, CallRequest
from appliance.gateway.answers import PlainAnswer
from appliance.gateway.asked import (
    DEADLINE,
    EXPLAIN,
    NAME,
    OWNER,
    PIN,
    answered_headers,
    asked_deadline_s,
    asked_explanation,
    asked_model,
    asked_pin,
    broken_bodies,
    who,
)
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.hang_up import dropped_with_caller
from appliance.gateway.http_body import read_body
from appliance.gateway.operations import Body, Operation, Reply

_BINARY = {"type": "string", "format": "binary"}
_SUMMARY = "Call a model with a picture, a text, a table, a recording, JSON or raw bytes"
_ANSWERED = ("X-Ingle-Call", "X-Ingle-Node", "X-Ingle-Route")
_REPLIES = {200: Reply("The outputs, with labels where the model has them.", PlainAnswer, _ANSWERED)}
_ERRORS = (404, 413, 415, 429, 503, 504)
_BODY = Body(
    {
        "application/json": {"description": "one row, rows, or an object with the inputs by name"},
        "text/plain": {"type": "string"},
        "text/csv": {"type": "string"},
        "image/jpeg": _BINARY,
        "image/png": _BINARY,
        "audio/wav": _BINARY,
        "application/octet-stream": _BINARY,
    },
    "what the model wants; GET on the same address says which of these, with an example",
    required=False,
)
_HEADERS = (DEADLINE, PIN, EXPLAIN)

OPERATIONS = (
    Operation(
        "call",
        "POST",
        "/v1/models/{owner}/{name}",
        "calls",
        _SUMMARY,
        _REPLIES,
        _ERRORS,
        (OWNER, NAME, *_HEADERS),
        _BODY,
    ),
    Operation(
        "call_local", "POST", "/v1/models/{name}", "calls", _SUMMARY, _REPLIES, _ERRORS, (NAME, *_HEADERS), _BODY
    ),
)


class PlainCalls:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def call(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name, version = asked_model(request)
        deadline_s = asked_deadline_s(request)
        pin, explain = asked_pin(request), asked_explanation(request)
        principal.require("call", name)
        with broken_bodies():
            content = await read_body(request)
        call = CallRequest(
            model=str(name),
            version=version,
            form=AnswerForm.PLAIN,
            tensors=[TensorHead("", "BYTES", [], Encoding.CONTENT, len(content))],
            parts=[content],
            content_type=request.headers.get("Content-Type", ""),
            deadline_s=deadline_s,
            pin=pin,
            explain=explain,
        )
        with dropped_with_caller(request):
            answer = await self._dataplane.call(call, principal)
        return web.Response(
            body=answer_text(answer),
            content_type="application/json",
            headers=answered_headers(answer),
        )

    call_local = call


_encode = msgspec.json.Encoder().encode


def answer_text(answer: CallAnswer) -> bytes:
    """The whole answer's JSON: the worker's members in the middle, as they are."""
    return b"".join(
        (
            b'{"model":',
            _encode(answer.model),
            b',"version":',
            _encode(answer.version),
            b",",
            answer.body,
            b',"node":',
            _encode(answer.node),
            b',"call":',
            _encode(answer.call),
            b',"seconds":',
            _encode(answer.seconds),
            b"}",
        )
    )

"""V2's generate: a flat JSON object in, a flat JSON object out, at once or as one server-sent event.

Runs in the gateway. The object's members become the inputs of those names in the worker, a batch axis added where it
lacks; the outputs come back as members, one element as itself, more as a flat list. A model here answers once, so a
stream has one event. Source: Triton's generate extension.
"""

import msgspec
from aiohttp import web

from appliance.core.errors import BadInputError
from appliance.core.frames import AnswerForm, Encoding, TensorHead
from appliance.core.requests import CallAnswer, CallRequest
from appliance.core.tensors import Signature
from appliance.gateway.asked import (
    answered_headers,
    asked_deadline_s,
    asked_explanation,
    asked_pin,
    broken_bodies,
    who,
)
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.http_body import read_body
from appliance.gateway.v2_parameters import read_parameters

_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class V2Generate:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def generate(self, request: web.Request) -> web.Response:
        answer, text = await self._answer(request)
        return web.Response(body=text, content_type="application/json", headers=answered_headers(answer))

    async def generate_stream(self, request: web.Request) -> web.Response:
        answer, text = await self._answer(request)
        return web.Response(
            body=b"data: %b\n\n" % text,
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", **answered_headers(answer)},
        )

    async def _answer(self, request: web.Request) -> tuple[CallAnswer, bytes]:
        principal = who(request, self._dataplane)
        path = request.match_info
        model, version = path["model"], path.get("version", "")
        found = self._dataplane.catalogue.resolve(model, version, by_ordinal=True)
        principal.require("call", found.name)
        pin = asked_pin(request)
        deadline_s = asked_deadline_s(request)
        with broken_bodies():
            body = await read_body(request)
        call, request_id = read_generate(body, found.signature, model, version)
        call.deadline_s = deadline_s or call.deadline_s
        call.pin, call.explain = pin, asked_explanation(request)
        answer = await self._dataplane.call(call, principal)
        return answer, generate_text(answer, model, request_id)


def read_generate(body: bytes, signature: Signature, model: str, version: str) -> tuple[CallRequest, str]:
    """The call in a request's body, and the request's id.

    `id` and `parameters` are the request's own where the model has no input of that name. Among the parameters, those
    that bear an input's name are that input, as the extension has it. Raises BadInputError.
    """
    names = {spec.name for spec in signature.inputs}
    try:
        members = _members(body)
        request_id = "" if "id" in names else msgspec.json.decode(members.pop("id", b'""'), type=str)
        parameters: dict[str, object] = {}
        if "parameters" not in names and "parameters" in members:
            nested = _members(members.pop("parameters"))
            members.update((name, nested.pop(name)) for name in list(nested) if name in names and name not in members)
            parameters = {name: msgspec.json.decode(value) for name, value in nested.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError(f"the body is not the JSON object that was expected: {error}") from None
    about = read_parameters(parameters)
    content = b"{%b}" % b",".join(_encode(name) + b":" + bytes(value) for name, value in members.items())
    call = CallRequest(
        model,
        version,
        AnswerForm.GENERATE,
        [TensorHead("", "BYTES", [], Encoding.CONTENT, len(content))],
        [content],
        content_type="application/json",
        by_ordinal=True,
        deadline_s=about.deadline_s,
        priority=about.priority,
        sequence=about.sequence,
    )
    return call, request_id


def generate_text(answer: CallAnswer, model: str, request_id: str) -> bytes:
    """The answer's JSON: who answered, and the worker's members as they are."""
    asked_id = b',"id":' + _encode(request_id) if request_id else b""
    outputs = b"," + bytes(answer.body) if answer.body else b""
    return b'{"model_name":%b,"model_version":"%d"%b%b}' % (_encode(model), answer.ordinal, asked_id, outputs)

"""Making, listing, limiting and revoking keys over HTTP. Runs in the gateway; the key ring itself is the security's."""

import asyncio

import msgspec
from aiohttp import web

from appliance.core.errors import ConflictError
from appliance.gateway.answers import KeyDescription, KeyLimits, KeyList, KeyRequest, NewKey
from appliance.gateway.asked import asked_json, who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Body, Operation, Parameter, Reply
from appliance.gateway.patterns import ID, whole
from appliance.gateway.replies import json_reply
from appliance.security.keys import KeyRecord
from appliance.security.limits import Limits

_ID = Parameter("id", "path", {"type": "string", "pattern": whole(ID)}, "the key's id, not its secret")

OPERATIONS = (
    Operation(
        "list_keys",
        "GET",
        "/v1/keys",
        "keys",
        "List the keys, without their secrets",
        {200: Reply("The keys, oldest first.", KeyList)},
    ),
    Operation(
        "create_key",
        "POST",
        "/v1/keys",
        "keys",
        "Make a key; its secret is shown this once",
        {201: Reply("The new key.", NewKey)},
        (413, 415),
        body=Body({"application/json": KeyRequest}),
    ),
    Operation(
        "limit_key",
        "PATCH",
        "/v1/keys/{id}",
        "keys",
        "Change how often a key may call, at once",
        {200: Reply("The key as it is now.", KeyDescription)},
        (404, 413, 415),
        (_ID,),
        Body({"application/json": KeyLimits}),
    ),
    Operation(
        "revoke_key",
        "DELETE",
        "/v1/keys/{id}",
        "keys",
        "Revoke a key, at once and for good",
        {200: Reply("The key as it was, revoked.", KeyDescription)},
        (404, 409),
        (_ID,),
    ),
)


class Keys:
    """The handlers, over one data plane's key ring."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane
        self._keys = dataplane.keys

    async def list_keys(self, request: web.Request) -> web.Response:
        who(request, self._dataplane).require("admin", None)
        records = await asyncio.to_thread(self._keys.list)
        return json_reply(KeyList([described(record) for record in records]))

    async def create_key(self, request: web.Request) -> web.Response:
        who(request, self._dataplane).require("admin", None)
        wanted = await asked_json(request, KeyRequest)
        limits = Limits(wanted.rate, int(wanted.burst), wanted.quota)
        record, secret = await asyncio.to_thread(self._keys.create, printable(wanted.label), wanted.scopes, limits)
        made = NewKey(record.id, record.label, list(record.scopes), record.created_s, secret, *_words(limits))
        return json_reply(made, 201)

    async def limit_key(self, request: web.Request) -> web.Response:
        who(request, self._dataplane).require("admin", None)
        key_id = request.match_info["id"]
        asked = msgspec.structs.asdict(await asked_json(request, KeyLimits))
        changes = {name: value for name, value in asked.items() if value is not msgspec.UNSET}
        if "burst" in changes:
            changes["burst"] = int(changes["burst"])
        return json_reply(described(await asyncio.to_thread(self._keys.limit, key_id, changes)))

    async def revoke_key(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        principal.require("admin", None)
        key_id = request.match_info["id"]
        # Nobody locks themselves out with one call: another admin key must do it.
        if key_id == principal.key_id:
            raise ConflictError("this is the key you are asking with: revoke it with another admin key")
        return json_reply(described(await asyncio.to_thread(self._keys.revoke, key_id)))


def described(record: KeyRecord) -> KeyDescription:
    """The record without anything that could open a door."""
    return KeyDescription(
        record.id,
        record.label,
        list(record.scopes),
        record.created_s,
        record.revoked_s,
        *_words(record.limits),
        record.used_calls,
    )


def _words(limits: Limits) -> tuple[str, int, str]:
    return limits.rate, limits.burst, limits.quota


def printable(label: str) -> str:
    """The label as it can be shown in a terminal; what cannot be printed becomes U+FFFD."""
    return "".join(character if character.isprintable() else "\ufffd" for character in label)

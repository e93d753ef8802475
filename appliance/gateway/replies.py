"""How management answers are put on the wire: JSON from structs. Used by the gateway's handlers; knows no operation."""

from collections.abc import Iterable

import msgspec
from aiohttp import web

from appliance.gateway.pacing import paced

encode_json = msgspec.json.Encoder().encode


def json_reply(answer: msgspec.Struct, status: int = 200) -> web.Response:
    """The struct as a JSON answer."""
    return web.Response(body=encode_json(answer), status=status, content_type="application/json")


async def encode_array(rows: Iterable[object]) -> bytes:
    """A JSON array of rows that may be tens of thousands."""
    return b"[" + b",".join([encode_json(row) async for row in paced(rows)]) + b"]"

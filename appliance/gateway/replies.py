"""How management answers are put on the wire: JSON from structs. Used by the gateway's handlers; knows no operation."""

import msgspec
from aiohttp import web

encode_json = msgspec.json.Encoder().encode


def json_reply(answer: msgspec.Struct, status: int = 200) -> web.Response:
    """The struct as a JSON answer."""
    return web.Response(body=encode_json(answer), status=status, content_type="application/json")

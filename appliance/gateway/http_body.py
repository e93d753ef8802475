"""The body of a request that comes the long way: bounded before it is read, and unpacked within the same bound.

Runs in the gateway; aiohttp's own unpacking is off, since it knows no bound and holds the event loop up.
"""

import asyncio
import zlib

from aiohttp import web

from appliance.core.errors import BadInputError, TooLargeError, UnsupportedError
from appliance.gateway.held import HeldBytes

# zlib's window sizes: 31 reads a gzip member, 47 a zlib stream or a gzip member.
_MOST_UNPACKED = 1032  # bytes from one, in deflate's format
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 47}


def check_length(request: web.Request, limit_bytes: int) -> None:
    """Raises TooLargeError at once where the request says itself that it is too large."""
    if request.content_length is not None and request.content_length > limit_bytes:
        raise _too_large(limit_bytes)


def refuse_encoding(request: web.Request) -> None:
    """Raises UnsupportedError where a body is encoded that is taken only as it is."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedError(f"Content-Encoding '{encoding[:40]}' is not taken here: send the bytes as they are")


class HeldBody:
    """What a request's body takes of the gateway's ledger, until the request is answered."""

    def __init__(self, held: HeldBytes) -> None:
        self._held = held
        self._size_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Raises UnavailableError where the gateway holds too much already."""
        self._held.take(size_bytes)
        self._size_bytes += size_bytes

    def give_back(self) -> None:
        self._held.give_back(self._size_bytes)
        self._size_bytes = 0


HELD = web.RequestKey("held", HeldBody)


async def read_body(request: web.Request) -> bytes:
    """The whole body, unpacked. Raises TooLargeError, UnavailableError where the gateway holds too much already,
    UnsupportedError for an encoding that is not gzip or deflate, and BadInputError where the body is not what its
    encoding says."""
    limit_bytes = request.client_max_size
    check_length(request, limit_bytes)
    held = request[HELD]
    body = await _read(request, held, limit_bytes)
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOWS:
        raise UnsupportedError(f"Content-Encoding '{encoding[:40]}' is not taken: gzip, deflate or none")
    held.take(min(limit_bytes, _MOST_UNPACKED * len(body)))
    return await asyncio.to_thread(unpacked, body, encoding, limit_bytes)


async def _read(request: web.Request, held: HeldBody, limit_bytes: int) -> bytes:
    """The body as it came; one that does not say its length is taken into account piece by piece."""
    if request.content_length is not None:
        held.take(request.content_length)
        return await request.read()
    body = bytearray()
    while piece := await request.content.readany():
        held.take(len(piece))
        body += piece
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
    return bytes(body)


def unpacked(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body without its compression, at most `limit_bytes`. Raises TooLargeError and BadInputError."""
    unpacker = zlib.decompressobj(_WINDOWS[encoding])
    try:
        content = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise BadInputError(f"the body is not {encoding}, as its Content-Encoding says: {error}") from None
    if len(content) > limit_bytes:
        raise _too_large(limit_bytes)
    if not unpacker.eof:
        raise BadInputError(f"the body's {encoding} data is cut short")
    return content


def _too_large(limit_bytes: int) -> TooLargeError:
    return TooLargeError(too_large_words(limit_bytes))


def too_large_words(limit_bytes: int) -> str:
    """What is said to a call of more than `limit_bytes`."""
    return f"the body is larger than the {limit_bytes} bytes that this node takes for a call (gateway.max_body)"

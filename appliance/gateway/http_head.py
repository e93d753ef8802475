"""The head of an HTTP request, read the quick way where it is of the plainest form. Pure; runs for every call.

This is no HTTP parser: what it does not take without doubt it leaves to aiohttp's, from the request's first byte on.
It exists because reading and dispatching a request through a web framework costs more than all the rest of a call
(docs/decisions/0003-fast-calls.md).
"""

import functools
from typing import Literal, NamedTuple

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 128

# A request with one of these is for a full HTTP implementation.
_UNUSUAL = frozenset((b"transfer-encoding", b"expect", b"content-encoding", b"upgrade", b"connection", b"trailer"))
# What no header name of a plain request has. A name with a space before its colon is a known way to smuggle.
_NAME_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class Head(NamedTuple):
    """A request whose head is complete. `size_bytes` counts the head with its empty line, `headers` have lower-case
    names. `body_bytes` is -1 where no Content-Length says."""

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    size_bytes: int
    body_bytes: int


def read_head(data: bytes) -> Head | Literal["incomplete", "unusual"]:
    """The head at the beginning of `data`; or that more bytes are needed; or that aiohttp must read it."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    if end < 0:
        return "unusual" if len(data) >= MAX_HEAD_BYTES or b"\n\n" in data else "incomplete"
    return _parse(data[:end])


# A client sends the same head again and again: what was read once is looked up.
@functools.lru_cache(maxsize=1024)
def _parse(text: bytes) -> Head | Literal["unusual"]:
    """The head in `text`, which has no empty line at its end."""
    first, *lines = text.split(b"\r\n")
    words = first.split(b" ")
    if len(lines) > MAX_HEADERS or len(words) != 3 or words[2] != b"HTTP/1.1" or not words[1].startswith(b"/"):
        return "unusual"
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not name or not _NAME_BYTES.issuperset(name) or name in headers or name in _UNUSUAL:
            return "unusual"
        headers[name] = value.strip(b" \t")
    if b"\n" in first or any(b"\n" in value or b"\r" in value or b"\0" in value for value in headers.values()):
        return "unusual"
    length = headers.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 16):
        return "unusual"
    if b"host" not in headers:
        return "unusual"
    return Head(words[0], words[1], headers, len(text) + 4, -1 if length is None else int(length))

"""Answers of calls as the bytes of HTTP, and errors likewise. Pure but for the clock; runs in the gateway per call.

The long way through aiohttp takes its parts from here too, so that both ways say the same.
"""

import json
import math
import time
import zlib
from email.utils import formatdate

import msgspec

from appliance.core.errors import IngleError
from appliance.core.requests import Buffer, CallAnswer
from appliance.gateway.v2_infer import write_head

COMPRESS_FROM_BYTES = 1024
_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    409: b"Conflict",
    410: b"Gone",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}

# From here to join an answer's parts costs more than to hand several to the system.
_PARTS_FROM_BYTES = 64 * 1024

_quote = msgspec.json.Encoder().encode

_date_s = 0
_date = b""


def _date_line() -> bytes:
    """The Date header, made once a second."""
    global _date_s, _date
    now_s = int(time.time())
    if now_s != _date_s:
        _date_s, _date = now_s, f"Date: {formatdate(now_s, usegmt=True)}\r\n".encode()
    return _date


def v2_content(answer: CallAnswer, model: str, request_id: str) -> tuple[list[Buffer], int]:
    """A V2 answer's body in parts, and the length of its JSON where binary outputs follow it, else 0."""
    head = write_head(model, answer.ordinal, request_id)
    body, text_size = answer.body, answer.text_size
    if len(body) == text_size:
        return [head, body, b"}"], 0
    view = memoryview(body)
    # The JSON part ends where the worker's text ends and the closing brace follows it.
    return [head, view[:text_size], b"}", view[text_size:]], len(head) + text_size + 1


def compressed(content: bytes, accepted: str) -> tuple[bytes, str]:
    """The body as the caller accepts it, and how it is encoded: gzip, deflate, or empty for as it was."""
    for word, window in (("gzip", 31), ("deflate", 15)):
        if word in accepted:
            return zlib.compress(content, 1, window), word
    return content, ""


def v2_answer_parts(answer: CallAnswer, model: str, request_id: str, accepted: str = "") -> list[Buffer]:
    """The whole HTTP answer to a V2 call, compressed where `accepted` names a way; in one part unless it is large."""
    parts, json_size = v2_content(answer, model, request_id)
    encoded = b""
    if accepted:
        content, word = compressed(b"".join(parts), accepted)
        parts = [content]
        encoded = b"Content-Encoding: %b\r\n" % word.encode() if word else b""
    if json_size:
        kind = b"application/octet-stream\r\nInference-Header-Content-Length: %d" % json_size
    else:
        kind = b"application/json"
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%bContent-Length: %d\r\nX-Ingle-Call: %b\r\nX-Ingle-Node: %b\r\n%b\r\n"
        % (
            kind,
            encoded,
            sum(map(len, parts)),
            answer.call.encode(),
            answer.node.encode(),
            _date_line(),
        )
    )
    whole = [head, *parts]
    return whole if len(answer.body) >= _PARTS_FROM_BYTES else [b"".join(whole)]


def error_content(sentence: str, code: str) -> bytes:
    """The body of every HTTP error: V2's member `error`, and our word for it."""
    try:
        quoted = _quote(sentence)
    except UnicodeEncodeError:  # half of a surrogate pair, which came in the request
        quoted = json.dumps(sentence).encode()
    return b'{"error":%b,"code":%b}' % (quoted, _quote(code))


def error_headers(status: int, *, call: str = "", node: str = "", retry_after_s: float | None = None) -> dict[str, str]:
    """The headers that belong to an error besides its content's."""
    headers = {}
    if call:
        headers.update({"X-Ingle-Call": call, "X-Ingle-Node": node})
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def error_bytes(error: IngleError, node: str) -> bytes:
    """The whole HTTP answer that says what went wrong. It must cost little: a flood is answered with these."""
    content = error_content(error.sentence, error.code)
    status = error.status
    more = error_headers(status, call=error.call, node=node, retry_after_s=error.retry_after_s)
    lines = "".join([f"{name}: {value}\r\n" for name, value in more.items()]).encode()
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b%b\r\n%b" % (
        status,
        _REASONS.get(status, b"Error"),
        len(content),
        lines,
        _date_line(),
        content,
    )

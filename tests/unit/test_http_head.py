"""Which requests are read the quick way: only those about which no two HTTP implementations could disagree."""

import pytest

from appliance.gateway.http_head import MAX_HEAD_BYTES, Head, read_head

PLAIN = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-Word: some  thing \r\n\r\nabc"


def test_a_plain_head_is_read_whole() -> None:
    assert read_head(PLAIN) == Head(
        b"POST",
        b"/v2/models/m/infer",
        {b"host": b"a", b"content-length": b"3", b"x-word": b"some  thing"},
        len(PLAIN) - 3,
        3,
    )


def test_a_request_without_a_length_says_so() -> None:
    head = read_head(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(head, Head)
    assert head.body_bytes == -1


@pytest.mark.parametrize("cut", range(len(PLAIN) - 3))
def test_a_head_cut_anywhere_waits_for_more(cut: int) -> None:
    assert read_head(PLAIN[:cut]) == "incomplete"


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v2 HTTP/1.0\r\nHost: a\r\n\r\n",
        b"POST  /v2 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST http://a/v2 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\ntransfer-encoding : chunked\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nX: a\nContent-Length: 3\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"POST /v2 HTTP/1.1\nHost: a\n\n",
        b"\r\n\r\n",
        b"POST /" + b"a" * MAX_HEAD_BYTES,
    ],
)
def test_whatever_is_not_plain_is_left_to_the_full_implementation(head: bytes) -> None:
    assert read_head(head) == "unusual"

"""What front processes and the main process say to each other, and who is introduced."""

import msgspec
import pytest

from appliance.core.errors import BadInputError, BusyError
from appliance.core.frames import PREFIX_SIZE, AnswerForm, OutputWish, TensorHead
from appliance.core.requests import CallAnswer, CallRequest, Seconds
from appliance.gateway import front_frames
from appliance.gateway.http_relay import AnswerEnd
from appliance.gateway.introduction import UNKNOWN, read_introduction, write_introduction


def request(**changes: object) -> CallRequest:
    values: dict[str, object] = {
        "model": "a/b",
        "version": "2",
        "form": AnswerForm.V2_JSON,
        "tensors": [TensorHead("x", "FP32", [2], 0, 8, -1)],
        "parts": [b"12345678"],
        "outputs": [OutputWish("y", True, 3)],
        "binary": True,
        "content_type": "text/plain",
        "by_ordinal": True,
        "patience_turns": 7,
        "deadline_s": 1.5,
        "priority": 2,
    }
    return CallRequest(**(values | changes))  # type: ignore[arg-type]


def test_a_call_comes_over_with_every_field_it_has() -> None:
    sent = request()
    start = front_frames.call_start(9, "Bearer k", sent, 8)
    call = front_frames.decode_call(start[PREFIX_SIZE:])
    assert (call.number, call.authorization) == (9, "Bearer k")
    came = front_frames.read_call(call, lambda _: [b"12345678"])
    assert {field: getattr(came, field) for field in sent.__struct_fields__} == msgspec.structs.asdict(sent)


@pytest.mark.parametrize("changes", [{"tensors": [TensorHead("x", "FP32", [2**70], 0, 8)]}, {"model": "\ud800"}])
def test_what_a_frame_cannot_carry_is_said(changes: dict[str, object]) -> None:
    with pytest.raises(BadInputError):
        front_frames.call_start(1, None, request(**changes), 0)


def test_an_answer_and_an_error_come_over_whole() -> None:
    answer = CallAnswer("c1", "n", "a/b", "1.0.0", 1, [], b"body", 4, Seconds(1.0, 2.0, 3.0, 6.0))
    reply = front_frames.decode_reply(front_frames.encode(front_frames.write_reply(1, answer)))
    assert front_frames.read_reply(reply, b"body") == answer
    error = BusyError("later", retry_after_s=2.5)
    error.call = "c2"
    refusal = front_frames.decode_refusal(front_frames.encode(front_frames.write_refusal(1, error)))
    read = front_frames.read_refusal(refusal)
    assert (type(read), read.sentence, read.call, read.retry_after_s) == (BusyError, "later", "c2", 2.5)


@pytest.mark.parametrize(
    ("peer", "own", "line", "read"),
    [
        (("10.0.0.1", 5), ("10.0.0.2", 80), b"PROXY TCP4 10.0.0.1 10.0.0.2 5 80\r\n", ("10.0.0.1", 5)),
        (("::1", 5, 0, 0), ("::1", 80, 0, 0), b"PROXY TCP6 ::1 ::1 5 80\r\n", ("::1", 5)),
        (("fe80::1%eth0", 5, 0, 2), ("fe80::2", 80, 0, 2), b"PROXY TCP6 fe80::1 fe80::2 5 80\r\n", ("fe80::1", 5)),
        ("", "", UNKNOWN, None),
        (None, None, UNKNOWN, None),
    ],
)
def test_who_is_introduced_is_who_is_there(peer: object, own: object, line: bytes, read: object) -> None:
    assert write_introduction(peer, own) == line
    assert read_introduction(line.strip()) == read


@pytest.mark.parametrize("line", [b"", b"GET / HTTP/1.1", b"PROXY TCP4 a b 1 2", b"PROXY TCP4 1.1.1.1 1 2", b"\xff"])
def test_any_other_line_introduces_nobody(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_introduction(line)


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"], True),
        ([b"HTTP/1.1 200 OK\r\nContent-", b"Length: 3\r\n\r\na", b"bc"], True),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], True),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"], False),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd"], False),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], False),
        ([b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n"], False),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], False),
    ],
)
def test_an_answer_is_whole_where_its_length_says_so(pieces: list[bytes], whole: bool) -> None:
    end = AnswerEnd()
    for piece in pieces:
        end.passed(piece)
    assert end.whole is whole

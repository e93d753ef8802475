"""Messages of clients: cut into parts in any way, from other versions, and broken."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.client_frames import (
    MAX_CLIENT_HEAD_BYTES,
    MAX_PARTS,
    BrokenFrameError,
    Call,
    ClientKind,
    Fault,
    Head,
    Query,
    Reply,
    Result,
    Tensor,
    WantedOutput,
    message_parts,
    read_message,
)
from appliance.core.frames import PREFIX, PREFIX_SIZE

HEADS: list[Head] = [
    Call(7, "me/model", "1.2", [], [WantedOutput("y", 3)], "key", 12.5, "local", True, {"priority": 1}),
    Result(7, [], "abc", "box", "me/model", "1.2.0", 3, (0.1, 0.0, 0.2, 0.3)),
    Query(7, "index", key="key", ready_only=True),
    Reply(7, "box"),
    Fault(0, "busy", "come back later", "abc", "box", 1.5),
]


def call_with(*sizes: int) -> Call:
    return Call(1, "m", tensors=[Tensor(f"t{i}", "UINT8", [size], 0, size) for i, size in enumerate(sizes)])


def framed(kind: int, packed: bytes, *, version: int = 1, body_size: int = 0) -> bytes:
    return PREFIX.pack(version, kind, 0, len(packed), body_size) + packed


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_a_head_comes_back_as_it_was_sent(head: Head) -> None:
    assert read_message(message_parts(head))[0] == head


@pytest.mark.parametrize("sizes", [(), (0,), (3, 0, 5), (100_000, 7, 0, 40_000), (1,) * 2000, (40,) * (MAX_PARTS + 9)])
def test_tensors_come_back_as_they_were_sent(sizes: tuple[int, ...]) -> None:
    body = [bytes([i % 251]) * size for i, size in enumerate(sizes)]
    parts = message_parts(call_with(*sizes), body)
    assert len(parts) <= MAX_PARTS
    assert [bytes(part) for part in read_message(parts)[1]] == (body or [b""])[: len(sizes)] or not sizes


def test_large_tensors_are_handed_on_without_a_copy() -> None:
    large = memoryview(bytes(100_000))
    parts = message_parts(call_with(100_000, 3), [large, b"abc"])
    assert parts[1] is large
    assert read_message(parts)[1][0] is large


@given(st.lists(st.integers(0, 60), max_size=6))
def test_a_message_may_be_cut_anywhere_behind_its_head(cuts: list[int]) -> None:
    body = [b"a" * 10, b"b" * 20, b"", b"c" * 30]
    (whole,) = message_parts(call_with(10, 20, 0, 30), body)
    start = len(whole) - 60
    places = [start + cut for cut in sorted(cuts)]
    parts = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    assert [bytes(part) for part in read_message(parts)[1]] == body


def test_fields_of_a_later_version_are_passed_over_and_missing_ones_have_defaults() -> None:
    longer = [*msgspec.to_builtins(Query(5, "live")), "what", {"comes": ["next"]}]
    assert read_message([framed(ClientKind.QUERY, msgspec.msgpack.encode(longer))])[0] == Query(5, "live")
    assert read_message([framed(ClientKind.CALL, msgspec.msgpack.encode([5, "m"]))])[0] == Call(5, "m")


def test_an_unknown_layout_version_is_told_which_is_spoken() -> None:
    with pytest.raises(BrokenFrameError, match="version 9 is not spoken here: version 1 is"):
        read_message([framed(ClientKind.QUERY, b"whatever it says", version=9)])


@pytest.mark.parametrize(
    ("message", "words", "number"),
    [
        (b"", "has 0 bytes", 0),
        (b"\x01" * (PREFIX_SIZE - 1), "has 15 bytes", 0),
        (framed(1, b"\x90"), "kind 1 is unknown", 0),
        (framed(99, b"\x90"), "kind 99 is unknown", 0),
        (framed(16, b"\x92\x05\xa1m")[:-1], "must lie whole", 0),
        (PREFIX.pack(1, 16, 0, 2**32 - 1, 0) + b"\x90", "must lie whole", 0),
        (framed(16, b"\x92\x05\xa1m" + bytes(MAX_CLIENT_HEAD_BYTES)), "at most", 0),
        (framed(16, b"\x92\x05\x01"), "not that of a CALL", 5),
        (framed(16, b"\x92\x05\xc1"), "not that of a CALL", 0),
        (framed(16, b"\xdd\xff\xff\xff\xff\x05"), "not that of a CALL", 0),
        (framed(16, b"\x94\x05\xa1m\xa0\xdd\xff\xff\xff\xff"), "not that of a CALL", 0),
        (framed(16, b"\x9c\x05\xa1m\xa0\x90\xc0\xa0\x00\xa0\xc2\x80" + b"\x91" * 60_000 + b"\xc0"), "not that", 0),
        (framed(16, b"\x92\x00\xa1m"), "from 1 to", 0),
        (framed(16, b"\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa1m"), "from 1 to", 0),
        (framed(16, b"\x92\x05\xa1m", body_size=4) + b"abc", "given as 4 bytes, but 3 came", 5),
        (framed(16, b"\x92\x05\xa1m", body_size=3) + b"abc", "add up to 0 bytes, but the body has 3", 5),
        (framed(16, b"\x94\x05\xa1m\xa0\x91\x95\xa1x\xa4FP32\x90\x00\xff"), "add up to -1", 5),
    ],
)
def test_what_is_no_frame_is_refused_with_a_sentence(message: bytes, words: str, number: int) -> None:
    with pytest.raises(BrokenFrameError, match=words) as refused:
        read_message([message])
    assert refused.value.number == number


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_no_bytes_at_all_do_more_than_be_refused(parts: list[bytes]) -> None:
    with pytest.raises(BrokenFrameError):
        read_message(parts)


@given(st.sampled_from([16, 18]), st.binary(max_size=60), st.binary(max_size=8))
def test_no_head_at_all_does_more_than_be_refused(kind: int, packed: bytes, body: bytes) -> None:
    try:
        head, bodies = read_message([framed(kind, packed, body_size=len(body)), body])
    except BrokenFrameError:
        return
    assert isinstance(head, Call | Query)
    assert sum(map(len, bodies)) == len(body)

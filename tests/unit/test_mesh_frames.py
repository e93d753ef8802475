"""The mesh's frames: what is sent comes out, and hostile bytes give one error."""

import random

import msgspec
import pytest

from appliance.core.frames import PREFIX, TensorHead
from federation.frames import MAX_PARTS, PART_FROM_BYTES, BrokenMessageError, message_parts, read_message
from federation.messages import (
    Chunk,
    Head,
    Hello,
    Introduction,
    Keys,
    Load,
    MeshInvoke,
    MeshKind,
    Probe,
    Records,
    State,
    StateAsked,
)

INTRODUCTION = Introduction("0" * 32, "one", bytes(32), "k", bytes(32), ["127.0.0.1"], 1, 2)


def invoke(*sizes: int) -> MeshInvoke:
    return MeshInvoke(1, "local/m", "1.0.0", "d", 0, [TensorHead("x", "UINT8", [n], 0, n) for n in sizes])


def test_an_invoke_has_a_buffer_for_each_of_its_tensors_however_it_was_cut() -> None:
    head = invoke(2, 0, PART_FROM_BYTES)
    bodies = [b"ab", b"", bytes(PART_FROM_BYTES)]
    parts = message_parts(head, bodies)
    assert len(parts) == 3
    joined = [b"".join(parts)]
    odd = [*parts[:1], b"".join(parts[1:])[:7], b"".join(parts[1:])[7:]]
    for given in (parts, joined, odd):
        read = read_message(given)
        assert read is not None
        assert read[0] == head
        assert list(map(bytes, read[1])) == bodies


def test_a_large_part_is_handed_on_as_it_is() -> None:
    body = memoryview(bytes(PART_FROM_BYTES))
    read = read_message(message_parts(Chunk(1, len(body)), [body]))
    assert read is not None
    assert read[1][0] is body


def test_any_other_message_has_one_buffer_or_none() -> None:
    assert read_message(message_parts(Chunk(1, 4), [b"ab", b"cd"])) == (Chunk(1, 4), [b"abcd"])
    assert read_message(message_parts(StateAsked())) == (StateAsked(), [])


def test_more_buffers_than_a_message_has_parts_are_joined() -> None:
    body = [bytes(PART_FROM_BYTES)] * (MAX_PARTS + 5)
    parts = message_parts(invoke(*map(len, body)), body)
    assert len(parts) == 2
    read = read_message(parts)
    assert read is not None
    assert len(read[1]) == len(body)


def packed(kind: int, head: object, body: bytes = b"", version: int = 1) -> bytes:
    content = msgspec.msgpack.encode(head)
    return PREFIX.pack(version, kind, 0, len(content), len(body)) + content + body


def test_a_later_versions_kinds_are_passed_over_and_its_longer_heads_are_read() -> None:
    assert read_message([packed(max(MeshKind) + 1, [1, 2, 3])]) is None
    assert read_message([packed(MeshKind.PROBE, [7, "new", {"field": 1}])]) == (Probe(7), [])
    hello = [1, "9.9.9", msgspec.to_builtins(INTRODUCTION, builtin_types=(bytes,)), 5]
    longer = [*hello, 0, 0, 0, ["gpu"], "", [], False, 0.0, None, True, "new", [1]]
    read = read_message([packed(MeshKind.HELLO, longer)])
    assert read is not None
    assert isinstance(read[0], Hello)
    assert read[0].tags == ["gpu"]


def test_an_earlier_versions_shorter_heads_get_the_defaults() -> None:
    hello = [1, "0.1.0", msgspec.to_builtins(INTRODUCTION, builtin_types=(bytes,)), 5]
    read = read_message([packed(MeshKind.HELLO, hello)])
    assert read is not None
    assert read[0] == Hello(1, "0.1.0", INTRODUCTION, 5)


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"\x01"],
        [packed(MeshKind.PROBE, [1], version=2)],
        [packed(MeshKind.PROBE, ["x"])],
        [packed(MeshKind.PROBE, [])],
        [packed(MeshKind.PROBE, {"number": 1})],
        [packed(MeshKind.PROBE, [1])[:-1]],
        [packed(MeshKind.PROBE, [1]) + b"more"],
        [packed(MeshKind.PROBE, [1]), b"more"],
        [packed(MeshKind.KEYS, [[b"\xff"], ""])],
        [PREFIX.pack(1, MeshKind.PROBE, 0, 2**32 - 1, 2**64 - 1)],
        [PREFIX.pack(1, MeshKind.STATE, 0, 20000, 0) + b"\x91" * 20000],
        [packed(MeshKind.INVOKE, invoke(4), b"abc")],
        [packed(MeshKind.INVOKE, invoke(5, -1), b"abcd")],
        [packed(MeshKind.CHUNK, [1, 1]), *[b"x"] * MAX_PARTS],
    ],
)
def test_whatever_is_wrong_there_is_one_error(parts: list[bytes]) -> None:
    with pytest.raises(BrokenMessageError):
        read_message(parts)


def test_damaged_messages_are_read_or_refused_and_nothing_else() -> None:
    heads: list[Head] = [
        Hello(1, "0.1.0", INTRODUCTION, 5, peers=[INTRODUCTION]),
        Keys(["0" * 64], "k", ["1" * 64]),
        Records([1, 2], []),
        invoke(3, 4),
    ]
    dice = random.Random(5)
    for _ in range(4000):
        head = dice.choice(heads)
        whole = bytearray(message_parts(head, [b"abc", b"defg"] if isinstance(head, MeshInvoke) else ())[0])
        for _ in range(dice.randint(1, 4)):
            whole[dice.randrange(len(whole))] = dice.randrange(256)
        cut = dice.choice([len(whole), dice.randrange(len(whole))])
        try:
            read_message([bytes(whole[:cut]), *([b"x"] if dice.random() < 0.1 else [])])
        except BrokenMessageError:
            continue


def test_a_head_that_no_peer_would_take_is_not_sent() -> None:
    with pytest.raises(BrokenMessageError):
        message_parts(State(1, 1, 0, Load(), gone=["x" * 2**20] * 5))

"""What is said to a peer in one turn of the loop leaves as one message, in its order, and nothing of it is lost."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
import uvloop

from appliance.core.frames import PREFIX
from appliance.core.requests import Buffer
from federation.frames import PART_FROM_BYTES, BrokenMessageError, message_parts, pack_of, packed, read_message
from federation.messages import Cancel, Chunk, Head, Pack, Probe
from federation.packing import Packer
from tests.mesh.meshed import until


class Wire:
    """A connection that keeps what it was given. `takes`: how many messages it takes before it is full."""

    node_id = "peer"
    dialled = True

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []
        self.takes = 1000

    def has_room(self, size_bytes: int) -> bool:
        return True

    def send(self, parts: Sequence[Buffer]) -> bool:
        if self.takes <= 0:
            return False
        self.takes -= 1
        self.sent.append(list(map(bytes, parts)))
        return True

    def end(self, reason: str) -> None:
        raise AssertionError("nobody ends it")

    @property
    def heads(self) -> list[list[Head]]:
        """What each message said."""
        return [heads_of(message) for message in self.sent]


def heads_of(message: list[bytes]) -> list[Head]:
    read = read_message(message)
    assert read is not None
    head, body = read
    if not isinstance(head, Pack):
        return [head]
    inside = [read_message([frame]) for frame in packed(body)]
    return [each[0] for each in inside if each is not None]


def packing(what: Callable[[Packer, Wire], object], *, packs: bool = True) -> Wire:
    """The wire, some turns after `what` was done in one turn."""
    wire = Wire()

    async def run() -> None:
        packer = Packer(lambda: wire)
        packer.packs = packs
        what(packer, wire)
        for _ in range(3):
            await asyncio.sleep(0)

    uvloop.run(run())
    return wire


def say(packer: Packer, *heads: Head) -> list[bool]:
    return [packer.send(message_parts(head)) for head in heads]


def test_what_is_said_in_one_turn_is_one_message_in_its_order() -> None:
    heads = [Cancel(1), Probe(2), Cancel(3)]
    wire = packing(lambda packer, _: say(packer, *heads))
    assert wire.heads == [heads[:1], heads[1:]]  # the first could not know


def test_what_is_said_alone_is_sent_as_it_is() -> None:
    wire = packing(lambda packer, _: say(packer, Cancel(1)))
    assert wire.sent == [message_parts(Cancel(1))]


def test_a_peer_that_does_not_know_packs_gets_none() -> None:
    wire = packing(lambda packer, _: say(packer, Cancel(1), Cancel(2)), packs=False)
    assert wire.sent == [message_parts(Cancel(1)), message_parts(Cancel(2))]


@pytest.mark.parametrize("size", [PART_FROM_BYTES - 40, PART_FROM_BYTES, 10 * PART_FROM_BYTES])
def test_what_is_large_leaves_at_once_and_after_what_was_said_before_it(size: int) -> None:
    large = message_parts(Chunk(1, size), [bytes(size)])

    def speak(packer: Packer, wire: Wire) -> None:
        say(packer, Cancel(1), Cancel(2))
        assert packer.send(large)
        assert wire.heads == [[Cancel(1)], [Cancel(2)], [Chunk(1, size)]]
        say(packer, Cancel(3), Cancel(4))

    assert packing(speak).heads[3:] == [[Cancel(3), Cancel(4)]]


def test_a_pack_is_never_so_large_that_it_would_be_a_part_of_its_own() -> None:
    frames = [message_parts(Chunk(number, 9000), [bytes(9000)]) for number in range(100)]
    wire = packing(lambda packer, _: [packer.send(frame) for frame in frames])
    assert [head for heads in wire.heads for head in heads] == [Chunk(number, 9000) for number in range(100)]
    assert all(len(message[0]) < PART_FROM_BYTES for message in wire.sent)
    assert len(wire.sent) < 40


def test_much_of_one_turn_leaves_before_it_ends() -> None:
    wire = packing(lambda packer, _: say(packer, *map(Cancel, range(15))))
    assert [head for heads in wire.heads for head in heads] == list(map(Cancel, range(15)))
    assert list(map(len, wire.heads)) == [1, 6, 6, 2]


def test_a_pack_has_no_more_messages_than_are_read() -> None:
    wire = Wire()
    wire.takes = 0

    async def run() -> None:
        packer = Packer(lambda: wire)
        packer.packs = True
        assert all(say(packer, *map(Cancel, range(600))))
        wire.takes = 1000
        await until(lambda: wire.sent)

    uvloop.run(run())
    assert [head for heads in wire.heads for head in heads] == list(map(Cancel, range(600)))
    assert list(map(len, wire.heads)) == [256, 256, 88]


@pytest.mark.parametrize(
    ("frames", "read"),
    [
        pytest.param([message_parts(Chunk(1, 31 * 1024), [bytes(31 * 1024)])[0]], 0, id="too large"),
        pytest.param([message_parts(Cancel(1))[0]] * 300, 256, id="too many"),
    ],
)
def test_a_pack_that_would_take_long_to_read_is_one_error(frames: Sequence[Buffer], read: int) -> None:
    heard: list[memoryview] = []
    with pytest.raises(BrokenMessageError):
        heard.extend(packed([b"".join(frames)]))
    assert len(heard) == read


def test_what_a_full_connection_does_not_take_waits_in_its_order_and_is_bounded() -> None:
    wire = Wire()
    wire.takes = 0

    async def run() -> None:
        packer = Packer(lambda: wire)
        packer.packs = True
        taken = 0
        while packer.send(message_parts(Chunk(taken, 1000), [bytes(1000)])):
            taken += 1
        assert 1000 < taken < 10_000
        large = message_parts(Chunk(0, PART_FROM_BYTES), [bytes(PART_FROM_BYTES)])
        assert not packer.send(large)
        wire.takes = 10_000
        await until(lambda: sum(map(len, wire.heads)) == taken)
        assert [head for heads in wire.heads for head in heads] == [Chunk(number, 1000) for number in range(taken)]
        assert packer.send(large)

    uvloop.run(run())


def test_what_waits_ends_with_the_link() -> None:
    def speak(packer: Packer, _: Wire) -> None:
        say(packer, Cancel(1), Cancel(2))
        packer.clear()
        say(packer, Cancel(3))

    assert packing(speak).heads == [[Cancel(1)], [Cancel(3)]]


def test_nothing_is_taken_where_there_is_no_link() -> None:
    async def run() -> None:
        assert say(Packer(lambda: None), Cancel(1)) == [False]

    uvloop.run(run())


@pytest.mark.parametrize("cut", [1, 15, 16, 17])
def test_a_pack_that_was_cut_is_one_error(cut: int) -> None:
    body = b"".join(bytes(message_parts(Cancel(number))[0]) for number in range(2))
    with pytest.raises(BrokenMessageError):
        list(packed([body[:-cut]]))


def test_a_pack_whose_messages_say_that_they_are_endless_is_one_error() -> None:
    with pytest.raises(BrokenMessageError):
        list(packed([PREFIX.pack(1, 48, 0, 2**32 - 1, 2**64 - 1) + b"\x91\x01"]))
    assert list(packed([])) == []
    assert read_message([pack_of([])]) == (Pack(), [])

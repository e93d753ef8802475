"""What is sealed is opened by the other end of the same stream, in its order, and by nobody else."""

import itertools

import pytest

from federation.sealing import (
    OPENING_BYTES,
    SECRET_BYTES,
    TAG_BYTES,
    TICKET_ID_BYTES,
    BrokenStreamError,
    Cipher,
    Keys,
    Opening,
    keys_of,
    new_opening,
    read_opening,
)

SECRET = bytes(range(SECRET_BYTES))


def opening(*, salt: int = 1, cipher: Cipher = Cipher.AES_256_GCM) -> Opening:
    return Opening(b"t" * TICKET_ID_BYTES, bytes([salt]) * 32, cipher)


def keys(*, secret: bytes = SECRET, salt: int = 1, cipher: Cipher = Cipher.AES_256_GCM, ids: str = "ab") -> Keys:
    return keys_of(secret, opening(salt=salt, cipher=cipher), dialling_id=ids[0], accepting_id=ids[1])


@pytest.mark.parametrize("cipher", list(Cipher))
def test_both_ends_make_the_same_keys_one_for_each_direction(cipher: Cipher) -> None:
    here, there = keys(cipher=cipher), keys(cipher=cipher)
    for number in range(3):
        said = b"said %d" % number
        assert there.dialled.open(here.dialled.seal(said)) == said
        place = bytearray(len(said))
        here.accepted.open_into(there.accepted.seal(said), place)
        assert place == said


def test_no_two_records_are_alike_though_they_say_the_same() -> None:
    streams = [keys(), keys(salt=2), keys(secret=bytes(SECRET_BYTES)), keys(ids="ba"), keys(cipher=Cipher(2))]
    records = [
        way.seal(b"the same") for _ in range(2) for stream in streams for way in (stream.dialled, stream.accepted)
    ]
    assert len(set(records)) == len(records) == 20
    assert {len(record) for record in records} == {len(b"the same") + TAG_BYTES}


OTHERS = {
    "another attempt with the ticket": keys(salt=2),
    "another ticket": keys(secret=bytes(SECRET_BYTES)),
    "the other direction": Keys(keys().accepted, keys().dialled),
    "the two nodes with their parts changed": keys(ids="ba"),
    "another node": keys(ids="ac"),
    "another cipher": keys(cipher=Cipher.CHACHA20_POLY1305),
}


@pytest.mark.parametrize("whose", OTHERS)
def test_what_was_sealed_for_another_stream_is_not_opened(whose: str) -> None:
    with pytest.raises(BrokenStreamError):
        keys().dialled.open(OTHERS[whose].dialled.seal(b"x"))


@pytest.mark.parametrize("order", [order for order in itertools.product(range(3), repeat=2) if order != (0, 1)])
def test_a_record_that_is_left_out_repeated_or_out_of_order_is_not_opened(order: tuple[int, int]) -> None:
    sender, receiver = keys().dialled, keys().dialled
    records = [sender.seal(b"%d" % number) for number in range(3)]
    first, second = order
    if first == 0:
        receiver.open(records[0])
    with pytest.raises(BrokenStreamError):
        receiver.open(records[second if first == 0 else first])


@pytest.mark.parametrize("changed", ["first", "last", "shorter", "longer", "empty"])
def test_a_changed_record_is_not_opened(changed: str) -> None:
    record = bytearray(keys().dialled.seal(b"what was said"))
    if changed in ("first", "last"):
        record[0 if changed == "first" else -1] ^= 1
    record = {"shorter": record[:-1], "longer": record + b"\0", "empty": record[:0]}.get(changed, record)
    with pytest.raises(BrokenStreamError):
        keys().dialled.open(record)
    with pytest.raises(BrokenStreamError):
        keys().dialled.open_into(record, bytearray(max(0, len(record) - TAG_BYTES)))


def test_an_opening_is_read_as_it_was_made_and_never_made_twice_alike() -> None:
    made = [new_opening(b"t" * TICKET_ID_BYTES, both_have_aes=aes) for aes in (True, False, True)]
    assert [one.cipher for one in made] == [Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305, Cipher.AES_256_GCM]
    assert len({one.salt for one in made}) == 3
    for one in made:
        assert len(one.encoded()) == OPENING_BYTES
        assert read_opening(one.encoded()) == one


def test_an_opening_with_a_cipher_of_later_versions_is_refused() -> None:
    with pytest.raises(BrokenStreamError, match="cipher 9 is not known here"):
        read_opening(opening().encoded()[:-1] + b"\x09")

"""A stream's bytes come in whatever pieces, and are the same records."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.record_buffer import SIZE, RecordBuffer
from federation.sealing import BrokenStreamError

LARGE_BYTES = 100_000
MAX_BYTES = 300_000


def fill(buffer: RecordBuffer, data: bytes) -> int:
    """Puts as much as there is room for; how much that is."""
    room = buffer.room()
    size = min(len(room), len(data))
    room[:size] = data[:size]
    buffer.came(size)
    return size


def taken(buffer: RecordBuffer) -> list[bytes]:
    records = []
    while (record := buffer.record(MAX_BYTES)) is not None:
        records.append(bytes(record))
    return records


@given(
    st.lists(st.integers(0, 40) | st.integers(16_000, 17_000) | st.integers(99_000, 250_000), max_size=5),
    st.sets(st.integers(0, 1_250_000), max_size=20),
)
def test_records_are_the_same_however_their_bytes_come(sizes: list[int], cuts: set[int]) -> None:
    records = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    data = b"".join(SIZE.pack(len(record)) + record for record in records)
    buffer, got = RecordBuffer(LARGE_BYTES), []
    for start, end in pairwise([0, *sorted(cuts), len(data)]):
        piece = data[start:end]
        while piece:
            came = fill(buffer, piece)
            assert came > 0  # or a connection would be taken to have ended
            piece = piece[came:]
            got += taken(buffer)
    assert got == records


def test_pieces_of_known_sizes_come_before_records() -> None:
    buffer = RecordBuffer(LARGE_BYTES)
    fill(buffer, b"banner" + SIZE.pack(3) + b"abc" + SIZE.pack(2) + b"x")
    assert buffer.piece(20) is None
    piece = buffer.piece(6)
    assert piece is not None
    assert bytes(piece) == b"banner"
    assert taken(buffer) == [b"abc"]
    fill(buffer, b"y")
    assert taken(buffer) == [b"xy"]


def test_a_record_that_is_too_large_is_refused_by_its_size_alone() -> None:
    buffer = RecordBuffer(LARGE_BYTES)
    fill(buffer, SIZE.pack(MAX_BYTES + 1))
    with pytest.raises(BrokenStreamError, match="300001 bytes: at most 300000 were expected"):
        buffer.record(MAX_BYTES)
    assert not buffer.is_large  # nothing was kept for it


def test_a_large_buffer_is_let_go_once_nothing_waits_in_it() -> None:
    buffer = RecordBuffer(LARGE_BYTES)
    fill(buffer, SIZE.pack(50_000) + b"x")
    assert taken(buffer) == []
    assert buffer.is_large
    assert not buffer.rest()
    while (got := taken(buffer)) == []:
        fill(buffer, b"x" * 49_999)
    assert got == [b"x" * 50_000]
    assert buffer.rest()
    assert not buffer.is_large
    fill(buffer, SIZE.pack(1) + b"z")
    assert taken(buffer) == [b"z"]

"""Where tensors go in shared memory: spans never overlap, and all of it comes back."""

import itertools
import os
import random

import pytest

from appliance.workers.region import SharedRegion, Spans


def test_spans_are_taken_first_fit_and_aligned() -> None:
    spans = Spans(256)
    assert [spans.take(1), spans.take(64), spans.take(65)] == [0, 64, 128]
    assert spans.take(1) is None


def test_neighbours_are_merged_when_given_back() -> None:
    spans = Spans(192)
    starts = [spans.take(64) for _ in range(3)]
    for start in (starts[0], starts[2], starts[1]):
        assert start is not None
        spans.give_back(start, 64)
    assert spans.free_spans() == [(0, 192)]


@pytest.mark.parametrize("seed", range(20))
def test_spans_never_overlap_and_none_is_lost(seed: int) -> None:
    choose, spans, taken = random.Random(seed), Spans(64 * 100), dict[int, int]()
    for _ in range(500):
        if taken and choose.random() < 0.5:
            start = choose.choice(list(taken))
            spans.give_back(start, taken.pop(start))
        else:
            size = choose.randint(1, 1000)
            start_or_none = spans.take(size)
            if start_or_none is not None:
                taken[start_or_none] = size
        ends = sorted((start, start + size) for start, size in taken.items())
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends))
    for start, size in taken.items():
        spans.give_back(start, size)
    assert spans.free_spans() == [(0, 6400)]


def test_a_full_region_says_so_and_takes_again_once_room_is_made() -> None:
    region = SharedRegion(4096)
    start = region.put(b"x" * 4096)
    assert start == 0
    assert region.put(b"y") is None
    region.give_back(start, 4096)
    assert region.put(b"y") == 0
    region.close()


def test_pages_go_back_to_the_system_once_nothing_is_taken() -> None:
    region = SharedRegion(1024 * 1024)
    try:
        start, other = region.put(b"x" * 300_000), region.put(b"y" * 100)
        assert start is not None
        assert other is not None
        region.give_back(start, 300_000)
        region.release_pages()
        assert os.fstat(region.fd).st_blocks > 0  # somebody's tensor is still there
        region.give_back(other, 100)
        region.release_pages()
        assert os.fstat(region.fd).st_blocks == 0
        again = region.put(b"z" * 10)
        assert again is not None
        with region.view(again, 10) as view:
            assert bytes(view) == b"z" * 10
    finally:
        region.close()

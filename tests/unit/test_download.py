"""What is asked of whom, on wires with a clock of their own: speed, fairness to small calls, losses, and lies."""

import itertools
import random

from federation.download import Download, ListCame, PieceCame
from federation.messages import Fetch
from federation.window import MIN_BLOCK_BYTES, MIN_BLOCK_OF_BUSY_BYTES, Window, least_block_bytes
from tests.unit.wires_in_memory import MBIT, Switch, artifact

SIZE_BYTES = 25_000_000
WIRE_S = 2.0  # of one copy, at 100 Mbit/s


def _ran(switch: Switch) -> Switch:
    switch.run()
    assert set(switch.done_s) >= set(switch.downloads) - switch.dead
    return switch


def _centile_ms(waits_s: list[float], centile: float) -> float:
    return sorted(waits_s)[int(len(waits_s) * centile / 100)] * 1000


def test_four_nodes_have_it_little_later_than_one_would() -> None:
    switch = _ran(Switch(artifact(SIZE_BYTES), "a", "bcde"))
    assert max(switch.done_s.values()) < 1.5 * WIRE_S
    assert switch.up["a"].sent_bytes < 1.5 * SIZE_BYTES


def test_small_messages_wait_little_behind_a_transfer() -> None:
    switch = _ran(Switch(artifact(SIZE_BYTES), "a", "bcde"))
    assert _centile_ms(switch.up["a"].waits_s, 50) < 12
    assert _centile_ms(switch.up["a"].waits_s, 99) < 30
    assert all(_centile_ms(switch.down[name].waits_s, 99) < 30 for name in "bcde")


def test_a_fast_wire_is_used_whole() -> None:
    switch = _ran(Switch(artifact(SIZE_BYTES), "a", "b", mbit=1000))
    assert switch.done_s["b"] < 1.2 * WIRE_S / 10


def test_one_slow_peer_does_not_hold_the_rest_up() -> None:
    switch = Switch(artifact(SIZE_BYTES), "abc", "d")
    switch.up["b"].bytes_per_s = 0.1 * MBIT
    assert _ran(switch).done_s["d"] < 1.2 * WIRE_S


def test_a_slow_peer_alone_is_waited_for() -> None:
    switch = Switch(artifact(300_000), "a", "b")
    switch.up["a"].bytes_per_s = 0.1 * MBIT
    assert _ran(switch).done_s["b"] < 60


def test_a_source_that_dies_is_replaced_by_the_others() -> None:
    switch = Switch(artifact(SIZE_BYTES), "ab", "cd")
    switch.at(0.5, lambda: switch.kill("b"))
    assert max(_ran(switch).done_s.values()) < 1.8 * WIRE_S


def test_the_only_source_may_die_once_the_fetchers_have_all_pieces_together() -> None:
    switch = Switch(artifact(SIZE_BYTES), "a", "bc")

    def dies_when_all_is_given() -> None:
        switch.now_s += 0.01
        given = set.union(*(download.done for download in switch.downloads.values()))
        if len(given) * 2**18 >= SIZE_BYTES:
            assert len(switch.done_s) < 2
            switch.kill("a")
        else:
            switch.at(switch.now_s + 0.01, dies_when_all_is_given)

    switch.at(0.1, dies_when_all_is_given)
    _ran(switch)
    assert "a" in switch.dead


def test_a_peer_whose_pieces_do_not_fit_is_asked_no_more() -> None:
    switch = Switch(artifact(SIZE_BYTES), "ab", "cd")
    for name in "cd":
        switch.downloads[name].ban("b", "so that the list comes from the other")
        del switch.downloads[name].banned["b"]
    switch.liars = {"b"}
    _ran(switch)
    assert all(set(download.banned) == {"b"} for download in switch.downloads.values())


def _downloading(holders: str, size_bytes: int = 600_000) -> Download:
    download = Download("d", random.Random(3), itertools.count(1))
    for name in holders:
        download.holds(name)
    return download


def _list_from(download: Download, now_s: float = 0.0) -> str:
    """Has the download's list come from whomever it asks; who that is."""
    (ask,) = download.poll(now_s)
    came = download.chunk(now_s, ask.node_id, ask.fetch.number, b"{}")
    assert isinstance(came, ListCame)
    download.adopt(now_s, artifact(600_000), ask.node_id, set())
    return ask.node_id


def _give_all(download: Download, now_s: float, fits: set[str]) -> None:
    """Answers all that is asked; only pieces of these fit."""
    while not download.complete and (asks := download.poll(now_s)):
        for node_id, fetch in asks:
            if fetch.file:
                came = download.chunk(now_s, node_id, fetch.number, bytes(fetch.size_bytes))
                if isinstance(came, PieceCame):
                    download.checked(now_s, came, fits=node_id in fits)
        if download.list is None:
            return


def test_a_false_list_costs_its_giver_and_nobody_else() -> None:
    download = _downloading("abc")
    liar = _list_from(download)
    _give_all(download, 1.0, fits={liar})
    assert download.complete
    download.distrusted("the whole is not what it should be")
    assert set(download.banned) == {liar}
    for name in {"a", "b", "c"} - {liar}:
        download.holds(name)
    assert _list_from(download, 2.0) != liar
    _give_all(download, 3.0, fits={"a", "b", "c"} - {liar})
    assert download.complete
    assert set(download.banned) == {liar}


def test_whose_own_pieces_do_not_fit_its_list_is_not_believed() -> None:
    download = _downloading("ab")
    liar = _list_from(download)
    _give_all(download, 1.0, fits={"a", "b"} - {liar})
    assert download.complete or liar in download.banned


def test_a_list_that_nobody_fits_is_doubted_in_time() -> None:
    download = _downloading("ab")
    liar = _list_from(download)
    honest = ({"a", "b"} - {liar}).pop()
    for node_id, fetch in download.poll(1.0):
        came = download.chunk(1.0, node_id, fetch.number, bytes(fetch.size_bytes)) if node_id == honest else None
        if isinstance(came, PieceCame):
            download.checked(1.0, came, fits=False)
    while honest not in download.banned:
        for node_id, fetch in download.poll(1.0):
            came = download.chunk(1.0, node_id, fetch.number, bytes(fetch.size_bytes)) if node_id == honest else None
            if isinstance(came, PieceCame):
                download.checked(1.0, came, fits=False)
    download.poll(20.0)
    assert download.list is None
    assert set(download.banned) == {liar}


def test_what_was_not_asked_for_changes_nothing() -> None:
    download = _downloading("ab")
    _list_from(download)
    asks = [ask for ask in download.poll(1.0) if ask.fetch.file]
    stranger = "b" if asks[0].node_id == "a" else "a"
    assert download.chunk(1.0, "z", asks[0].fetch.number, b"x") is None
    assert download.chunk(1.0, stranger, asks[0].fetch.number + 1000, b"x") is None
    assert not download.done
    assert not download.banned


def test_more_or_less_than_was_asked_for_is_a_lie() -> None:
    download = _downloading("a")
    _list_from(download)
    ask = next(ask for ask in download.poll(1.0) if ask.fetch.file)
    download.chunk(1.0, "a", ask.fetch.number, b"x")
    assert "a" in download.banned


def test_a_part_is_given_where_all_its_pieces_are_there() -> None:
    download = _downloading("a")
    download.adopt(0.0, artifact(600_000), "", {0, 2})
    cases = {
        (0, 10): True,
        (0, 2**18): True,
        (2**18 - 1, 2): False,
        (2**18, 10): False,
        (2 * 2**18, 1000): True,
        (599_999, 1): True,
        (599_999, 2): False,
        (-1, 2): False,
        (0, 0): False,
    }
    assert {case: download.can_give("model.onnx", *case) for case in cases} == cases
    assert not download.can_give("other", 0, 1)


def test_a_peer_that_says_no_is_left_alone_for_a_while() -> None:
    download = _downloading("a")
    _list_from(download)
    (first, *_) = download.poll(1.0)
    download.refused(1.0, "a", first.fetch.number, "unavailable")
    assert download.poll(2.0) == []
    assert all(isinstance(ask.fetch, Fetch) for ask in download.poll(3.5))
    assert download.poll(3.5) == []


def test_a_window_shrinks_where_what_is_asked_takes_longer() -> None:
    window = Window()
    for step in range(50):
        window.arrived(step / 100, 0.001, window.block_bytes(), window.size_bytes)
    grown = window.size_bytes
    assert grown > 16 * MIN_BLOCK_BYTES
    for step in range(3000):
        window.arrived(0.5 + step / 1000, 0.05, window.block_bytes(), window.size_bytes)
    assert window.size_bytes == MIN_BLOCK_BYTES


def test_blocks_are_larger_where_processors_are_short() -> None:
    window = Window()
    window.stalled()
    assert window.block_bytes(least_block_bytes(0.5)) == MIN_BLOCK_BYTES
    assert window.block_bytes(least_block_bytes(0.9)) == MIN_BLOCK_OF_BUSY_BYTES


def test_a_download_asks_for_blocks_as_large_as_it_is_told_to() -> None:
    for least_bytes, asked_bytes in ((MIN_BLOCK_BYTES, 2 * MIN_BLOCK_BYTES), (MIN_BLOCK_OF_BUSY_BYTES,) * 2):
        download = _downloading("a")
        _list_from(download)
        download.least_block_bytes = least_bytes
        assert max(ask.fetch.size_bytes for ask in download.poll(1.0)) == asked_bytes

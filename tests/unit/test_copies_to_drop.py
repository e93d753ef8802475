"""Which copies give way where a disk is short of room: as tables."""

import pytest

from appliance.core.copy_wish import CopyWish
from appliance.routing.copies_due import Place
from appliance.routing.copies_to_drop import CALLED_LATELY_S, MadeCopy, copies_to_drop, who_must_keep
from federation.peer import PeerStanding

NOW_S = 1_000_000.0
HOUR_S = 3600.0


def copy(
    key: str,
    frees_bytes: int = 10,
    called_ago_s: float = HOUR_S,
    *,
    busy: bool = False,
    others: tuple[str, ...] = ("other",),
    needed: int = 1,
) -> MadeCopy:
    return MadeCopy(key, frees_bytes, NOW_S - called_ago_s, busy, others, needed)


@pytest.mark.parametrize(
    ("copies", "lacking_bytes", "expected"),
    [
        pytest.param([copy("a")], 0, "", id="there is room"),
        pytest.param([copy("a")], -5, "", id="there is more"),
        pytest.param([copy("a")], 1, "a", id="there is not"),
        pytest.param(
            [copy("a", called_ago_s=HOUR_S), copy("b", called_ago_s=2 * HOUR_S)], 10, "b", id="the longest uncalled"
        ),
        pytest.param([copy("b"), copy("a")], 10, "a", id="alike: by name"),
        pytest.param([copy("a"), copy("b"), copy("c")], 15, "ab", id="as few as are needed"),
        pytest.param(
            [copy("a", called_ago_s=3 * HOUR_S), copy("b", called_ago_s=2 * HOUR_S), copy("c", 50)],
            45,
            "c",
            id="none without which the others are enough",
        ),
        pytest.param([copy("a"), copy("b", called_ago_s=0)], 100, "a", id="too little together: all that may"),
        pytest.param([copy("a", busy=True), copy("b")], 10, "b", id="warm, or being copied"),
        pytest.param([copy("a", called_ago_s=CALLED_LATELY_S), copy("b")], 20, "b", id="called lately"),
        pytest.param([copy("a", called_ago_s=-HOUR_S)], 10, "", id="the clock was set back"),
        pytest.param([copy("a", others=())], 10, "", id="the last one that lives"),
        pytest.param([copy("a", others=("x", "y"), needed=3)], 10, "", id="one that is counted on"),
        pytest.param([copy("a", others=("x", "y"), needed=2)], 10, "a", id="one more than is counted on"),
        pytest.param([copy("a", 0), copy("b")], 10, "b", id="one that another version shares frees nothing"),
    ],
)
def test_so_many_copies_give_way(copies: list[MadeCopy], lacking_bytes: int, expected: str) -> None:
    assert "".join(found.key for found in copies_to_drop(copies, lacking_bytes, NOW_S)) == expected


def _places(standings: dict[str, PeerStanding]) -> list[Place]:
    return [Place(name, name, ("gpu",) if name in "ab" else (), standing) for name, standing in standings.items()]


@pytest.mark.parametrize(
    ("wish", "holders", "dead", "others", "needed"),
    [
        pytest.param(CopyWish(), "abc", "", "bc", 1, id="no wish: one must stay"),
        pytest.param(CopyWish(), "ab", "b", "", 1, id="one that is not alive does not count"),
        pytest.param(CopyWish(), "a", "", "", 1, id="nobody else has it"),
        pytest.param(CopyWish(2), "abcd", "", "bcd", 2, id="two are wished: two others must stay"),
        pytest.param(CopyWish(3), "ab", "", "b", 3, id="too few already"),
        pytest.param(CopyWish(0, ("d",)), "ad", "", "d", 1, id="wished elsewhere: this one counts for nothing"),
        pytest.param(CopyWish(0, ("tag:gpu",)), "abc", "", "b", 2, id="wished on this node: it can never go"),
        pytest.param(CopyWish(1, ("tag:gpu",)), "abc", "", "b", 1, id="one of those that are meant must stay"),
        pytest.param(CopyWish(1, ("tag:gpu",)), "ac", "", "", 1, id="others do not stand in for it"),
    ],
)
def test_so_many_others_must_keep_theirs(wish: CopyWish, holders: str, dead: str, others: str, needed: int) -> None:
    places = _places({name: "dead" if name in dead else "alive" for name in "abcd"})
    assert who_must_keep("m", wish, places, holders, "a") == (tuple(others), needed)

"""Which copies a node owes to a wish, by the mesh as it sees it. Pure; replicas_wanted.py chooses among nodes."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from appliance.core.copy_wish import CopyWish
from appliance.routing.replicas_wanted import GRACE_S, copies_wanted
from federation.peer import PeerStanding


class Place(NamedTuple):
    """A node that might have a copy."""

    node_id: str
    name: str
    tags: tuple[str, ...]
    standing: PeerStanding


class Due(NamedTuple):
    """How a version fares against its wish. `wanted`: so many copies are wished; `counted`: the nodes whose copies
    count; `to_fetch`: those that owe one."""

    wanted: int
    counted: frozenset[str]
    to_fetch: tuple[str, ...]


def is_meant(place: Place, on: Collection[str]) -> bool:
    """Whether the places that a wish names, if it names any, mean this node."""
    if not on:
        return True
    return place.node_id in on or place.name in on or any(f"tag:{tag}" in on for tag in place.tags)


def copies_due(
    key: str, wish: CopyWish, places: Iterable[Place], holders: Collection[str], refusing: Collection[str]
) -> Due:
    """`key` names the version; `holders` have it, or had it when they died a moment ago; `refusing` cannot have it."""
    meant = {place.node_id: place for place in places if is_meant(place, wish.on)}
    living = {node_id for node_id, place in meant.items() if place.standing == "alive"}
    wanted = wish.replicas or (len(meant.keys() - set(refusing)) if wish.on else 0)
    counted = frozenset(meant.keys() & set(holders))
    if len(counted) >= wanted:
        return Due(wanted, counted, ())
    chosen = copies_wanted(key, wanted, holders=counted, able=living - set(refusing))
    return Due(wanted, counted, chosen.to_fetch)


class Settling:
    """Whether peers had the time to be met and to tell what they hold: not at the start, nor when a node that was alone
    has just joined others, or come back to them. Who knew one peer's holdings and not the next's would make copies that
    nobody wants."""

    def __init__(self, settle_s: float, now_s: float) -> None:
        self._settle_s = settle_s
        self._alone_s = now_s

    def is_settled(self, *, alone: bool, now_s: float) -> bool:
        """To be asked at each look; `alone`: no peer is in reach."""
        if alone:
            self._alone_s = now_s
        return now_s - self._alone_s > self._settle_s


class Memory:
    """Who held what a moment ago: a node that starts again is back with its copies before others need be made, and
    tells of them a moment after it is back."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, float]] = {}  # key to node to when it was seen to hold it

    def holders(self, key: str, holders: Collection[str], now_s: float) -> set[str]:
        """Those that hold it now, or did GRACE_S ago or less."""
        seen = self._seen.setdefault(key, {})
        for node_id in holders:
            seen[node_id] = now_s
        for node_id in [node_id for node_id, at_s in seen.items() if now_s - at_s > GRACE_S]:
            del seen[node_id]
        return set(seen)

    def keep_only(self, keys: Collection[str]) -> None:
        """Forgets all others."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in keys}

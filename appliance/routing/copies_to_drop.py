"""Which copies that the mesh made by itself give way on a node whose disk is short of room. Pure.

Whoever drops one asks others first whether they keep theirs (gateway/disk_room.py): what is said here is where to
begin. Times are Unix times: the order of last calls outlives the node.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from appliance.core.copy_wish import CopyWish
from appliance.routing.copies_due import Place, copies_due

# So long a model that was called is expected to be called again (call_history.UNKNOWN_IDLE_S); and at most so often a
# copy comes and goes, where models take turns on a full disk.
CALLED_LATELY_S = 600.0


class MadeCopy(NamedTuple):
    """A copy here that the mesh made. `key` names the version. `frees_bytes`: what the disk gets back, 0 where another
    version has the same artifact. `called_s`: when it was last called here; before that, when it came. `busy`: it is
    warm, waited for, or being copied. `others`: nodes that are alive and whose copies count; `needed`: so many of
    them must stay."""

    key: str
    frees_bytes: int
    called_s: float
    busy: bool
    others: tuple[str, ...]
    needed: int


def copies_to_drop(copies: Iterable[MadeCopy], lacking_bytes: int, now_s: float) -> list[MadeCopy]:
    """Those that go so that `lacking_bytes` more are free: the least recently called first, and none without which the
    others are enough. All that may go where those are not enough."""
    found: list[MadeCopy] = []
    freed_bytes = 0
    idle = [copy for copy in copies if _may_go(copy, now_s)]
    for copy in sorted(idle, key=lambda copy: (copy.called_s, copy.key)):
        if freed_bytes >= lacking_bytes:
            break
        found.append(copy)
        freed_bytes += copy.frees_bytes
    for copy in reversed(found):
        if freed_bytes - copy.frees_bytes >= lacking_bytes:
            found.remove(copy)
            freed_bytes -= copy.frees_bytes
    return found


def _may_go(copy: MadeCopy, now_s: float) -> bool:
    is_idle = not copy.busy and now_s - copy.called_s > CALLED_LATELY_S
    return is_idle and copy.frees_bytes > 0 and len(copy.others) >= copy.needed


def who_must_keep(
    key: str, wish: CopyWish, places: Iterable[Place], holders: Collection[str], own_id: str
) -> tuple[tuple[str, ...], int]:
    """The other nodes whose copies stand in for this node's, and how many of them must stay for it to go: as many as
    are wished where its own counts for the wish, and one in any case. Only those that are alive are counted on."""
    places = list(places)
    living = {place.node_id for place in places if place.standing == "alive"} & set(holders) - {own_id}
    due = copies_due(key, wish, places, {own_id, *living}, ())
    if due.wanted and own_id in due.counted:
        return tuple(sorted(living & due.counted)), due.wanted
    return tuple(sorted(living)), 1

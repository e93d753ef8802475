"""When a new mesh key takes the old one's place, and who is told of the ring again: pure decisions, from what this
node's ring and its peers' say.

A rotation is a key that is newer than the current one. All members are given it first; once every living one has it, it
becomes current; once every living one shows credentials of it, the others are retired. Each step may be done twice or
by two nodes: the ring's later stamp decides, and both come to the same. So the living member with the lowest id acts,
whoever began, and another goes on where that one dies.

A retired key is good for thirty days more (keyring.py), but only to let in nodes that were members: those that were
away while it was changed. Who has only the key, and was never met, does not come in with it; who was revoked does not
come in at all, so that a revocation makes the new key current and retires the old one at once.
"""

import math
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

# A member that lives and does not take the new key is a fault of its own: it is let in later as one that was away.
PATIENCE_S = 60.0
# How long a member whose ring is not this node's has to say that it is, the first time and at most.
TELL_AGAIN_S = (1.0, 60.0)


class KeyHolder(NamedTuple):
    """What a living member has said over its link: the ids of the keys that it holds (none yet: empty), and of the one
    it shows. mDNS says late what it shows, and anew what it showed: that counts for nothing here."""

    node_id: str
    holds: frozenset[str]
    shows: str


class RingTold(NamedTuple):
    """How far a living member is with this node's ring. `ring`: the hash of the one that it told last (none yet:
    empty). `told_s`: when it was told last; `times`: how often it was told anew since one of the two had news."""

    node_id: str
    ring: bytes
    told_s: float
    times: int


class TellAgain(NamedTuple):
    """These are told now what this node holds, and asked what they do. `next_s`: when to decide anew."""

    node_ids: tuple[str, ...]
    next_s: float


class Step(NamedTuple):
    """`promote`: make `key_ids` (one) current. `retire`: these let no stranger in any more. `wait`: for the members in
    `waits_for`. `done`: there is one key. `leave`: to another node, which acts."""

    act: Literal["promote", "retire", "wait", "done", "leave"]
    key_ids: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()


def next_step(
    own_id: str, key_ids: Sequence[str], current: str, living: Collection[KeyHolder], waited_s: float
) -> Step:
    """What this node does now for a rotation. `key_ids`: of the ring, the newest first, without the retired.

    `waited_s`: since the ring changed last.
    """
    newest = key_ids[0]
    if current == newest and len(key_ids) == 1:
        return Step("done")
    if any(member.node_id < own_id for member in living):
        return Step("leave")
    if current != newest:
        late = tuple(member.node_id for member in living if newest not in member.holds)
        return Step("wait", (newest,), late) if late and waited_s < PATIENCE_S else Step("promote", (newest,))
    late = tuple(member.node_id for member in living if member.shows != current)
    others = tuple(key_id for key_id in key_ids if key_id != current)
    return Step("wait", (current,), late) if late and waited_s < PATIENCE_S else Step("retire", others)


def tell_again(own_ring: bytes, living: Collection[RingTold], now_s: float) -> TellAgain:
    """Who has not said that its ring is this node's, though it had the time for it: what either told may have ended
    with a link. Asks ever more seldom, for a member may be unable to take what it is told."""
    due: list[str] = []
    next_s = math.inf
    for member in living:
        if member.ring == own_ring:
            continue
        at_s = member.told_s + _pause_s(member.times)
        if at_s <= now_s:
            due.append(member.node_id)
            at_s = now_s + _pause_s(member.times + 1)
        next_s = min(next_s, at_s)
    return TellAgain(tuple(due), next_s)


def _pause_s(times: int) -> float:
    first_s, last_s = TELL_AGAIN_S
    return min(last_s, first_s * 2.0 ** min(times, 16))


def join_refusal(members: Sequence[str], *, leave: bool) -> str:
    """Why this node may not change its mesh just so, as a sentence; empty where it may. `members`: the names of the
    others in the mesh that it is in."""
    if not members or leave:
        return ""
    shown = ", ".join(sorted(members)[:3]) + (" and others" if len(members) > 3 else "")
    return (
        f"this node is in a mesh with {shown}, and would leave it: say --leave if that is meant "
        "(its own models come along, what is only on the others does not)"
    )

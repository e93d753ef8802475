"""When a new mesh key takes the old one's place: pure decisions, from what this node's ring and its peers' say.

A rotation is a key that is newer than the current one. All members are given it first; once every living one has it, it
becomes current; once every living one shows credentials of it, the others are retired. Each step may be done twice or
by two nodes: the ring's later stamp decides, and both come to the same. So the living member with the lowest id acts,
whoever began, and another goes on where that one dies.

A retired key is good for thirty days more (keyring.py), but only to let in nodes that were members: those that were
away while it was changed. Who has only the key, and was never met, does not come in with it; who was revoked does not
come in at all, so that a revocation makes the new key current and retires the old one at once.
"""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

# A member that lives and does not take the new key is a fault of its own: it is let in later as one that was away.
PATIENCE_S = 60.0


class KeyHolder(NamedTuple):
    """What a living member has said: the ids of the keys that it holds (none yet: empty), and of the one it shows."""

    node_id: str
    holds: frozenset[str]
    shows: str


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

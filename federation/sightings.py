"""What mDNS has shown so far: who is handed on to the mesh, and which other meshes are in sight. Pure; bounded.

Knows nothing of records or sockets. Who is ours is decided by whoever feeds it; what is not ours has room of its own,
so that thousands of forged names push out none of this mesh's.
"""

from typing import NamedTuple

import msgspec

from federation.messages import Introduction

MAX_OURS = 512
MAX_OTHERS = 128
# An announcement comes three times within half a second, and once for each interface.
REPEAT_S = 0.25
# As long as a TXT record lives, unless it is told anew or taken back.
FORGET_OTHERS_S = 4500.0


class OtherMesh(msgspec.Struct, frozen=True):
    """A mesh whose key this node does not have: its key's id, and the nodes of it that are in sight, by name."""

    key_id: str
    nodes: list[Introduction]


class _Seen(NamedTuple):
    introduction: Introduction
    heard_s: float
    handed_on_s: float


class Sightings:
    """Nodes that were advertised, by node id; times are those of one monotonic clock."""

    def __init__(self) -> None:
        self._ours: dict[str, _Seen] = {}
        self._others: dict[str, _Seen] = {}

    def heard(self, introduction: Introduction, *, ours: bool, now_s: float) -> bool:
        """Whether it is to be handed on: it is ours, and was not a moment ago as it is now."""
        node_id = introduction.node_id
        if not ours:
            self._ours.pop(node_id, None)
            self._others.pop(node_id, None)
            if len(self._others) >= MAX_OTHERS:
                self._others.pop(min(self._others, key=lambda other: self._others[other].heard_s))
            self._others[node_id] = _Seen(introduction, now_s, 0.0)
            return False
        self._others.pop(node_id, None)
        seen = self._ours.get(node_id)
        if seen is None and len(self._ours) >= MAX_OURS:
            return False
        news = seen is None or seen.introduction != introduction or now_s - seen.handed_on_s >= REPEAT_S
        self._ours[node_id] = _Seen(introduction, now_s, now_s if news or seen is None else seen.handed_on_s)
        return news

    @property
    def count_of_ours(self) -> int:
        return len(self._ours)

    def gone(self, node_id: str) -> None:
        """It took its advertisement back, or the time of that is over. Says nothing of whether it lives."""
        self._ours.pop(node_id, None)
        self._others.pop(node_id, None)

    def other_meshes(self, now_s: float) -> list[OtherMesh]:
        """By key id; each mesh's nodes by name."""
        nodes_by_key: dict[str, list[Introduction]] = {}
        for seen in self._others.values():
            if now_s - seen.heard_s < FORGET_OTHERS_S:
                nodes_by_key.setdefault(seen.introduction.key_id, []).append(seen.introduction)
        return [
            OtherMesh(key_id, sorted(nodes, key=lambda node: (node.name, node.node_id)))
            for key_id, nodes in sorted(nodes_by_key.items())
        ]

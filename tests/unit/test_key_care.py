"""Rings of living nodes become alike, and a new key takes the old one's place on all of them: nodes in memory."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from federation.credentials import introduce, why_distrusted
from federation.identity import new_identity
from federation.key_care import KeyCare
from federation.keyring import Keyring, mesh_key
from federation.messages import Introduction, Keys

FIRST = mesh_key(b"1" * 32)


class Nodes:
    """Nodes with one key, all linked with each other; what they tell is delivered by settle()."""

    def __init__(self, folder: Path, count: int) -> None:
        self.now_s = 0.0
        self.rings: dict[str, Keyring] = {}
        self.cares: dict[str, KeyCare] = {}
        self.up: set[str] = set()
        self.deaf: set[str] = set()
        self._told: deque[tuple[str, str, Keys]] = deque()
        self._identities = {identity.node_id: identity for identity in (new_identity() for _ in range(count))}
        for node_id in sorted(self._identities):
            (folder / node_id).mkdir()
            self.rings[node_id] = Keyring(folder / node_id, given=FIRST.secret.hex())
            self.cares[node_id] = KeyCare(
                node_id,
                self.rings[node_id],
                living=lambda node_id=node_id: [self.shown(other) for other in self.up - {node_id}],  # type: ignore[misc]
                tell=lambda to, keys, node_id=node_id: self._tell(node_id, to, keys),  # type: ignore[misc]
                clock=lambda: self.now_s,
            )

    @property
    def ids(self) -> list[str]:
        return list(self.rings)

    def shown(self, node_id: str) -> Introduction:
        return introduce(
            self._identities[node_id],
            self.rings[node_id],
            name="n",
            addresses=["127.0.0.1"],
            mesh_port=8004,
            bulk_port=8005,
        )

    def _tell(self, sender: str, to: Sequence[str], keys: Keys) -> None:
        self._told.extend((sender, node_id, keys) for node_id in to)

    async def link(self, *node_ids: str) -> None:
        for node_id in node_ids:
            self.up.add(node_id)
            for other in self.up - {node_id}:
                self.cares[other].linked(self.shown(node_id))
                self.cares[node_id].linked(self.shown(other))
        await self.settle()

    async def settle(self) -> None:
        """Until nobody has anything to say; each HELLO that would be said again is looked at."""
        for _ in range(20):
            await asyncio.sleep(0)
            while self._told:
                sender, node_id, keys = self._told.popleft()
                if {sender, node_id} <= self.up and node_id not in self.deaf:
                    self.cares[node_id].told(sender, keys)
            for node_id in sorted(self.up):
                self.cares[node_id].look()

    def close(self) -> None:
        for care in self.cares.values():
            care.close()

    def keys(self, node_id: str) -> tuple[str, list[str]]:
        ring = self.rings[node_id]
        return ring.current.id, [key.id for key in ring.keys]


def run(folder: Path, count: int, test: Callable[[Nodes], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        nodes = Nodes(folder, count)
        try:
            await test(nodes)
        finally:
            nodes.close()

    asyncio.run(whole())


@pytest.mark.parametrize("who", range(3))
def test_a_rotation_reaches_all_and_ends_with_one_key_whoever_began_it(tmp_path: Path, who: int) -> None:
    async def test(nodes: Nodes) -> None:
        await nodes.link(*nodes.ids)
        made = nodes.rings[nodes.ids[who]].prepare()
        await nodes.settle()
        assert [nodes.keys(node_id) for node_id in nodes.ids] == [(made.id, [made.id])] * 3
        assert {care.step.act for care in nodes.cares.values()} <= {"done"}

    run(tmp_path, 3, test)


def test_two_rotations_at_once_end_with_one_key(tmp_path: Path) -> None:
    async def test(nodes: Nodes) -> None:
        await nodes.link(*nodes.ids)
        made = {nodes.rings[node_id].prepare().id for node_id in nodes.ids}
        await nodes.settle()
        ends = {(current, tuple(keys)) for current, keys in map(nodes.keys, nodes.ids)}
        assert len(ends) == 1
        ((current, keys),) = ends
        assert keys == (current,)
        assert current in made

    run(tmp_path, 3, test)


def test_a_key_is_not_shown_before_every_living_node_has_it(tmp_path: Path) -> None:
    async def test(nodes: Nodes) -> None:
        await nodes.link(*nodes.ids)
        first, _, last = nodes.ids
        nodes.deaf.add(last)
        made = nodes.rings[first].prepare()
        await nodes.settle()
        assert nodes.keys(first) == (FIRST.id, [made.id, FIRST.id])
        assert nodes.cares[first].step.waits_for == (last,)
        # The one that does not take it dies: nobody waits for the dead.
        nodes.up.discard(last)
        await nodes.settle()
        assert nodes.keys(first) == (made.id, [made.id])

    run(tmp_path, 3, test)


def test_who_was_away_is_let_in_with_the_old_key_and_takes_the_new_one(tmp_path: Path) -> None:
    async def test(nodes: Nodes) -> None:
        first, second, away = nodes.ids
        await nodes.link(first, second)
        made = nodes.rings[second].prepare()
        await nodes.settle()
        assert nodes.keys(first) == (made.id, [made.id])
        assert why_distrusted(nodes.shown(away), nodes.rings[first], lambda _: True) == ""
        assert why_distrusted(nodes.shown(away), nodes.rings[first]) != ""
        await nodes.link(away)
        assert nodes.keys(away) == (made.id, [made.id])

    run(tmp_path, 3, test)


def test_a_revoked_node_is_not_told_the_new_key_and_everyone_learns_that_it_is_out(tmp_path: Path) -> None:
    async def test(nodes: Nodes) -> None:
        await nodes.link(*nodes.ids)
        first, second, thief = nodes.ids
        public_key = nodes.shown(thief).public_key
        nodes.rings[second].revoke([public_key])
        made = nodes.rings[second].rotate_at_once()
        await nodes.settle()
        assert nodes.keys(first) == nodes.keys(second) == (made.id, [made.id])
        assert nodes.keys(thief) == (FIRST.id, [FIRST.id])
        for node_id in (first, second):
            assert "revoked" in why_distrusted(nodes.shown(thief), nodes.rings[node_id], lambda _: True)

    run(tmp_path, 3, test)


def test_a_rotation_beside_a_revocation_leaves_no_key_that_the_revoked_node_knows(tmp_path: Path) -> None:
    async def test(nodes: Nodes) -> None:
        await nodes.link(*nodes.ids)
        first, second, thief = nodes.ids
        nodes.rings[second].revoke([nodes.shown(thief).public_key])
        nodes.rings[second].rotate_at_once()
        # Told to the thief too, since this node knows of nothing yet; and later, so that its ring would stand.
        known_to_him = nodes.rings[first].prepare()
        nodes.rings[first]._stamp()
        await nodes.settle()
        assert nodes.keys(first) == nodes.keys(second)
        current, keys = nodes.keys(first)
        assert keys == [current]
        assert current not in (FIRST.id, known_to_him.id)

    run(tmp_path, 3, test)

"""Rings of living nodes become alike, and a new key takes the old one's place on all of them: nodes in memory."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

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
        self.is_lost: Callable[[int], bool] = lambda number: False
        self.delivered = 0
        self.late: dict[str, Introduction] = {}  # what others think that a node shows
        self._told: deque[tuple[str, str, Keys]] = deque()
        self._identities = {identity.node_id: identity for identity in (new_identity() for _ in range(count))}
        for node_id in sorted(self._identities):
            (folder / node_id).mkdir()
            self.rings[node_id] = Keyring(folder / node_id, given=FIRST.secret.hex())
            self.cares[node_id] = KeyCare(
                node_id,
                self.rings[node_id],
                living=lambda node_id=node_id: [  # type: ignore[misc]
                    self.late.get(other) or self.shown(other) for other in self.up - {node_id}
                ],
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
                self.delivered += 1
                if self.is_lost(self.delivered) or node_id in self.deaf:
                    continue
                if {sender, node_id} <= self.up:
                    self.cares[node_id].told(sender, keys)
            for node_id in sorted(self.up):
                self.cares[node_id].look()

    async def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        await self.settle()

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


def test_whichever_message_of_a_rotation_is_lost_it_ends_a_moment_later(tmp_path: Path) -> None:
    def rotation(folder: Path, lost: int) -> int:
        """How many messages there were, of which that one did not arrive."""
        folder.mkdir()
        told = 0

        async def test(nodes: Nodes) -> None:
            nonlocal told
            await nodes.link(*nodes.ids)
            begun = nodes.delivered
            nodes.is_lost = lambda number: number == begun + lost
            made = nodes.rings[nodes.ids[1]].prepare()
            await nodes.settle()
            told = nodes.delivered - begun
            # For each of the three steps at most.
            for _ in range(3):
                await nodes.pass_time(1.0)
            assert [nodes.keys(node_id) for node_id in nodes.ids] == [(made.id, [made.id])] * 3, lost
            assert {care.step.act for care in nodes.cares.values()} == {"done"}

        run(folder, 3, test)
        return told

    whole = rotation(tmp_path / "whole", 0)
    assert whole > 12
    for lost in range(1, whole + 1):
        rotation(tmp_path / str(lost), lost)


def test_a_revocation_that_was_lost_on_its_way_is_told_again(tmp_path: Path) -> None:
    async def test(nodes: Nodes) -> None:
        await nodes.link(*nodes.ids)
        first, second, thief = nodes.ids
        nodes.is_lost = lambda number: True
        nodes.rings[second].revoke([nodes.shown(thief).public_key])
        made = nodes.rings[second].rotate_at_once()
        await nodes.settle()
        nodes.is_lost = lambda number: False
        assert nodes.keys(first) == (FIRST.id, [FIRST.id])
        await nodes.pass_time(1.0)
        assert nodes.keys(first) == (made.id, [made.id])
        assert nodes.rings[first].is_revoked(nodes.shown(thief).public_key)

    run(tmp_path, 3, test)


def test_what_is_known_of_a_node_by_mdns_keeps_no_rotation_waiting(tmp_path: Path) -> None:
    """An advertisement of before may be heard after what the node itself has said."""

    async def test(nodes: Nodes) -> None:
        await nodes.link(*nodes.ids)
        nodes.late = {node_id: nodes.shown(node_id) for node_id in nodes.ids}
        made = nodes.rings[nodes.ids[2]].prepare()
        await nodes.settle()
        assert [nodes.keys(node_id) for node_id in nodes.ids] == [(made.id, [made.id])] * 3

    run(tmp_path, 3, test)


def test_what_was_said_on_two_links_and_is_read_in_another_order_is_asked_for_again(tmp_path: Path) -> None:
    async def test(nodes: Nodes) -> None:
        await nodes.link(*nodes.ids)
        first, second, third = nodes.ids
        before = nodes.rings[third].message()
        made = nodes.rings[second].prepare()
        for node_id in (first, third):
            nodes.rings[node_id].merge(nodes.rings[second].message())
        nodes.cares[first].told(third, nodes.rings[third].message())
        nodes.cares[first].told(third, before)
        nodes.deaf.add(first)
        await nodes.settle()
        nodes.deaf.clear()
        assert nodes.keys(first) == (FIRST.id, [made.id, FIRST.id])
        for _ in range(3):
            await nodes.pass_time(1.0)
        assert [nodes.keys(node_id) for node_id in nodes.ids] == [(made.id, [made.id])] * 3

    run(tmp_path, 3, test)


def test_nothing_is_told_while_all_rings_are_alike_and_less_and_less_to_who_does_not_answer(tmp_path: Path) -> None:
    async def test(nodes: Nodes) -> None:
        await nodes.link(*nodes.ids)
        begun = nodes.delivered
        for _ in range(5):
            await nodes.pass_time(60.0)
        assert nodes.delivered == begun
        nodes.deaf.add(nodes.ids[2])
        nodes.rings[nodes.ids[0]].prepare()
        for _ in range(60):
            await nodes.pass_time(10.0)
        # Two nodes tell the third: when there is news, some times in the minute after that, then once a minute.
        assert nodes.delivered - begun < 80

    run(tmp_path, 3, test)


def test_a_node_that_asks_without_end_is_answered_now_and_then(tmp_path: Path) -> None:
    async def test(nodes: Nodes) -> None:
        await nodes.link(*nodes.ids)
        first, second = nodes.ids
        begun = nodes.delivered
        for _ in range(50):
            nodes.cares[first].told(second, replace(nodes.rings[second].message(), asks=True))
        await nodes.settle()
        assert nodes.delivered == begun + 1

    run(tmp_path, 2, test)


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

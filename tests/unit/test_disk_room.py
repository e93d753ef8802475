"""Copies that give way on a node without room, across a mesh in memory whose disks are as large as a test says."""

import asyncio
import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.core.copy_wish import CopyWish
from appliance.core.errors import ConflictError, NotFoundError, UnavailableError
from appliance.gateway import copies, disk_room
from appliance.routing import copies_to_drop
from appliance.routing.own_state import key_of
from federation.messages import Order
from tests.unit.copying_in_memory import NAME, Lan, Node
from tests.unit.test_copies_in_memory import lan_of, run, until

SIZE_BYTES = 100_000
CONTENT = random.Random(7).randbytes(SIZE_BYTES - 2)  # the upload has a head of two bytes


class Disks:
    """How large each node's disk is; what lies there is counted."""

    def __init__(self) -> None:
        self.size_bytes: dict[str, int] = {}

    def free_bytes(self, folder: Path) -> int:
        used = sum(path.stat().st_size for path in (folder / "artifacts").rglob("*") if path.is_file())
        return self.size_bytes.get(folder.name, 10**9) - used


@pytest.fixture(autouse=True)
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    made = Disks()
    monkeypatch.setattr(copies, "SETTLE_S", -1.0)
    monkeypatch.setattr(copies, "LOOK_S", 0.02)
    monkeypatch.setattr(copies, "RETRY_S", 0.1)
    monkeypatch.setattr(disk_room, "LEFT_BYTES", 0)
    monkeypatch.setattr(disk_room, "free_bytes", made.free_bytes)
    return made


def content(number: int) -> bytes:
    return CONTENT[number:] + CONTENT[:number]


async def copied_to(lan: Lan, giver: str, taker: str, version: str = "1.0.0", *, called_ago_s: float = 3600.0) -> None:
    """The node gets a copy that nobody wished for, and nobody has called it for so long."""
    known = lan[taker].catalogue
    await until(lambda: known.has_model(NAME) and any(str(v.version) == version for v in known.entry(NAME).versions))
    await lan[giver].order(lan[taker].mesh.node_id, Order(1, "fetch", str(NAME), version), 1.0)
    await until(lambda: lan[taker].holds(version) and not lan[taker].copies._tasks)
    called_long_ago(lan[taker], called_ago_s)
    for node in lan.nodes.values():
        model = node.catalogue.resolve(str(NAME), version)
        others = [other for other in lan.nodes.values() if other is not node and other.holds(version)]
        await until(
            lambda catalogue=node.catalogue, model=model, others=others: len(catalogue.holders(model)) == len(others)
        )  # type: ignore[misc]


def called_long_ago(node: Node, ago_s: float = 3600.0) -> None:
    for model in node.catalogue.copied():
        if time.time() - Path(model.folder).stat().st_mtime < 60:
            os.utime(model.folder, (time.time() - ago_s, time.time() - ago_s))


def test_the_least_recently_called_go_and_what_was_deployed_here_stays(tmp_path: Path, disks: Disks) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            for number in range(3):
                lan["a"].deploy(content(number), f"1.{number}.0")
            for number, ago_s in ((0, 4000.0), (1, 9000.0), (2, 2000.0)):
                await copied_to(lan, "a", "b", f"1.{number}.0", called_ago_s=ago_s)
            lan["b"].deploy(content(3), "2.0.0")
            lan["b"].stop()
            lan["b"].start()  # that the mesh made them is known afterwards
            await until(lambda: len(lan["b"].catalogue.holders(lan["b"].catalogue.resolve(str(NAME), "1.0.0"))) == 1)
            disks.size_bytes["b"] = 5 * SIZE_BYTES
            await lan["b"].copies.disk_room.make(3 * SIZE_BYTES, "for a deploy")
            assert [lan["b"].holds(v) for v in ("1.0.0", "1.1.0", "1.2.0", "2.0.0")] == [False, False, True, True]
            assert [str(model.version) for model in lan["b"].forgotten] == ["1.1.0", "1.0.0"]
            assert disks.free_bytes(lan["b"].folder) == 3 * SIZE_BYTES
            assert all(lan["a"].holds(version) for version in ("1.0.0", "1.1.0", "1.2.0"))
            gone = lan["b"].catalogue.resolve(str(NAME), "1.1.0")
            assert (gone.folder, lan["b"].catalogue.holders(gone)) == ("", (lan["a"].mesh.node_id,))

    run(scenario)


def test_none_goes_in_vain(tmp_path: Path, disks: Disks) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            lan["a"].deploy(CONTENT)
            await copied_to(lan, "a", "b")
            disks.size_bytes["b"] = 2 * SIZE_BYTES
            await lan["b"].copies.disk_room.make(10 * SIZE_BYTES, "for a deploy")
            await lan["b"].copies.disk_room.make(SIZE_BYTES, "for a deploy")
            assert lan["b"].holds()
            disks.size_bytes["b"] = -SIZE_BYTES  # what is to be kept free is had as far as it goes
            await lan["b"].copies.disk_room.look()
            assert not lan["b"].holds()

    run(scenario)


def _is_warm(lan: Lan) -> None:
    lan["b"].used = (True, math.inf)


def _was_called(lan: Lan) -> None:
    lan["b"].used = (False, 30.0)


def _is_wished(lan: Lan) -> None:
    lan["a"].copies.set_wish(NAME, CopyWish(2))


def _is_wished_there(lan: Lan) -> None:
    lan["a"].copies.set_wish(NAME, CopyWish(0, ("b",)))


def _is_last(lan: Lan) -> None:
    lan.leave("a")


def _was_deployed_here_too(lan: Lan) -> None:
    lan["b"].deploy(CONTENT)


def _does_not_answer(lan: Lan) -> None:
    async def order(node_id: str, order: Order, _timeout_s: float) -> None:
        raise UnavailableError("there is no link to that node now")

    lan["b"].copies.disk_room._order = order


def _is_called_meanwhile(lan: Lan) -> None:
    order = lan["b"].order

    async def slow(node_id: str, ask: Order, timeout_s: float) -> None:
        await order(node_id, ask, timeout_s)
        _was_called(lan)

    lan["b"].copies.disk_room._order = slow


def _is_damaged_elsewhere(lan: Lan) -> None:
    model = lan["a"].catalogue.resolve(str(NAME))
    (Path(model.folder) / "model.onnx").unlink()


def _backup_is_made(lan: Lan) -> None:
    lan["b"].catalogue._artifacts.keep_all()


@pytest.mark.parametrize(
    "reason",
    [
        _is_warm,
        _was_called,
        _is_wished,
        _is_wished_there,
        _is_last,
        _was_deployed_here_too,
        _does_not_answer,
        _is_called_meanwhile,
        _is_damaged_elsewhere,
        _backup_is_made,
    ],
)
def test_a_copy_stays_that(reason: Callable[[Lan], None], tmp_path: Path, disks: Disks) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            lan["a"].deploy(CONTENT)
            await copied_to(lan, "a", "b")
            reason(lan)
            disks.size_bytes["b"] = SIZE_BYTES
            await lan["b"].copies.disk_room.make(SIZE_BYTES, "for a deploy")
            assert lan["b"].holds()

    run(scenario)


def test_a_copy_that_is_wished_no_more_may_go(tmp_path: Path, disks: Disks) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            lan["a"].deploy(CONTENT)
            lan["a"].copies.set_wish(NAME, CopyWish(2))
            await until(lambda: lan["b"].holds() and not lan["b"].copies._tasks)
            lan["a"].copies.set_wish(NAME, CopyWish(1))
            called_long_ago(lan["b"])
            model = lan["b"].catalogue.resolve(str(NAME))
            await until(lambda: bool(lan["b"].catalogue.holders(model)))
            disks.size_bytes["b"] = SIZE_BYTES
            await lan["b"].copies.disk_room.make(SIZE_BYTES, "for a deploy")
            assert not lan["b"].holds()

    run(scenario)


def test_a_copy_that_nobody_wished_for_is_not_made_where_room_is_short(tmp_path: Path, disks: Disks) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            model = lan["a"].deploy(CONTENT)
            await until(lambda: lan["b"].catalogue.has_model(NAME))
            lan["b"].copies.disk_room._keep_free_bytes = SIZE_BYTES
            disks.size_bytes["b"] = 2 * SIZE_BYTES - 1
            with pytest.raises(UnavailableError, match="would leave this node's disk less than"):
                await lan["b"].copies.fetch(model)
            with pytest.raises(UnavailableError, match="would leave this node's disk less than"):
                await lan["a"].order(lan["b"].mesh.node_id, Order(1, "fetch", str(NAME), "1.0.0"), 1.0)
            lan["a"].copies.set_wish(NAME, CopyWish(2))  # what a person wishes for is
            await until(lan["b"].holds)

    run(scenario)


async def _look_at_once(lan: Lan, disks: Disks, dice: random.Random) -> None:
    """All nodes find their disks full and drop what they may; none hears of what another has dropped before all are
    done, and some answers are late or lost."""

    async def slowly(node: Node, node_id: str, ask: Order, timeout_s: float) -> None:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        if dice.random() < 0.1:
            raise UnavailableError("there is no link to that node now")
        await node.order(node_id, ask, timeout_s)
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)

    spread = lan.spread
    lan.spread = lambda: None  # type: ignore[method-assign]
    for name, node in lan.nodes.items():
        disks.size_bytes[name] = 0
        node.copies.disk_room._order = lambda *asked, node=node: slowly(node, *asked)  # type: ignore[misc]
    order = dice.sample(sorted(lan.nodes), len(lan.nodes))
    await asyncio.gather(*(lan[name].copies.disk_room.look() for name in order))
    disks.size_bytes.clear()
    lan.spread = spread  # type: ignore[method-assign]
    for node in lan.nodes.values():
        node.mesh_catalogue._tell_holdings()
    spread()


@pytest.mark.parametrize("wished", [0, 2])
def test_nodes_that_all_drop_theirs_at_once_leave_as_many_as_are_needed(
    wished: int, tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_to_drop, "CALLED_LATELY_S", -math.inf)
    monkeypatch.setattr(disk_room, "CALLED_LATELY_S", -math.inf)
    dice = random.Random(wished)
    needed = max(1, wished)

    async def scenario() -> None:
        async with lan_of(tmp_path, "abcd") as lan:
            holders = ["a"]
            lan["a"].deploy(CONTENT)
            if wished:
                lan["a"].copies.set_wish(NAME, CopyWish(wished))
            emptied = rounds = 0
            # Which copies the dice let go depends on the order of threads: how many rounds it takes is not told before.
            while rounds < 8 or not emptied:
                rounds += 1
                assert rounds < 100
                for taker in sorted(lan.nodes.keys() - set(holders)):
                    await copied_to(lan, holders[0], taker)
                if lan["a"].holds() and len(lan["a"].catalogue.copied()) == 0:
                    lan["a"].catalogue.delete(NAME)  # its own alone: all that are left now are the mesh's
                await _look_at_once(lan, disks, dice)
                holders = [name for name, node in lan.nodes.items() if node.holds()]
                assert len(holders) >= needed
                emptied += len(holders) == needed

    run(scenario)


def test_of_two_that_ask_each_other_one_gives_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "abc") as lan:
            model = lan["b"].deploy(CONTENT)
            keep = Order(1, "keep", str(NAME), "1.0.0", model.digest)
            room = lan["b"].copies.disk_room
            room._going[key_of(model)] = False
            with pytest.raises(ConflictError, match="about to drop its own"):
                await lan["c"].order(lan["b"].mesh.node_id, keep, 1.0)
            await lan["a"].order(lan["b"].mesh.node_id, keep, 1.0)
            assert room._going == {}
            room._going[key_of(model)] = True  # it has been said that others keep theirs: it goes
            with pytest.raises(ConflictError, match="about to drop its own"):
                await lan["a"].order(lan["b"].mesh.node_id, keep, 1.0)
            with pytest.raises(NotFoundError):
                await lan["b"].order(lan["c"].mesh.node_id, keep, 1.0)

    run(scenario)


def test_a_clock_that_was_wrong_protects_nothing_for_years(tmp_path: Path) -> None:
    now_s = time.time()
    os.utime(tmp_path, (now_s + 1e9, now_s + 1e9))
    assert disk_room._remembered_s(tmp_path, -math.inf, now_s) == now_s
    assert disk_room._remembered_s(tmp_path, -math.inf, now_s + 1000) == pytest.approx(now_s, abs=1)
    assert disk_room._remembered_s(tmp_path, now_s + 500, now_s + 1000) == now_s + 500
    assert tmp_path.stat().st_mtime == pytest.approx(now_s + 500, abs=1)

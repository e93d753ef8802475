"""Copies across a mesh in memory: wishes that are kept, refusals, deletions, restarts."""

import asyncio
import io
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.core.copy_wish import CopyWish
from appliance.core.errors import ConflictError, NotFoundError, RefusedError
from appliance.core.names import ModelName
from appliance.gateway import copies
from appliance.gateway.backups import Backups
from appliance.routing import copies_due
from appliance.security.keys import KeyRing
from federation.messages import Chunk, Order
from tests.unit.copying_in_memory import NAME, Lan

CONTENT = random.Random(5).randbytes(700_000)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a mesh that stands already, nor long for one who may be back."""
    monkeypatch.setattr(copies, "SETTLE_S", -1.0)
    monkeypatch.setattr(copies, "LOOK_S", 0.02)
    monkeypatch.setattr(copies, "RETRY_S", 0.1)
    monkeypatch.setattr(copies_due, "GRACE_S", 0.2)


@asynccontextmanager
async def lan_of(folder: Path, names: str, tagged: str = "") -> AsyncIterator[Lan]:
    lan = Lan(folder, names)
    for name, node in lan.nodes.items():
        node.mesh.tags = ("gpu",) if name in tagged else ()
        node.start()
    try:
        async with asyncio.timeout(20):
            yield lan
    finally:
        for node in lan.nodes.values():
            node.stop()
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_as_many_copies_are_made_as_are_wished(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "abcd") as lan:
            model = lan["a"].deploy(CONTENT)
            lan["a"].copies.set_wish(NAME, CopyWish(3))
            await until(lambda: sum(node.holds() for node in lan.nodes.values()) == 3)
            copy = next(node for name, node in lan.nodes.items() if name != "a" and node.holds())
            here = copy.catalogue.own_entry(NAME)
            assert here is not None
            assert [(v.version, v.ordinal, v.digest, v.created_s) for v in here.versions] == [
                (model.version, model.ordinal, model.digest, model.created_s)
            ]
            assert copy.looks.count == 1
            await until(lambda: not copy.copies.states(lambda _: True)[0].making)
            assert list((copy.folder / "fetches").iterdir()) == []
            await until(lambda: not lan["a"].copies.states(lambda _: True)[0].lacking)
            assert len(lan["a"].copies.states(lambda _: True)[0].nodes) == 3

    run(scenario)


def test_copies_are_where_they_are_wished(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "abcd", tagged="d") as lan:
            lan["a"].deploy(CONTENT)
            lan["a"].copies.set_wish(NAME, CopyWish(0, ("tag:gpu", "b")))
            await until(lambda: lan["b"].holds() and lan["d"].holds())
            assert lan["a"].holds()
            assert not lan["c"].holds()

    run(scenario)


def test_a_copy_that_is_lost_is_made_elsewhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "abcd") as lan:
            lan["a"].deploy(CONTENT)
            lan["a"].copies.set_wish(NAME, CopyWish(2))
            await until(lambda: sum(node.holds() for node in lan.nodes.values()) == 2)
            lan.leave("a")
            await until(lambda: sum(node.holds() for name, node in lan.nodes.items() if name != "a") == 2)

    run(scenario)


def test_a_node_that_refuses_a_model_is_passed_over_and_remembers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "abc") as lan:
            for name in "bc":
                lan[name].looks.refusal = "it gives other answers here"
            lan["a"].deploy(CONTENT)
            lan["a"].copies.set_wish(NAME, CopyWish(2))
            await until(lambda: bool(lan["b"].looks.count and lan["c"].looks.count))
            await until(lambda: not lan["b"].copies._tasks and not lan["c"].copies._tasks)
            lan["b"].stop()
            lan["b"].start()
            order = Order(1, "fetch", str(NAME), "1.0.0")
            await until(lambda: bool(lan["b"].copies._folders.refused))
            with pytest.raises(RefusedError, match="other answers"):
                await lan["a"].order(lan["b"].mesh.node_id, order, 1.0)
            assert (lan["b"].looks.count, lan["c"].looks.count) == (1, 1)

    run(scenario)


def test_a_copy_that_was_ordered_is_made_and_warmed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            lan["a"].deploy(CONTENT)
            await until(lambda: lan["b"].catalogue.has_model(NAME))
            order = Order(1, "fetch", str(NAME), "1.0.0", why="warm")
            await lan["a"].order(lan["b"].mesh.node_id, order, 1.0)
            await until(lambda: bool(lan["b"].warmed))
            assert lan["b"].holds()
            with pytest.raises(NotFoundError):
                await lan["a"].order(lan["b"].mesh.node_id, Order(2, "fetch", str(NAME), "9.0.0"), 1.0)

    run(scenario)


def test_what_is_deleted_anywhere_is_gone_everywhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "abcd") as lan:
            lan["a"].deploy(CONTENT)
            lan["a"].copies.set_wish(NAME, CopyWish(3))
            await until(lambda: sum(node.holds() for node in lan.nodes.values()) == 3)
            lacking = next(name for name, node in lan.nodes.items() if not node.holds())
            away = next(name for name, node in lan.nodes.items() if name != "a" and node.holds())
            known = lan[lacking].catalogue
            await until(lambda: len(known.holders(known.resolve(str(NAME)))) == 3)  # it told of its copy, too
            lan.leave(away)
            await until(lambda: len(known.holders(known.resolve(str(NAME)))) == 2)
            deleted = await lan[lacking].copies.delete(NAME, None)
            assert [str(model.version) for model in deleted.versions] == ["1.0.0"]
            assert deleted.later == {"1.0.0": (away,)}
            assert [name for name, node in lan.nodes.items() if node.holds()] == [away]
            lan.unix_s += 60
            lan.come_back(away)
            await until(lambda: bool(lan[away].forgotten))
            assert not lan[away].holds()
            assert all(node.copies.wish(NAME) == CopyWish() for node in lan.nodes.values())

    run(scenario)


def versions_at(lan: Lan, name: str) -> int:
    """How many of the model a node knows, wherever they lie."""
    known = lan[name].catalogue
    return len(known.entry(NAME).versions) if known.has_model(NAME) else 0


@pytest.mark.parametrize(("version", "is_left"), [(None, False), ("1.1.0", False), ("1.0.0", True)])
def test_what_lies_on_a_node_out_of_reach_alone_is_deleted_once_that_is_back(
    tmp_path: Path, version: str | None, is_left: bool
) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "abc") as lan:
            lan["a"].deploy(CONTENT)
            lan["c"].deploy(b"other bytes", "1.1.0")
            await until(lambda: versions_at(lan, "b") == 2)
            lan.leave("c")
            await until(lambda: versions_at(lan, "b") == 1)
            lan.unix_s += 60
            deleted = await lan["b"].copies.delete(NAME, version)
            assert deleted.later == ({} if is_left else {"1.1.0": ("c",)})
            assert [str(model.version) for model in deleted.versions] == ([] if version == "1.1.0" else ["1.0.0"])
            if not is_left:
                with pytest.raises(NotFoundError):  # it was said already
                    await lan["b"].copies.delete(NAME, "1.1.0")
            lan.come_back("c")
            await until(lambda: lan["c"].holds("1.1.0") == is_left)
            assert lan["a"].holds() == (version == "1.1.0")

    run(scenario)


def test_what_is_deleted_while_its_node_is_just_coming_back_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "bc") as lan:
            lan["c"].deploy(CONTENT)
            await until(lambda: versions_at(lan, "b") == 1)
            b = lan["b"]
            for key, record in lan["c"].mesh.held.items():  # its link is there again, what it has is not told yet
                b.mesh.view.lose(lan["c"].mesh.node_id, key, record)
            b.mesh.on_catalogue_change([str(NAME)])
            await until(lambda: not b.catalogue.holders(b.catalogue.resolve(str(NAME))))
            lan.unix_s += 60
            deleted = await b.copies.delete(NAME, None)
            assert [str(model.version) for model in deleted.versions] == ["1.0.0"]
            await until(lambda: not lan["c"].holds())

    run(scenario)


def test_a_node_out_of_reach_that_holds_other_content_by_a_versions_name_keeps_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "abc") as lan:
            lan.leave("c")
            lan["a"].deploy(CONTENT)
            lan["c"].deploy(b"other bytes")
            await until(lambda: versions_at(lan, "b") == 1 and bool(lan["c"].mesh.held))
            deleted = await lan["b"].copies.delete(NAME, "1.0.0")
            assert deleted.later == {}
            lan.come_back("c")
            await until(lambda: versions_at(lan, "b") == 1)
            assert lan["c"].holds()

    run(scenario)


def test_what_a_full_disk_does_not_let_go_of_is_deleted_once_it_can_be(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            lan["a"].deploy(CONTENT)
            await until(lambda: lan["b"].catalogue.has_model(NAME))
            disk = lan["a"].catalogue._store._database
            disk.rows("PRAGMA query_only = ON")
            await lan["b"].copies.delete(NAME, None)
            await until(lambda: bool(lan["a"].copies._undeleted))
            assert lan["a"].holds()
            disk.rows("PRAGMA query_only = OFF")
            await until(lambda: not lan["a"].holds())
            await until(lambda: not lan["a"].copies._undeleted)

    run(scenario)


def test_what_is_deployed_anew_after_it_was_deleted_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            lan.unix_s = time.time() + 3600  # the deployer's clock is behind
            digest = lan["a"].deploy(CONTENT).digest
            await until(lambda: lan["b"].catalogue.has_model(NAME))
            await lan["b"].copies.delete(NAME, "1.0.0")
            assert not lan["a"].holds()
            lan["a"].copies.deletions.lift([(NAME, digest)])
            lan["a"].deploy(CONTENT)
            lan["a"].copies.set_wish(NAME, CopyWish(2))
            await until(lan["b"].holds)
            assert lan["a"].holds()

    run(scenario)


def test_what_a_backup_brings_back_after_it_was_deleted_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            a, loop = lan["a"], asyncio.get_running_loop()
            a.deploy(CONTENT)
            keys = KeyRing(a.folder)
            backups = Backups(a.catalogue, keys)
            with backups.taken("a") as backup:
                whole = io.BytesIO(b"".join(backup.pieces))
            await until(lambda: lan["b"].catalogue.has_model(NAME))
            await lan["b"].copies.delete(NAME, None)
            assert not a.holds()

            def lift(brought: Sequence[tuple[ModelName, str]]) -> None:
                loop.call_soon_threadsafe(a.copies.deletions.lift, brought)

            await asyncio.to_thread(backups.restore, whole, on_checked=lift)
            await until(lambda: lan["b"].catalogue.has_model(NAME))
            assert a.holds()
            assert not [r for r in lan["b"].mesh.registers if r.kind == "removed" and r.value]
            keys.close()

    run(scenario)


def test_a_copy_that_is_needed_is_removed_by_no_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "abc") as lan:
            lan["a"].deploy(CONTENT)
            await until(lambda: lan["b"].catalogue.has_model(NAME))
            remove = Order(1, "remove", str(NAME), "1.0.0")
            with pytest.raises(ConflictError, match="needed"):
                await lan["b"].order(lan["a"].mesh.node_id, remove, 1.0)
            await lan["a"].order(lan["b"].mesh.node_id, Order(2, "fetch", str(NAME), "1.0.0"), 1.0)
            model = lan["a"].catalogue.resolve(str(NAME))
            await until(lambda: bool(lan["a"].catalogue.holders(model)))
            await lan["b"].order(lan["a"].mesh.node_id, remove, 1.0)
            assert not lan["a"].holds()
            assert lan["b"].holds()

    run(scenario)


def test_a_node_that_was_killed_goes_on_with_its_fetch(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            lan["a"].deploy(CONTENT)
            await until(lambda: lan["b"].catalogue.has_model(NAME))
            came_bytes = 0

            def half(_from: str, _to: str, head: object) -> bool:
                nonlocal came_bytes
                came_bytes += head.size_bytes if isinstance(head, Chunk) else 0
                return isinstance(head, Chunk) and came_bytes > 400_000

            lan.drops = half
            await lan["a"].order(lan["b"].mesh.node_id, Order(1, "fetch", str(NAME), "1.0.0"), 1.0)

            def has_some() -> bool:
                making = [making for state in lan["b"].copies.states(lambda _: True) for making in state.making]
                return any(copy.done_bytes > 100_000 for copy in making)

            await until(has_some)
            lan["b"].stop()
            await asyncio.sleep(0.05)
            lan["b"].start()
            lan.drops = lambda *_: False
            await until(lan["b"].holds)

    run(scenario)


def test_other_content_under_one_version_is_not_copied_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            lan.leave("b")
            lan["a"].deploy(CONTENT)
            lan["b"].deploy(b"other content")
            lan["a"].copies.set_wish(NAME, CopyWish(2))
            lan.come_back("b")
            await until(lambda: bool(lan["a"].catalogue.conflict(lan["a"].catalogue.resolve(str(NAME)))))
            await asyncio.sleep(0.2)
            assert len({next(iter(node.catalogue.digests())) for node in lan.nodes.values()}) == 2
            await lan["b"].copies.delete(NAME, "1.0.0")
            await until(lambda: lan["a"].holds() and lan["b"].holds())
            assert lan["a"].catalogue.digests() == lan["b"].catalogue.digests()

    run(scenario)


def test_a_wish_for_a_node_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lan_of(tmp_path, "ab") as lan:
            with pytest.raises(NotFoundError, match="no node 'box9'; it has a, b"):
                lan["a"].copies.check_wish(CopyWish(0, ("box9",)))
            assert "copies that are wished: 5; nodes in this mesh now: 2" in lan["a"].copies.check_wish(CopyWish(5))[0]
            assert lan["a"].copies.check_wish(CopyWish(2)) == []

    run(scenario)

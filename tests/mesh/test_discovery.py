"""Nodes find each other by real multicast on the loopback, whatever else is said there."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from federation import discovery, mdns_listener
from federation.advertisement import SERVICE_TYPE, instance_name, txt_of
from federation.credentials import introduce
from federation.discovery import Discovery
from federation.identity import Identity, new_identity
from federation.keyring import Keyring
from federation.messages import Introduction

LOOPBACK = "127.0.0.1"
TIMEOUT_S = 20.0


class Mesh:
    """Nodes of one key, which no other test has."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.keyring = Keyring(folder)
        self.key_id = self.keyring.current.id

    def introduction(self, name: str, identity: Identity | None = None) -> Introduction:
        identity = identity or new_identity()
        return introduce(identity, self.keyring, name=name, addresses=[LOOPBACK], mesh_port=8004, bulk_port=8005)


class Listening:
    """A node that is discovered and discovers; `met` has whoever it was told of, in order."""

    def __init__(self, mesh: Mesh, name: str) -> None:
        self.identity = new_identity()
        self.own = mesh.introduction(name, self.identity)
        self.met: list[Introduction] = []
        self._news = asyncio.Event()
        self.discovery = Discovery(self.own, keyring=mesh.keyring, on_introduction=self._introduced, bound_to=LOOPBACK)

    def _introduced(self, told: Introduction) -> None:
        self.met.append(told)
        self._news.set()

    async def meets(self, *expected: Introduction) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not all(other in self.met for other in expected):
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def started(mesh: Mesh, *names: str) -> AsyncIterator[list[Listening]]:
    async with AsyncExitStack() as stack:
        nodes = [Listening(mesh, name) for name in names]
        for node in nodes:
            await node.discovery.start()
            stack.push_async_callback(node.discovery.stop)
        yield nodes


@asynccontextmanager
async def advertised(*services: AsyncServiceInfo) -> AsyncIterator[None]:
    """What anyone on the network may say."""
    responder = AsyncZeroconf(interfaces=[LOOPBACK])
    try:
        for service in services:
            await responder.async_register_service(service, cooperating_responders=True)
        yield
    finally:
        await responder.async_close()


def service(
    mesh: Mesh, told: Introduction, *, name: str = "", port: int = 8004, **txt: str | bytes
) -> AsyncServiceInfo:
    """What a node says that has the mesh's key, but for `txt`, which is changed on its way."""
    return AsyncServiceInfo(
        SERVICE_TYPE,
        name or instance_name(told.node_id),
        port=port,
        properties=txt_of(told, mesh.keyring.keys[-1]) | txt,
        server=f"ingle-{told.node_id}.local.",
        parsed_addresses=[LOOPBACK],
    )


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_five_nodes_of_one_box_see_each_other_as_they_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started(Mesh(tmp_path / "mesh"), *"abcde") as nodes:
            for node in nodes:
                await node.meets(*(other.own for other in nodes if other is not node))
                assert node.own not in node.met

    asyncio.run(scenario())


def test_a_node_that_is_changed_is_seen_as_it_is_now(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path / "mesh")
        async with started(mesh, "a", "b") as (a, b):
            await a.meets(b.own)
            renamed = mesh.introduction("c", b.identity)
            await b.discovery.update(renamed)
            await a.meets(renamed)

    asyncio.run(scenario())


def test_a_node_that_was_off_while_the_key_was_changed_is_handed_on_and_is_no_other_mesh(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path / "mesh")
        async with started(mesh, "a") as (a,):
            late = Listening(mesh, "late")
            said = service(mesh, late.own)
            mesh.keyring.rotate()
            mesh.keyring.retire(late.own.key_id)
            async with advertised(said):
                await a.meets(late.own)
            assert late.own.key_id not in {other.key_id for other in a.discovery.other_meshes()}

    asyncio.run(scenario())


def test_another_mesh_is_in_sight_until_it_says_goodbye_and_is_never_handed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh, other = Mesh(tmp_path / "mesh"), Mesh(tmp_path / "other")
        async with started(mesh, "a") as (a,):
            async with started(other, "theirs") as (theirs,):
                async with started(mesh, "b") as (b,):
                    await a.meets(b.own)
                in_sight = {mesh.key_id: mesh.nodes for mesh in a.discovery.other_meshes()}
                assert in_sight[other.key_id] == [theirs.own]
            # What is said on one socket is heard in its order: c's words come after the goodbye.
            async with started(mesh, "c") as (c,):
                await a.meets(c.own)
            assert other.key_id not in {mesh.key_id for mesh in a.discovery.other_meshes()}
            assert {told.name for told in a.met} == {"b", "c"}

    asyncio.run(scenario())


def test_whoever_says_to_be_this_node_at_another_address_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path / "mesh")
        async with started(mesh, "a") as (a,):
            copy = service(mesh, a.own)
            copy.addresses = [ip_address("203.0.113.9").packed, ip_address(LOOPBACK).packed]
            async with advertised(copy), started(mesh, "b") as (b,):
                await a.meets(b.own)

    asyncio.run(scenario())
    [told] = [record.getMessage() for record in caplog.records if "is this node" in record.getMessage()]
    assert "203.0.113.9" in told
    assert "delete mesh.identity" in told


def test_what_is_forged_is_neither_handed_on_nor_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path / "mesh")
        own = mesh.introduction
        revoked = own("revoked")
        mesh.keyring.revoke([revoked.public_key])
        forged = [
            service(mesh, revoked),
            service(mesh, replace(own("bad-credential"), credential=bytes(32))),
            service(mesh, replace(own("stolen-credential"), credential=own("another").credential)),
            service(mesh, own("another-nodes-name"), name=instance_name("0" * 32)),
            service(mesh, own("no-node"), name=f"printer.{SERVICE_TYPE}"),
            service(mesh, own("moved"), a="10.9.9.9"),
            service(mesh, own("unsealed"), m=""),
            service(mesh, own("huge"), junk=b"x" * 200, more=b"y" * 200),
            service(mesh, own("bad-key"), k="zz"),
            service(mesh, own("bad-port"), b="99999"),
            service(mesh, own("no-port"), port=0),
            service(mesh, own("escape"), n="\x1b[2J"),
        ]
        async with started(mesh, "a") as (a,), advertised(*forged), started(mesh, "b") as (b,):
            await a.meets(b.own)
            assert [told.name for told in a.met] == ["b"]
            assert mesh.key_id not in {other.key_id for other in a.discovery.other_meshes()}

    asyncio.run(scenario())


def test_a_flood_is_not_listened_to_and_after_it_nodes_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path / "mesh")
        async with started(mesh, "a", "b") as (a, b):
            await a.meets(b.own)
            flooded = asyncio.Event()
            monkeypatch.setattr(a.discovery, "_say", lambda trouble: flooded.set() if "flood" in trouble else None)
            monkeypatch.setattr(mdns_listener, "FLOOD_RECORDS_A_SECOND", 100_000)
            async with advertised(*(service(mesh, mesh.introduction(f"peer{number}")) for number in range(20))):
                await asyncio.wait_for(flooded.wait(), TIMEOUT_S)
                a.met.clear()
                await a.meets(b.own)

    monkeypatch.setattr(mdns_listener, "FLOOD_RECORDS_A_SECOND", 40)
    monkeypatch.setattr(discovery, "FLOOD_PAUSE_S", 0.1)
    asyncio.run(scenario())


def test_nothing_is_left_of_it_once_it_is_stopped(tmp_path: Path) -> None:
    async def scenario() -> None:
        before, threads = open_files(), threading.active_count()  # other tests may have left some
        async with started(Mesh(tmp_path / "mesh"), "a", "b") as (a, b):
            await a.meets(b.own)
            assert threading.active_count() == threads
        await asyncio.sleep(0)  # transports are closed in the loop's next turn
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert open_files() == before

    asyncio.run(scenario())


def test_it_can_be_stopped_before_it_was_started(tmp_path: Path) -> None:
    async def scenario() -> None:
        await Listening(Mesh(tmp_path / "mesh"), "a").discovery.stop()

    asyncio.run(scenario())

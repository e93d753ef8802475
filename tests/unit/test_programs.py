"""A peer's one file is fetched over a network in memory, with real files and signatures: whole, or with a sentence."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.errors import ConflictError, IngleError, NotFoundError, RefusedError, UnavailableError
from appliance.core.release import Build
from appliance.gateway import programs
from appliance.gateway.answers import ProgramFetch
from appliance.gateway.programs import Programs, find_program
from appliance.security.releases import MAGIC, TRAILER, sign
from appliance.security.signatures import new_key, read_key
from federation.messages import Hello, Introduction, Program
from federation.peer import Peer, PeerStanding
from tests.unit.peers_in_memory import Network

STUB, PAYLOAD = b"the stub", bytes(range(256)) * 4000
FETCHER = "here"


class Mesh:
    """The nodes of a network in memory, as `here` knows them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.network = Network(folder, [FETCHER, *names])  # type: ignore[arg-type]
        self.programs: dict[str, Program] = {}
        self.folder = folder
        self.told: Program | None = None
        self.public_key = new_key(folder / "release.pem")

    def peers(self) -> list[Peer]:
        shown = Introduction("", "", b"", "", b"", [], 0, 0)
        return [
            Peer(
                node_id=name,
                name=name,
                standing=self.standing(name),
                since_s=0.0,
                hello=Hello(1, "1.0.0", shown, 1, program=self.programs.get(name)),
            )
            for name in self.network.nodes
            if name != FETCHER
        ]

    def standing(self, name: str) -> PeerStanding:
        return "dead" if name in self.network.dead else "alive"

    def set_program(self, program: Program | None) -> None:
        self.told = program

    def release(self, name: str, version: str = "1.1.0", *, key: str = "release.pem") -> Path:
        """A signed one file, in a folder of a node's."""
        file = self.folder / name / "bin" / "ingle"
        file.parent.mkdir(parents=True)
        file.write_bytes(STUB + PAYLOAD + TRAILER.pack(MAGIC, len(PAYLOAD), 4096, hashlib.sha256(PAYLOAD).digest()))
        sign(file, read_key(self.folder / key), version, 1000, "cpu")
        return file

    def run_from(self, name: str, file: Path) -> Program:
        """Has a node run from this file, and say so."""
        found = find_program(file)
        assert found is not None
        program, (digest, held) = found
        self.network.nodes[name].transfers.give(digest, held)
        self.programs[name] = program
        return program

    def of(self, name: str) -> Programs:
        """A node's part in it."""
        return Programs(
            self, self.network.nodes[name].transfers, self.folder / name, "", Build("1.0.0", 1, self.public_key, "cpu")
        )


async def ended(mine: Programs) -> ProgramFetch:
    while (fetch := mine.fetched()).step not in ("done", "failed"):
        await asyncio.sleep(0.005)
    return fetch


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


def test_a_peers_one_file_comes_to_the_byte(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, "peer")
        file = mesh.release("peer")
        mesh.run_from("peer", file)
        mine = mesh.of(FETCHER)
        assert mine.begin("peer").version == "1.1.0"
        fetch = await ended(mine)
        assert (fetch.step, fetch.reason) == ("done", "")
        assert Path(fetch.file).read_bytes() == file.read_bytes()
        assert Path(fetch.file).is_relative_to(tmp_path / FETCHER / programs.FOLDER)
        mesh.network.stop()

    run(scenario)


def test_what_a_peer_shows_is_believed_as_far_as_it_is_signed(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, "peer", "installed", "forger")
        program = mesh.run_from("peer", mesh.release("peer"))
        mine = mesh.of(FETCHER)
        told = mine.described(program)
        assert (told.version, told.built_s, told.runtime, told.fault) == ("1.1.0", 1000, "cpu", "")
        boast = msgspec.structs.replace(program, statement=program.statement.replace(b"1.1.0", b"9.9.9"))
        assert "another key" in mine.described(boast).fault
        mesh.programs["forger"] = boast
        refusals: list[tuple[str, type[IngleError], str]] = [
            ("nobody", NotFoundError, "it knows forger, installed, peer"),
            ("installed", NotFoundError, "no one file can be had of installed"),
            ("forger", RefusedError, "the one file of forger is signed with another key"),
        ]
        for name, error, words in refusals:
            with pytest.raises(error, match=words):
                mine.begin(name)
        with pytest.raises(NotFoundError):
            mine.fetched()
        mesh.network.kill("peer")
        with pytest.raises(UnavailableError, match="of peer, which is dead"):
            mine.begin("peer")
        mesh.network.stop()

    run(scenario)


def test_a_peer_that_sends_another_program_than_it_told_of_is_refused_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, "liar")
        newer = mesh.run_from("liar", mesh.release("liar", "1.1.0"))
        older = mesh.run_from("liar", mesh.release("older", "1.0.0"))
        mesh.programs["liar"] = msgspec.structs.replace(older, statement=newer.statement, signature=newer.signature)
        mine = mesh.of(FETCHER)
        mine.begin("liar")
        fetch = await ended(mine)
        assert (fetch.step, fetch.code, fetch.reason) == (
            "failed",
            "refused",
            "the node liar gave another program than it told of",
        )
        assert list((tmp_path / FETCHER / programs.FOLDER).iterdir()) == []
        mesh.network.stop()

    run(scenario)


def test_a_peer_whose_bytes_are_not_those_of_its_digest_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, "peer")
        file = mesh.release("peer")
        mesh.run_from("peer", file)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        mine = mesh.of(FETCHER)
        mine.begin("peer")
        fetch = await ended(mine)
        assert (fetch.step, fetch.code) == ("failed", "refused")
        assert "no peer gives the artifact" in fetch.reason
        mesh.network.stop()

    run(scenario)


def test_a_peer_that_dies_midway_is_told_of_and_the_next_try_goes_on_with_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "LOST_S", 0.1)

    async def scenario() -> None:
        mesh = Mesh(tmp_path, "dies", "other")
        file = mesh.release("dies")
        mesh.run_from("dies", file)
        network = mesh.network
        network.dies_midway("dies")
        mine = mesh.of(FETCHER)
        mine.begin("dies")
        fetch = await ended(mine)
        assert (fetch.step, fetch.code) == ("failed", "unavailable")
        assert "dies went out of reach" in fetch.reason
        mesh.run_from("other", file)
        mine.begin("other")
        fetch = await ended(mine)
        assert fetch.step == "done"
        assert Path(fetch.file).read_bytes() == file.read_bytes()
        network.stop()

    run(scenario)


def test_another_program_waits_for_the_one_that_is_being_fetched(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, "one", "two")
        mesh.run_from("one", mesh.release("one"))
        mesh.run_from("two", mesh.release("two", "1.2.0"))
        mine = mesh.of(FETCHER)
        assert mine.begin("one") is mine.begin("one")
        with pytest.raises(ConflictError, match="of one is being fetched"):
            mine.begin("two")
        await ended(mine)
        mine.begin("two")
        fetch = await ended(mine)
        assert (fetch.step, fetch.node) == ("done", "two")
        assert [path.name for path in (tmp_path / FETCHER / programs.FOLDER).iterdir()] == [fetch.digest]
        mesh.network.stop()

    run(scenario)


def test_an_unsigned_file_is_offered_to_nobody(tmp_path: Path) -> None:
    file = tmp_path / "ingle"
    file.write_bytes(STUB + PAYLOAD + TRAILER.pack(MAGIC, len(PAYLOAD), 4096, bytes(32)))
    assert find_program(file) is None
    file.write_bytes(b"#!/bin/sh\n")
    assert find_program(file) is None

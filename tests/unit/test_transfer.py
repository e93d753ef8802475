"""Artifacts fetched from peers over a network in memory, with real files: losses, restarts, and peers that lie."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.core.errors import RefusedError
from appliance.core.requests import Buffer
from federation.messages import Chunk, Fetch, Have, Head
from tests.unit.peers_in_memory import Network

_RANDOM = random.Random(7)
WEIGHTS = _RANDOM.randbytes(1_500_000)
FILES = {"model.onnx": b"model" * 100, "data/weights.bin": WEIGHTS, "vectors/parity.json": b"", "odd.bin": b"x"}
SIZE_BYTES = sum(map(len, FILES.values()))


@asynccontextmanager
async def network_of(folder: Path, names: str, holders: str) -> AsyncIterator[tuple[Network, str]]:
    network = Network(folder, names)
    digest = ""
    for name in holders:
        digest = network.nodes[name].put(FILES)
    try:
        async with asyncio.timeout(20):
            yield network, digest
    finally:
        network.stop()


def run(scenario: Callable[[], object]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_an_artifact_of_several_files_is_fetched_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network_of(tmp_path, "ab", "a") as (network, digest):
            files = await network.fetch("b", digest, SIZE_BYTES)
            assert files == dict(network.nodes["a"].holds[digest].files)
            assert network.nodes["b"].fetched(digest) == FILES
            artifact = network.nodes["b"].folder / "fetches" / digest / "artifact"
            assert (artifact / "model.onnx").stat().st_mode & 0o777 == 0o400

    run(scenario)


def test_pieces_come_from_all_holders(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network_of(tmp_path, "abcd", "abc") as (network, digest):
            await network.fetch("d", digest, SIZE_BYTES)
            assert {sender for sender, _, head in network.said if isinstance(head, Chunk)} == set("abc")

    run(scenario)


def test_those_who_fetch_together_give_to_each_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network_of(tmp_path, "abcd", "a") as (network, digest):
            slow = {"a": 0}

            def one_piece_in_two_is_late(sender: str, to: str, head: Head, body: list[Buffer]) -> object:
                if sender == "a" and isinstance(head, Chunk) and head.size_bytes > 1000:
                    slow["a"] += 1
                    if slow["a"] % 16 == 15:
                        asyncio.get_running_loop().call_later(
                            0.1, network.nodes[to].transfers.on_copy, sender, head, body
                        )
                        return None
                return head, body

            network.deliver = one_piece_in_two_is_late  # type: ignore[assignment]
            await asyncio.gather(*(network.fetch(name, digest, SIZE_BYTES) for name in "bcd"))
            assert all(network.nodes[name].fetched(digest) == FILES for name in "bcd")

    run(scenario)


def test_a_holder_that_dies_in_the_middle_costs_nothing_that_came(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network_of(tmp_path, "abc", "ab") as (network, digest):
            chunks = 0

            def a_dies(sender: str, to: str, head: Head, body: list[Buffer]) -> tuple[Head, list[Buffer]]:
                nonlocal chunks
                if sender == "a" and isinstance(head, Chunk):
                    chunks += 1
                    if chunks == 6:
                        network.kill("a")
                return head, body

            network.deliver = a_dies
            await network.fetch("c", digest, SIZE_BYTES)
            assert "a" in network.dead
            assert network.nodes["c"].fetched(digest) == FILES

    run(scenario)


def test_a_fetch_that_was_cut_goes_on_with_what_came(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network_of(tmp_path, "ab", "a") as (network, digest):
            came_bytes = 0

            def until_half(sender: str, to: str, head: Head, body: list[Buffer]) -> tuple[Head, list[Buffer]] | None:
                nonlocal came_bytes
                if isinstance(head, Chunk):
                    came_bytes += head.size_bytes
                    if came_bytes > 900_000:
                        return None
                return head, body

            network.deliver = until_half
            cut = asyncio.create_task(network.fetch("b", digest, SIZE_BYTES))
            while not any(isinstance(head, Have) and head.done_bytes > 500_000 for _, _, head in network.said):
                await asyncio.sleep(0.01)
            cut.cancel()
            await asyncio.gather(cut, return_exceptions=True)
            network.deliver = lambda _from, _to, head, body: (head, body)
            network.said.clear()
            await network.fetch("b", digest, SIZE_BYTES)
            assert network.nodes["b"].fetched(digest) == FILES
            again = sum(head.size_bytes for _, _, head in network.said if isinstance(head, Chunk))
            assert again <= SIZE_BYTES - 500_000

    run(scenario)


def _wrong_bytes(head: Head, body: list[Buffer]) -> tuple[Head, list[Buffer]]:
    content = bytearray(body[0]) if body else bytearray()
    if len(content) > 100:
        content[50] ^= 1
    return head, [bytes(content)] if content else []


def _too_long(head: Head, body: list[Buffer]) -> tuple[Head, list[Buffer]]:
    return head, [b"".join(map(bytes, body)) + bytes(2**20)]


def _nothing(head: Head, body: list[Buffer]) -> tuple[Head, list[Buffer]]:
    return head, []


def _garbage(head: Head, body: list[Buffer]) -> tuple[Head, list[Buffer]]:
    return head, [b"\xff" * 5000]


@pytest.mark.parametrize("lie", [_wrong_bytes, _too_long, _nothing, _garbage])
def test_a_peer_that_lies_is_blamed_and_the_rest_comes_from_elsewhere(
    tmp_path: Path, lie: Callable[[Head, list[Buffer]], tuple[Head, list[Buffer]]]
) -> None:
    async def scenario() -> None:
        async with network_of(tmp_path, "abc", "ab") as (network, digest):
            network.deliver = lambda sender, _to, head, body: (
                lie(head, body) if sender == "a" and isinstance(head, Chunk) else (head, body)
            )
            await network.fetch("c", digest, SIZE_BYTES)
            assert network.nodes["c"].fetched(digest) == FILES

    run(scenario)


def test_where_every_peer_lies_the_fetch_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network_of(tmp_path, "abc", "ab") as (network, digest):
            network.deliver = lambda _from, _to, head, body: (
                _wrong_bytes(head, body) if isinstance(head, Chunk) else (head, body)
            )
            with pytest.raises(RefusedError, match="no peer gives"):
                await network.fetch("c", digest, SIZE_BYTES)

    run(scenario)


def test_nothing_is_given_but_files_of_artifacts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network_of(tmp_path, "ab", "a") as (network, digest):
            (tmp_path / "a" / "secret").write_bytes(b"secret")
            asks = (
                Fetch(1, digest, "../../secret", 0, 6),
                Fetch(2, digest, str(tmp_path / "a" / "secret"), 0, 6),
                Fetch(3, digest, "model.onnx", -1, 6),
                Fetch(4, digest, "model.onnx", 0, 2**40),
                Fetch(5, digest, "model.onnx", 2**61, 1),
                Fetch(6, "../secret", "", 0, 0),  # not even answered
                Fetch(7, "0" * 64, "model.onnx", 0, 1),
            )
            for fetch in asks:
                network.nodes["a"].transfers.on_copy("b", fetch, [])
            while len(network.said) < len(asks) - 1:
                await asyncio.sleep(0.001)
            assert {type(head).__name__ for _, _, head in network.said} == {"NoChunk"}

    run(scenario)


@pytest.mark.parametrize(
    "have",
    [
        Have("x" * 2**20),
        Have("d" * 64, b"short"),
        Have("d" * 64, bytes(32), bytes(2**20)),
        Have("d" * 64, done_bytes=-1),
        Have("d" * 64, bytes_per_s=float("nan")),
        Have("d" * 64, refused="x" * 2**20),
    ],
)
def test_what_no_peer_can_mean_is_not_remembered(tmp_path: Path, have: Have) -> None:
    async def scenario() -> None:
        async with network_of(tmp_path, "ab", "a") as (network, _):
            network.nodes["a"].transfers.on_copy("b", have, [])
            assert network.nodes["a"].transfers.heard() == []
            network.nodes["a"].transfers.on_copy("b", Have("d" * 64, bytes(32), b"\x01"), [])
            assert [node_id for node_id, _ in network.nodes["a"].transfers.heard()] == ["b"]

    run(scenario)

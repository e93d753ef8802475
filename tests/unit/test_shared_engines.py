"""TensorRT's engines of peers: whose are asked for, how long they are waited for, and what becomes of them, over a
network in memory with real files. Their content means nothing here."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.catalogue.catalogue import Catalogue
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import parse_name
from appliance.core.tensors import Signature
from appliance.core.versions import parse_version
from appliance.gateway import shared_engines
from appliance.gateway.shared_engines import SharedEngines, Wanted, choose, is_worth_waiting
from appliance.routing.own_state import key_of
from appliance.workers.device_engines import UNKNOWN_KIND, DeviceEngines
from appliance.workers.engine_cache import EngineCache
from appliance.workers.engines import engine_kind
from federation.messages import Chunk, Engines, Hello, Introduction, ModelState
from federation.peer import Peer, PeerStanding
from tests.unit.peers_in_memory import Network

KIND, OTHER_KIND = engine_kind({"gpu": "4090"}), engine_kind({"gpu": "H100"})
KEY = "me/model:1.0.0@0123456789abcdef"
ONE, TWO, LARGE = Engines("1" * 64, 100), Engines("2" * 64, 100), Engines("3" * 64, 10_000)
MODEL = ModelVersion(
    name=parse_name("me/model"),
    version=parse_version("1.0.0"),
    ordinal=1,
    digest="0123456789abcdef" * 4,
    size_bytes=1,
    signature=Signature((), ()),
    manifest=Manifest(),
    batchable=False,
    batch_reason="",
    created_s=0.0,
    folder="/nowhere",
)
OTHER_MODEL = msgspec.structs.replace(MODEL, name=parse_name("me/other"), digest="f" * 64)
ENGINES = {"model_7_0_sm89.engine": b"engine" * 100_000, "model_7_0_sm89.profile": b"ranges"}
SIZE_BYTES = sum(map(len, ENGINES.values()))


def peer(
    name: str,
    engines: Engines | None,
    *,
    kind: str = KIND,
    standing: PeerStanding = "alive",
    rtt_s: float = 0.001,
    key: str = KEY,
    outside: bool = False,
) -> Peer:
    shown = Introduction("", "", b"", "", b"", [], 0, 0)
    return Peer(
        node_id=name,
        name=name,
        standing=standing,
        since_s=0.0,
        hello=Hello(1, "1.0.0", shown, 1, engine_kind=kind),
        rtt_s=rtt_s,
        models={key: ModelState(replicas=1, engines=engines)},
        outside=outside,
    )


@pytest.mark.parametrize(
    ("peers", "refused", "wanted"),
    [
        ([], (), None),
        ([peer("a", None)], (), None),
        ([peer("a", ONE)], (), Wanted(ONE.digest, 100, ("a",))),
        ([peer("a", ONE, standing="suspect")], (), Wanted(ONE.digest, 100, ("a",))),
        ([peer("a", ONE, standing="dead")], (), None),
        ([peer("a", ONE, standing="draining")], (), None),
        ([peer("a", ONE, outside=True)], (), None),
        ([peer("a", ONE, kind=OTHER_KIND)], (), None),
        ([peer("a", ONE, kind="")], (), None),
        ([peer("a", ONE, key="me/other:1.0.0@0123456789abcdef")], (), None),
        ([peer("a", LARGE)], (), None),
        ([peer("a", ONE)], (ONE.digest,), None),
        ([peer("a", ONE), peer("b", TWO)], (ONE.digest,), Wanted(TWO.digest, 100, ("b",))),
        ([peer("a", ONE), peer("b", TWO), peer("c", TWO)], (), Wanted(TWO.digest, 100, ("b", "c"))),
        ([peer("a", ONE, rtt_s=0.01), peer("b", TWO)], (), Wanted(TWO.digest, 100, ("b",))),
        ([peer("b", TWO), peer("a", ONE)], (), Wanted(ONE.digest, 100, ("a",))),
        # Whoever says another size of the same engines has to be of one mind with nobody.
        ([peer("a", ONE), peer("b", ONE), peer("c", Engines(ONE.digest, 99))], (), Wanted(ONE.digest, 100, ("a", "b"))),
    ],
)
def test_engines_are_had_of_like_peers_that_have_them(
    peers: list[Peer], refused: tuple[str, ...], wanted: Wanted | None
) -> None:
    assert choose(KIND, KEY, peers, most_bytes=1000, refused=refused) == wanted


@pytest.mark.parametrize(
    ("elapsed_s", "still_s", "done_bytes", "is_worth"),
    [
        (0.0, 0.0, 0, True),
        (1.9, 1.9, 0, True),
        (2.9, 2.9, 0, False),  # nothing after a while: it would never be done
        (3.1, 3.1, 0, False),
        (5.0, 0.1, 500, True),
        (5.0, 3.1, 500, False),  # it stands still
        (5.0, 0.1, 160, False),  # it would take more than half a minute
        (5.0, 0.1, 170, True),
        (29.0, 0.1, 990, True),
        (30.1, 0.1, 999, False),
    ],
)
def test_a_load_waits_for_a_fetch_only_while_that_promises_to_be_done_soon(
    elapsed_s: float, still_s: float, done_bytes: int, is_worth: bool
) -> None:
    said = is_worth_waiting(elapsed_s=elapsed_s, still_s=still_s, done_bytes=done_bytes, size_bytes=1000)
    assert said == is_worth


class Device:
    """A node's engines, as its device's worker writes them."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.engines = DeviceEngines(EngineCache(folder, budget_bytes=10**9))
        self.engines.cache.open({MODEL.digest})
        self.engines.kind = kind

    def built(self, files: dict[str, bytes]) -> None:
        folder = self.engines.cache.prepare(self.engines.kind, MODEL.digest)
        for name, content in files.items():
            (folder / name).write_bytes(content)

    def has(self) -> dict[str, bytes]:
        """All that is in the folder from which the model is loaded."""
        folder = self.engines.cache.place_of(self.engines.kind, MODEL.digest)
        return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


class OneModel:
    """A catalogue with the model in it, or without."""

    is_here = True

    def held(self) -> Iterable[Any]:
        return []

    def own(self, model: ModelVersion) -> ModelVersion | None:
        return model if self.is_here else None


class Node:
    """One node of the network, which sees the others as they tell of themselves."""

    def __init__(self, mesh: "Mesh", name: str, kind: str) -> None:
        self.name = name
        self.device = Device(mesh.folder / name / "cache", kind)
        self.told: dict[str, Engines] = {}
        self.kind = ""
        self.catalogue = OneModel()
        self._mesh = mesh
        catalogue: Catalogue = self.catalogue  # type: ignore[assignment]
        self.shared = SharedEngines(
            catalogue, self, mesh.network.nodes[name].transfers, self.device.engines, told=self.told
        )
        self.shared.start()

    def set_engine_kind(self, kind: str) -> None:
        self.kind = kind

    def peers(self) -> list[Peer]:
        return [
            peer(
                each.name,
                each.told.get(key_of(MODEL)),
                kind=each.kind,
                standing="dead" if each.name in self._mesh.network.dead else "alive",
                key=key_of(MODEL),
            )
            for each in self._mesh.nodes.values()
            if each is not self
        ]


class Mesh:
    def __init__(self, folder: Path, **kinds: str) -> None:
        self.folder = folder
        self.network = Network(folder, list(kinds))  # type: ignore[arg-type]
        self.nodes: dict[str, Node] = {}
        for name, kind in kinds.items():
            self.nodes[name] = Node(self, name, kind)

    async def tell(self, name: str, files: dict[str, bytes] | None = None) -> None:
        """Has a node build engines, and say so."""
        node = self.nodes[name]
        if files is not None:
            node.device.built(files)
        node.device.engines.on_change(MODEL, [])
        await asyncio.gather(*node.shared._tasks)

    async def seek(self, name: str) -> dict[str, bytes]:
        """What a node has after it asked for engines; nothing of the fetch is left, and nobody is given any of it."""
        node = self.nodes[name]
        await node.device.engines.seek(MODEL)
        assert list(node.device.engines.cache.incoming.iterdir()) == []
        assert not self.network.nodes[name].transfers._fetches
        return node.device.has()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


def test_a_like_peers_engines_come_to_the_byte_and_are_told_of_in_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, here=KIND, peer=KIND, other=OTHER_KIND)
        await mesh.tell("peer", ENGINES | {"sessions.txt": b"of the peer alone", "model_1.timing": b"too"})
        assert mesh.nodes["peer"].told[key_of(MODEL)].size_bytes == SIZE_BYTES
        assert await mesh.seek("here") == ENGINES
        assert await mesh.seek("other") == {}
        await mesh.tell("here")
        assert mesh.nodes["here"].told == mesh.nodes["peer"].told
        mesh.network.stop()

    run(scenario)


def test_engines_that_are_gone_or_whose_model_is_are_offered_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, here=KIND, peer=KIND)
        await mesh.tell("peer", ENGINES)
        mesh.nodes["peer"].catalogue.is_here = False
        await mesh.tell("peer")
        assert mesh.nodes["peer"].told == mesh.network.nodes["peer"].transfers._given == {}
        mesh.nodes["peer"].catalogue.is_here = True
        await mesh.tell("peer")
        mesh.nodes["peer"].device.engines.cache.forget(MODEL.digest)
        await mesh.tell("peer")
        assert await mesh.seek("here") == {}
        await mesh.tell("peer", ENGINES)
        peer = mesh.nodes["peer"]
        peer.device.engines.on_change(OTHER_MODEL, [MODEL.digest])  # to make room for another's
        await asyncio.gather(*peer.shared._tasks)
        assert peer.told == {}
        mesh.network.stop()

    run(scenario)


def test_nothing_is_shared_where_it_is_not_known_what_engines_depend_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, blind=UNKNOWN_KIND, cpu="")
        for node in mesh.nodes.values():
            assert node.kind == ""
            assert node.device.engines.seek != node.shared.seek
        mesh.network.stop()

    run(scenario)


def test_bytes_that_are_not_those_of_the_digest_are_refused_and_not_asked_for_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, here=KIND, liar=KIND)
        await mesh.tell("liar", ENGINES)
        engine = mesh.nodes["liar"].device.engines.cache.place_of(KIND, MODEL.digest) / "model_7_0_sm89.engine"
        engine.write_bytes(b"Engine" * 100_000)
        assert await mesh.seek("here") == {}
        said = len(mesh.network.said)
        assert said
        assert await mesh.seek("here") == {}
        assert len(mesh.network.said) == said
        mesh.network.stop()

    run(scenario)


@pytest.mark.parametrize("name", ["model.onnx", "sub/model_7_0_sm89.engine", "libnvinfer.so.10"])
def test_a_peer_that_gives_something_else_than_engines_gives_nothing(tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, here=KIND, liar=KIND)
        files = ENGINES | {name: b"something else"}
        digest = mesh.network.nodes["liar"].put(files)
        mesh.nodes["liar"].told[key_of(MODEL)] = Engines(digest, sum(map(len, files.values())))
        assert await mesh.seek("here") == {}
        assert any(isinstance(head, Chunk) for _, _, head in mesh.network.said)
        mesh.network.stop()

    run(scenario)


def test_a_peer_that_dies_midway_costs_only_the_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, here=KIND, dies=KIND)
        await mesh.tell("dies", ENGINES)
        network = mesh.network
        network.dies_midway("dies")
        assert await mesh.seek("here") == {}
        assert "dies" in network.dead
        network.stop()

    run(scenario)


def test_a_peer_that_says_nothing_is_waited_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_engines, "STILL_S", 0.1)

    async def scenario() -> None:
        mesh = Mesh(tmp_path, here=KIND, mute=KIND)
        await mesh.tell("mute", ENGINES)
        mesh.network.deliver = lambda sender, _to, head, body: None if sender == "mute" else (head, body)
        assert await mesh.seek("here") == {}
        mesh.network.stop()

    run(scenario)


def test_a_fault_of_ours_fails_no_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        mesh = Mesh(tmp_path, here=KIND, peer=KIND)
        await mesh.tell("peer", ENGINES)

        def fails(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(mesh.nodes["here"].device.engines.cache, "take", fails)
        assert await mesh.seek("here") == {}
        mesh.network.stop()

    run(scenario)

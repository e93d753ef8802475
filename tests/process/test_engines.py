"""TensorRT's engines: kept for each model, and shared by nodes with like GPUs. What TensorRT does is faked at the
boundary to onnxruntime, and nowhere else: real nodes, real processes, real files. No TensorRT has run any of this."""

import json
import os
import secrets
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest

from tests.conftest import RunningNode, start_node, stop_node
from tests.process.models import doubling
from tests.process.test_faults import ask, deploy, double, wait_until
from tests.process.test_gpu import device_of, on, pretend_gpu, proven

Nodes = Callable[..., RunningNode]


def digest_of(node: RunningNode, name: str) -> str:
    return str(ask(node, f"/v1/models/{name}")["versions"][0]["digest"]).removeprefix("sha256:")


def folder_of(node: RunningNode, name: str) -> Path:
    (folder,) = (node.data_dir / "cache" / "engines").glob(f"*/{digest_of(node, name)}")
    return folder


def engine_of(node: RunningNode, name: str) -> Path:
    (engine,) = folder_of(node, name).glob("*.engine")
    return engine


def sessions_of(node: RunningNode, name: str) -> list[str]:
    """How each session of the model came to its engine, the first first."""
    return (folder_of(node, name) / "sessions.txt").read_text().split()


def unload(node: RunningNode, name: str) -> None:
    ask(node, f"/v2/repository/models/{name}/unload", {})


def load(node: RunningNode, name: str) -> None:
    ask(node, f"/v2/repository/models/{name}/load", {})


def like_doubling(path: Path) -> Path:
    """The same network under another digest."""
    model = onnx.load(doubling(path))
    model.doc_string = path.stem
    onnx.save(model, path)
    return path


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the nodes that are started from now on believe in this GPU."""

    def pretend(name: str = "Pretended 4090", engine_bytes: int = 3000, **settings: object) -> None:
        folder = tmp_path / f"gpu-{len(list(tmp_path.glob('gpu-*')))}"
        pretend_gpu(folder, says="tensorrt", gpu=name, engine_bytes=engine_bytes, **settings)
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return pretend


def test_a_models_engine_is_kept_for_it_alone_and_goes_with_it(
    gpu: Callable[..., None], nodes: Nodes, tmp_path: Path
) -> None:
    gpu()
    node = nodes()
    assert device_of(node).startswith("GPU 0: TensorrtExecutionProvider")
    # Two models of one architecture, whose engines onnxruntime would call the same.
    for name in ("one", "other"):
        deploy(node, name, like_doubling(tmp_path / f"{name}.onnx"))
        ask(node, f"/v1/models/{name}", [1, 2])
        assert on(node, name) == "TensorrtExecutionProvider"
    assert engine_of(node, "one").read_bytes() != engine_of(node, "other").read_bytes()
    unload(node, "one")
    load(node, "one")
    assert sessions_of(node, "one") == ["built", "found"]
    other = folder_of(node, "other")
    ask(node, "/v1/models/other", method="DELETE")
    wait_until(lambda: not other.exists(), "the engine goes with its model")
    stop_node(node)
    again = nodes(data_dir=node.data_dir)
    load(again, "one")
    assert sessions_of(again, "one") == ["built", "found", "found"]


def test_an_engine_that_is_none_is_built_anew_be_it_refused_or_deadly(
    gpu: Callable[..., None], nodes: Nodes, tmp_path: Path
) -> None:
    gpu()
    node = nodes()
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    assert double(node, 1.0) == 2.0
    for damage, sessions in ((b"cut short", ["built", "built"]), (b"deadly", ["built"])):
        unload(node, "doubling")
        engine_of(node, "doubling").write_bytes(damage)
        assert double(node, 2.0) == 4.0
        assert on(node, "doubling") == "TensorrtExecutionProvider"
        assert sessions_of(node, "doubling") == sessions
    unload(node, "doubling")
    engine_of(node, "doubling").write_bytes(b"late")
    assert double(node, 3.0) == 6.0  # by the CPU: it was seen at the run
    assert on(node, "doubling") == "CPUExecutionProvider"
    assert not list(folder_of(node, "doubling").glob("*.engine"))


def test_a_model_that_breaks_the_gpu_once_its_damaged_engine_is_built_anew_is_the_one_that_goes_to_the_cpu(
    gpu: Callable[..., None], nodes: Nodes, tmp_path: Path
) -> None:
    gpu()
    node = nodes()
    deploy(node, "guilty", proven(tmp_path / "g.ingle", 13.0, 26.0))
    ask(node, "/v1/models/guilty", [1, 2])
    engine_of(node, "guilty").write_bytes(b"cut short")
    stop_node(node)
    gpu(breaks_at=13.0)
    again = nodes(data_dir=node.data_dir)
    deploy(again, "doubling", doubling(tmp_path / "d.onnx"))
    assert double(again, 1.0) == 2.0
    ask(again, "/v1/models/guilty", [1, 2])
    assert on(again, "guilty") == "CPUExecutionProvider"
    assert double(again, 2.0) == 4.0
    assert on(again, "doubling") == "TensorrtExecutionProvider"


class Fleet(NamedTuple):
    """Three nodes of one mesh: `first` and `like` have GPUs of one kind, `unlike` another."""

    first: RunningNode
    like: RunningNode
    unlike: RunningNode

    def deploy(self, name: str, folder: Path) -> None:
        """The model on the disks of all three."""
        upload = like_doubling(folder / f"{name}.onnx").read_bytes()
        for node in self:
            ask(node, f"/v1/models/{name}?version=1.0.0", upload, method="PUT")

    def built(self, name: str) -> Path:
        """The model on the first node's GPU; its engine, which peers know of."""
        known = engines_at(self.like)
        call_here(self.first, name)
        wait_until(lambda: engines_at(self.like) == engines_at(self.unlike) == known + 1, "peers are told of it")
        return engine_of(self.first, name)


def engines_at(node: RunningNode) -> int:
    """Of how many models the first node has engines, as this one knows."""
    (first,) = (each for each in ask(node, "/v1/nodes")["nodes"] if each["name"] == "first")
    return int(first["engines"])


def call_here(node: RunningNode, name: str) -> None:
    request = urllib.request.Request(f"{node.url}/v1/models/{name}", b"[1, 2]", node.headers)
    request.add_header("Content-Type", "application/json")
    request.add_header("X-Ingle-Pin", "local")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.loads(answer.read())["outputs"]["y"] == [[2, 4]]
    assert on(node, name) == "TensorrtExecutionProvider"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    key = folder / "mesh.key"
    key.write_text(secrets.token_hex(32))
    flags = ("--mesh", "127.0.0.1:0", "--mesh-key-file", str(key), "--federation-discover", "false")
    flags += ("--federation-spread", "false", "--routing-max-replicas", "1")
    started: list[RunningNode] = []
    with pytest.MonkeyPatch.context() as environment:
        try:
            for name, gpu in (("first", "4090"), ("like", "4090"), ("unlike", "H100")):
                settings = pretend_gpu(folder / f"gpu-{name}", says="tensorrt", gpu=gpu, engine_bytes=600_000)
                environment.setenv("PYTHONPATH", str(settings))
                started.append(start_node(folder / name, *flags, "--name", name))
                if name == "first":
                    flags += ("--join", json.loads((folder / "first" / "ready.json").read_text())["mesh"])
            yield Fleet(*started)
        finally:
            for node in started:
                node.process.send_signal(signal.SIGCONT)
                stop_node(node)


def test_a_node_with_a_like_gpu_opens_a_model_with_the_engine_that_another_built(fleet: Fleet, tmp_path: Path) -> None:
    fleet.deploy("shared", tmp_path)
    built = fleet.built("shared")
    call_here(fleet.like, "shared")
    assert engine_of(fleet.like, "shared").read_bytes() == built.read_bytes()
    assert sessions_of(fleet.like, "shared") == ["found"]
    call_here(fleet.unlike, "shared")
    assert engine_of(fleet.unlike, "shared").read_bytes() != built.read_bytes()
    assert sessions_of(fleet.unlike, "shared") == ["built"]


def test_an_engine_that_came_otherwise_than_it_was_told_of_is_refused_and_built_anew(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.deploy("corrupt", tmp_path)
    built = fleet.built("corrupt")
    content = bytearray(built.read_bytes())
    content[len(content) // 2] ^= 1
    built.write_bytes(content)
    call_here(fleet.like, "corrupt")
    assert sessions_of(fleet.like, "corrupt") == ["built"]
    assert "engines for local/corrupt:1.0.0 were not had, and are built here" in fleet.like.log.read_text()


def test_a_model_is_loaded_all_the_same_where_the_peer_with_its_engine_stands_still(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.deploy("frozen", tmp_path)
    fleet.built("frozen")
    os.kill(fleet.first.process.pid, signal.SIGSTOP)
    call_here(fleet.like, "frozen")
    assert sessions_of(fleet.like, "frozen") == ["built"]

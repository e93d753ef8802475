"""TensorRT's engines: kept for each model, and shared by nodes with like GPUs. What TensorRT does is faked at the
boundary to onnxruntime, and nowhere else: real nodes, real processes, real files. No GPU has run any of this."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.conftest import RunningNode, stop_node
from tests.process.models import doubling
from tests.process.test_faults import ask, deploy, double, wait_until
from tests.process.test_gpu import device_of, on, pretend_gpu

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

    def pretend(name: str = "Pretended 4090", engine_bytes: int = 3000) -> None:
        folder = tmp_path / f"gpu-{len(list(tmp_path.glob('gpu-*')))}"
        pretend_gpu(folder, says="tensorrt", gpu=name, engine_bytes=engine_bytes)
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

"""Optimised graphs as a node makes, uses and loses them: real models, real workers, files broken by hand."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RunningNode, start_node
from tests.process.models import normalised
from tests.process.test_faults import ask, deploy, parent, wait_until, workers

ROW = np.linspace(-1, 1, 3 * 8 * 8, dtype=np.float32).reshape(1, 3, 8, 8).tolist()


def _answer(node: RunningNode, name: str = "net") -> Any:
    return ask(node, f"/v1/models/{name}", {"x": ROW})["outputs"]["y"]


def _asleep(node: RunningNode, name: str = "net") -> None:
    ask(node, f"/v2/repository/models/{name}/unload", {})
    wait_until(lambda: workers(node, name) == [], "the worker ends")


def _loads_from(node: RunningNode, name: str = "net") -> str:
    return str(ask(node, f"/v1/models/{name}")["loads_from"])


def _from_graph(node: RunningNode, name: str = "net") -> bool:
    (worker,) = ask(node, f"/v1/models/{name}")["workers"]
    return bool(worker["from_graph"])


def _folder(node: RunningNode) -> Path:
    (entry,) = (node.data_dir / "cache" / "optimised").glob("*/*")
    return entry


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The data folder of a killed node that had a cached graph of `net`, and what `net` answered from its own file."""
    folder = tmp_path_factory.mktemp("seed")
    node = start_node(folder)
    try:
        deploy(node, "net", normalised(folder / "net.onnx"))
        answer = _answer(node)
        assert not _from_graph(node)
        wait_until(lambda: "cached optimised graph" in _loads_from(node), "the graph is cached")
    finally:
        node.process.kill()
        node.process.wait()
    return node.data_dir, answer


@pytest.fixture
def cached(seed: tuple[Path, Any], nodes: Callable[..., RunningNode], tmp_path: Path) -> tuple[RunningNode, Any]:
    """A node on a copy of that folder."""
    shutil.copytree(seed[0], tmp_path / "data")
    return nodes(data_dir=tmp_path / "data"), seed[1]


def test_a_cold_start_loads_the_graph_of_a_killed_node_and_answers_the_same(cached: tuple[RunningNode, Any]) -> None:
    node, answer = cached
    assert _answer(node) == answer
    assert _from_graph(node)


def _cut_short(folder: Path) -> None:
    os.truncate(folder / "model.onnx.data", 5000)


def _garbled(folder: Path) -> None:
    file = folder / "model.onnx"
    file.write_bytes(os.urandom(file.stat().st_size))


@pytest.mark.parametrize("broken", [_cut_short, _garbled])
def test_a_broken_graph_costs_a_slower_load_and_nothing_else(
    cached: tuple[RunningNode, Any], broken: Callable[[Path], None]
) -> None:
    node, answer = cached
    folder = _folder(node)
    broken(folder)
    assert _answer(node) == answer
    assert not _from_graph(node)
    wait_until(lambda: not folder.exists(), "the broken graph is removed")
    assert "cached optimised graph of local/net:1.0.0 is removed" in node.log.read_text()


def test_a_graph_goes_with_the_last_version_that_has_its_file(cached: tuple[RunningNode, Any], tmp_path: Path) -> None:
    node, answer = cached
    deploy(node, "twin", normalised(tmp_path / "net.onnx"))
    assert _answer(node, "twin") == answer
    assert _from_graph(node, "twin")  # one file, one graph, whatever the model is called
    ask(node, "/v1/models/net", method="DELETE")
    folder = _folder(node)
    ask(node, "/v1/models/twin", method="DELETE")
    wait_until(lambda: not folder.exists(), "its graph goes")


def test_a_model_that_never_answers_alike_is_refused_a_graph_and_not_tried_again(
    nodes: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = nodes()
    deploy(node, "net", normalised(tmp_path / "net.onnx", random=True))
    _answer(node)
    wait_until(lambda: "answers otherwise" in _loads_from(node), "the graph is refused")
    again_at = _folder(node).stat().st_mtime_ns
    _asleep(node)
    _answer(node)
    assert not _from_graph(node)
    assert _folder(node).stat().st_mtime_ns == again_at


def test_an_optimisation_killed_half_way_leaves_nothing(nodes: Callable[..., RunningNode], tmp_path: Path) -> None:
    node = nodes()
    deploy(node, "net", normalised(tmp_path / "net.onnx"))
    _answer(node)
    zygote = parent(workers(node, "net")[0])
    serving = set(workers(node, "net"))

    def optimising() -> list[int]:
        children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
        return [int(pid) for pid in children if int(pid) not in serving]

    wait_until(lambda: bool(optimising()), "the graph is being made")
    os.kill(optimising()[0], signal.SIGKILL)
    wait_until(lambda: "died" in _loads_from(node), "its death is a refusal")
    assert [file.name for file in _folder(node).iterdir()] == ["entry.json"]
    wait_until(lambda: not any((node.data_dir / "cache" / "incoming").iterdir()), "what it wrote is removed")

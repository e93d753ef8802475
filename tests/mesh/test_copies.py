"""Copies between real nodes on a LAN: kills in the middle of a transfer, a source whose disk lies, deletions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mesh.lan import Lan
from tests.mesh.large_models import product
from tests.mesh.meshes import Mesh, MeshNode, until

SIZE = 1200  # of the square matrix that a model is
SIZE_BYTES = SIZE * SIZE * 4
SLOW_BYTES_PER_S = 2_000_000
FAST_BYTES_PER_S = 125_000_000
PATIENCE_S = 60.0  # of a machine that has more to do


def _model(seed: int) -> bytes:
    """A model of 6 MB that gives the sum of its inputs `seed` times over."""
    matrix = np.random.default_rng(seed).standard_normal((SIZE, SIZE)).astype(np.float32)
    matrix[:, 0] = seed
    return product(matrix)


@pytest.fixture(scope="module")
def mesh(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with Lan() as lan, Mesh(lan, tmp_path_factory.mktemp("copies")) as made:
        made.start("a", "b", "c")
        made.wait_all_see_all()
        yield made


def _copies(node: MeshNode, model: str) -> dict[str, Any]:
    told = node.ask("GET", f"/v1/copies?model={model}").json["copies"]
    return told[0] if told else {"nodes": [], "making": [], "lacking": 1}


def _done_bytes(seen_by: MeshNode, model: str, of: str) -> int:
    return max([copy["done_bytes"] for copy in _copies(seen_by, model)["making"] if copy["node"] == of], default=0)


def _answers_itself(node: MeshNode, model: str, seed: int) -> bool:
    ones = [[1.0] + [0.0] * (SIZE - 1)]
    answer = node.call(model, {"x": ones}, {"X-Ingle-Pin": "local"})
    return answer.status == 200 and answer.json["outputs"]["y"][0][0] == seed and answer.json["node"] == node.name


def _rate(mesh: Mesh, name: str, bytes_per_s: float) -> None:
    mesh.lan.rate(mesh.nodes[name].host, bytes_per_s)


def test_a_fetcher_that_is_killed_goes_on_where_it_was(mesh: Mesh) -> None:
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    _rate(mesh, "a", SLOW_BYTES_PER_S)
    a.deploy("acme/first", _model(1), "?on=b")
    until(lambda: _done_bytes(a, "acme/first", "b") > SIZE_BYTES // 3, "a third of the copy is there", PATIENCE_S)
    b.kill()
    _rate(mesh, "a", FAST_BYTES_PER_S)
    until(lambda: "b" not in a.sees(), "the kill is seen", PATIENCE_S)
    b.restart()
    until(lambda: _answers_itself(b, "acme/first", 1), "the copy answers", PATIENCE_S)
    assert "is gone on with" in b.log.read_text()


def test_a_source_that_is_killed_is_replaced_by_another(mesh: Mesh) -> None:
    a, c = mesh.nodes["a"], mesh.nodes["c"]
    a.deploy("acme/second", _model(2), "?on=b")
    until(lambda: "b" in _copies(c, "acme/second")["nodes"], "there are two sources", PATIENCE_S)
    for name in "ab":
        _rate(mesh, name, SLOW_BYTES_PER_S)
    a.deploy("acme/second", _model(2), "?on=c")
    until(lambda: _done_bytes(c, "acme/second", "c") > SIZE_BYTES // 3, "a third of the copy is there", PATIENCE_S)
    a.kill()
    _rate(mesh, "b", FAST_BYTES_PER_S)
    until(lambda: _answers_itself(c, "acme/second", 2), "the copy answers", PATIENCE_S)
    a.restart()
    mesh.wait_all_see_all()


def test_a_source_whose_disk_lies_is_found_out(mesh: Mesh) -> None:
    a, b, c = (mesh.nodes[name] for name in "abc")
    _rate(mesh, "a", FAST_BYTES_PER_S)
    b.deploy("acme/third", _model(3), "?on=a")
    until(lambda: "a" in _copies(c, "acme/third")["nodes"], "there are two sources", PATIENCE_S)
    (damaged,) = (a.folder / "data" / "artifacts").rglob(f"{_copies(a, 'acme/third')['digest']}/model.onnx")
    _damage(damaged)
    b.deploy("acme/third", _model(3), "?on=c")
    until(lambda: _answers_itself(c, "acme/third", 3), "the copy answers", PATIENCE_S)
    assert f"{a.told['node_id'][:12]} is not asked for " in c.log.read_text()


def _damage(path: Path) -> None:
    """Every piece of it."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        for place in range(100_000, SIZE_BYTES, 200_000):
            file.seek(place)
            file.write(b"damaged")


def test_what_is_deleted_at_one_node_is_gone_from_a_node_that_was_away(mesh: Mesh) -> None:
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    b.deploy("acme/alone", _model(4))
    until(lambda: a.ask("GET", "/v1/models/acme/alone").status == 200, "it is known", PATIENCE_S)
    b.kill()
    until(lambda: "b" not in a.sees(), "the kill is seen", PATIENCE_S)
    assert a.ask("DELETE", "/v1/models/acme/first").json["deleted"] == ["1.0.0"]
    told = a.ask("DELETE", "/v1/models/acme/alone").json
    assert told == {"model": "acme/alone", "deleted": [], "later": {"1.0.0": ["b"]}}
    b.restart()
    mesh.wait_all_see_all()
    for model in ("acme/first", "acme/alone"):
        until(lambda model=model: b.ask("GET", f"/v1/models/{model}").status == 404, "it is deleted", PATIENCE_S)  # type: ignore[misc]
    artifacts = b.folder / "data" / "artifacts"
    until(lambda: len(list(artifacts.glob("*/*"))) == 2, "its bytes are gone", PATIENCE_S)

"""A running node is backed up and another becomes what it was, with the real command line and under calls."""

import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from models import doubling

from appliance.cli.main import run
from tests.conftest import RunningNode


def ingle(node: RunningNode, *arguments: object) -> int:
    """A verb that is told of the node and its admin key."""
    return run([*map(str, arguments), "--node", node.url, "--key", node.admin_key])


def names(node: RunningNode) -> list[str]:
    answer = requests.get(f"{node.url}/v1/models", headers=node.headers, timeout=60)
    return [row["model"] for row in answer.json()["models"]]


def call(node: RunningNode, name: str, key: str = "") -> requests.Response:
    headers = {"Authorization": f"Bearer {key or node.admin_key}"}
    return requests.post(f"{node.url}/v1/models/{name}", json=[1, 2], headers=headers, timeout=60)


def make_key(node: RunningNode, label: str, scope: str) -> str:
    wanted = {"label": label, "scopes": [scope]}
    return str(requests.post(f"{node.url}/v1/keys", json=wanted, headers=node.headers, timeout=60).json()["key"])


def test_a_node_moves_to_another_box_while_it_is_called(
    nodes: Callable[..., RunningNode], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = nodes(), nodes()
    model, saved = doubling(tmp_path / "doubling.onnx"), tmp_path / "saved.tar"
    for node, own in ((old, "me/old"), (new, "me/new")):
        for name in ("me/both", own):
            assert ingle(node, "deploy", model, "--name", name) == 0
    assert ingle(old, "alias", "me/old", "prod", "1.0.0") == 0
    key = make_key(old, "the camera", "call")
    ids = [(node.data_dir / "mesh.identity").read_text() for node in (old, new)]

    assert ingle(old, "backup", saved) == 0
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert list(tmp_path.glob(".*part")) == []

    stopped, statuses = threading.Event(), []

    def keep_calling() -> None:
        while not stopped.is_set():
            statuses.append(call(new, "me/both").status_code)

    caller = threading.Thread(target=keep_calling)
    caller.start()
    capsys.readouterr()
    assert ingle(new, "restore", saved, "--yes", "--json") == 0
    stopped.set()
    caller.join()
    assert set(statuses) == {200}
    assert json.loads(capsys.readouterr().out)["models"] == 2

    assert names(new) == names(old) == ["me/both", "me/old"]
    assert call(new, "me/old:prod", key).json()["outputs"] == {"y": [[2, 4]]}
    assert call(new, "me/new").status_code == 404
    assert call(new, "me/old").status_code == 200  # by the box's own admin key
    assert [(node.data_dir / "mesh.identity").read_text() for node in (old, new)] == ids


def test_a_restored_node_starts_again_as_it_was_restored(nodes: Callable[..., RunningNode], tmp_path: Path) -> None:
    node = nodes()
    saved, model = tmp_path / "saved.tar", doubling(tmp_path / "doubling.onnx")
    assert ingle(node, "deploy", model, "--name", "me/first") == 0
    assert ingle(node, "backup", saved) == 0
    assert ingle(node, "deploy", model, "--name", "me/second") == 0
    assert ingle(node, "restore", saved) == 0
    node.process.kill()
    node.process.wait()
    again = nodes(data_dir=node.data_dir)
    assert names(again) == ["me/first"]
    assert call(again, "me/first").status_code == 200


def test_a_backup_that_is_not_whole_is_refused_and_nothing_changes(
    nodes: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = nodes()
    saved, cut = tmp_path / "saved.tar", tmp_path / "cut.tar"
    model = doubling(tmp_path / "doubling.onnx")
    assert ingle(node, "backup", saved) == 0  # of a node with nothing
    assert ingle(node, "deploy", model, "--name", "me/kept") == 0
    whole = saved.read_bytes()
    for content in (whole[:-1536], whole[:5000], whole.replace(b"SQLite", b"Sqlite", 1), model.read_bytes()):
        cut.write_bytes(content)
        assert ingle(node, "restore", cut) == 6
    assert names(node) == ["me/kept"]
    assert call(node, "me/kept").status_code == 200
    assert list((node.data_dir / "incoming").iterdir()) == []
    assert list(node.data_dir.glob("swap.*")) == []


def test_only_who_administers_the_node_backs_up_and_restores(nodes: Callable[..., RunningNode]) -> None:
    node = nodes("--open")
    for key, status in ((make_key(node, "deployer", "deploy"), 403), ("", 401)):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        assert requests.get(f"{node.url}/v1/backup", headers=headers, timeout=60).status_code == status
        assert requests.post(f"{node.url}/v1/restore", b"x", headers=headers, timeout=60).status_code == status

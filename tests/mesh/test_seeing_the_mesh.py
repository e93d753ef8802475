"""What a person sees of a mesh of real nodes: `ingle mesh`, `ingle top --mesh`, `ingle doctor mesh`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.mesh.lan import ROOT, Lan
from tests.mesh.meshes import Mesh, MeshNode, until


def ingle(node: MeshNode, *arguments: str) -> Any:
    """The verb's JSON, on the node's own box and user."""
    environment = {**os.environ, "INGLE_DATA_DIR": str(node.folder / "data")}
    command = [sys.executable, "-m", "appliance.cli.main", *arguments, "--json"]
    with node.host.entered():
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_nodes_their_links_and_why_they_do_not_meet_are_seen(lan: Lan, tmp_path: Path) -> None:
    with Mesh(lan, tmp_path) as mesh:
        stranger = mesh.make("stranger", lan.host("stranger"), key=None)
        stranger.begin()
        a, b = mesh.start("a", "b")
        stranger.wait_ready()
        until(lambda: b.sees() == a.sees() == {"a", "b"}, "the two see each other")
        until(lambda: bool(a.ask("GET", "/v1/nodes").json["others"]), "the other mesh is in sight")
        told = ingle(a, "mesh")
        this, peer = told["nodes"]
        assert (this["name"], this["this"], this["mesh"]) == ("a", True, f"{a.host.ipv4}:8004")
        assert (peer["name"], peer["standing"], peer["mesh"]) == ("b", "alive", f"{b.host.ipv4}:8004")
        assert peer["link"]["rtt_s"] > 0
        assert [node["name"] for other in told["others"] for node in other["nodes"]] == ["stranger"]
        assert [node["name"] for node in ingle(b, "top", "--mesh")["nodes"]] == ["b", "a"]

        found = ingle(a, "doctor", "mesh")
        assert [one for one in found if one["verdict"] == "fail"] == []
        assert any(one["about"] == "another mesh" and "stranger" in one["sentence"] for one in found)
        assert any(one["about"].startswith("b (") and "this mesh's key" in one["sentence"] for one in found)
        (key,) = [one for one in ingle(stranger, "doctor", "mesh", a.host.ipv4) if one["verdict"] == "fail"]
        assert f"another mesh's key, {told['key_id']}" in key["sentence"]

        b.kill()
        until(lambda: a.nodes()["b"]["standing"] == "dead", "a dead node is told to be dead")

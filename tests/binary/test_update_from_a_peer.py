"""`ingle update --from-mesh` and `--from`: a box takes another's newer one file over the mesh's links, and runs it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.core.digests import file_digest
from appliance.workers.tiny_model import IDENTITY_MODEL
from tests.binary.conftest import wait_for
from tests.binary.releases import NEW, OLD
from tests.mesh.lan import Lan
from tests.mesh.meshes import PACKAGE, Mesh, MeshNode, until
from tests.mesh.namespaces import why_not

FAILED, NOT_FOUND, UNREACHABLE = 1, 3, 5


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    if reason := why_not():
        pytest.skip(f"no LAN can be made here: {reason}")
    with Lan() as lan, Mesh(lan, tmp_path) as made:
        yield made


def box(mesh: Mesh, name: str, release: Path | None) -> MeshNode:
    """A node with a copy of its own of a release; of none: from the installed package."""
    mesh.program = PACKAGE
    if release is not None:
        own = mesh.folder / name / "bin" / "ingle"
        own.parent.mkdir(parents=True)
        shutil.copy(release, own)
        mesh.program = (str(own),)
    return mesh.make(name, mesh.lan.host(name))


def command(node: MeshNode, *words: str) -> "subprocess.Popen[str]":
    """Begins `ingle WORDS` of a node's own file on its host."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INGLE_")}
    environment = {**kept, "INGLE_DATA_DIR": str(node.folder / "data")}
    words = (str(node.folder / "bin/ingle"), *words)
    with node.host.entered():
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ran(node: MeshNode, *words: str) -> tuple[int, str]:
    """What it ended with, and all that it said."""
    process = command(node, *words)
    said, error = process.communicate(timeout=120)
    return process.returncode, said + error


def version(of: MeshNode, seen_by: MeshNode) -> str:
    told = seen_by.ask("GET", "/v1/nodes").json["nodes"]
    return next((node["program"] or {}).get("version", "") for node in told if node["name"] == of.name)


def test_a_box_becomes_what_the_newest_of_the_mesh_runs(mesh: Mesh, old: Path, new: Path) -> None:
    behind, ahead, installed = box(mesh, "behind", old), box(mesh, "ahead", new), box(mesh, "installed", None)
    for node in (behind, ahead, installed):
        node.begin()
    for node in (behind, ahead, installed):
        node.wait_ready()
    mesh.wait_all_see_all()
    behind.deploy("local/same", IDENTITY_MODEL)
    until(lambda: (version(ahead, behind), version(behind, ahead)) == (NEW, OLD), "both tell what they run from")

    status, said = ran(ahead, "mesh")
    assert (status, f"behind: older than {NEW}, which ahead runs" in said) == (0, True)
    assert ran(behind, "update", "--from", "nobody")[0] == NOT_FOUND
    status, said = ran(behind, "update", "--from", "installed")
    assert (status, "o one file" in said) == (NOT_FOUND, True)

    pid = behind.told["pid"]
    status, said = ran(behind, "update", "--from-mesh")
    assert (status, f"Fetching {NEW} of ahead" in said, f"is {NEW} now, and the node runs it" in said) == (
        0,
        True,
        True,
    )
    behind.wait_ready()
    assert (behind.told["version"], behind.told["pid"]) == (NEW, pid)
    assert file_digest(behind.folder / "bin/ingle") == file_digest(new)
    assert behind.call("local/same", {"x": [0.5]}).json["outputs"] == {"y": [0.5]}
    until(lambda: version(behind, ahead) == NEW, "others see what it has become")
    status, said = ran(behind, "update", "--from-mesh")
    assert (status, "has a newer one" in said) == (0, True)


def test_a_peer_that_dies_while_it_sends_leaves_the_box_as_it_was_and_a_second_try_goes_on(
    mesh: Mesh, old: Path, new: Path
) -> None:
    behind, ahead = box(mesh, "behind", old), box(mesh, "ahead", new)
    for node in (behind, ahead):
        node.begin()
    for node in (behind, ahead):
        node.wait_ready()
    mesh.wait_all_see_all()
    until(lambda: version(ahead, behind) == NEW, "it tells what it runs from")
    mesh.lan.rate(ahead.host, 1e7)  # the whole takes some seconds

    updating = command(behind, "update", "--from", "ahead")
    wait_for(lambda: behind.ask("GET", "/v1/program").json.get("done_bytes", 0) > 2e7)
    ahead.kill()
    _, error = updating.communicate(timeout=120)
    assert "ahead went out of reach" in error
    assert updating.returncode == UNREACHABLE
    assert file_digest(behind.folder / "bin/ingle") == file_digest(old)
    assert version(behind, behind) == OLD

    mesh.lan.rate(ahead.host, 0)
    ahead.restart()
    mesh.wait_all_see_all()
    until(lambda: version(ahead, behind) == NEW, "it tells again what it runs from")
    came = mesh.lan.sent_bytes()["ahead"]
    assert ran(behind, "update", "--from", "ahead")[0] == 0
    assert mesh.lan.sent_bytes()["ahead"] - came < new.stat().st_size - 1e7
    assert file_digest(behind.folder / "bin/ingle") == file_digest(new)

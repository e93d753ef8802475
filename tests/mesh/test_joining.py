"""The first minutes of someone with three boxes: real nodes on hosts of a LAN, and the command line on each."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.mesh.lan import ROOT, Lan
from tests.mesh.meshes import Mesh, MeshNode, until

CODE = re.compile(r"\b[0-9A-Z]{3}-[0-9A-Z]{3}-[0-9A-Z]{3}\b")


class Said(NamedTuple):
    status: int
    out: str
    err: str


def command(node: MeshNode, *words: str) -> "subprocess.Popen[str]":
    """The command line on this node's host, as the node's owner."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INGLE_")}
    environment |= {"INGLE_DATA_DIR": str(node.folder / "data"), "INGLE_NAME": node.name, "COLUMNS": "200"}
    with node.host.entered():
        return subprocess.Popen(
            [sys.executable, "-m", "appliance.cli.main", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def ingle(node: MeshNode, *words: str) -> Said:
    process = command(node, *words)
    out, err = process.communicate(timeout=60)
    return Said(process.returncode, out, err)


def boxes(mesh: Mesh, *names: str) -> list[MeshNode]:
    """Nodes that were told nothing, ready."""
    made = [mesh.make(name, mesh.lan.host(name), key=None) for name in names]
    for node in made:
        node.begin()
    for node in made:
        node.wait_ready()
    return made


def key_of(node: MeshNode) -> str:
    return str(node.ask("GET", "/v1/mesh").json["key_id"])


def test_boxes_become_one_mesh_by_codes_and_change_it_while_they_run(lan: Lan, tmp_path: Path) -> None:
    with Mesh(lan, tmp_path) as mesh:
        cellar, attic = boxes(mesh, "cellar", "attic")
        assert key_of(cellar) != key_of(attic)
        until(lambda: "another mesh is in sight: cellar" in attic.log.read_text(), "the other mesh is told of")

        # A code, typed in small letters; whoever waits for it is told.
        waiting = command(cellar, "mesh", "invite")
        assert waiting.stdout is not None
        found = CODE.search(waiting.stdout.readline())
        assert found is not None
        joined = ingle(attic, "mesh", "join", found[0].lower())
        assert (joined.status, "Joined the mesh of 'cellar'" in joined.out) == (0, True), joined
        out, _ = waiting.communicate(timeout=60)
        assert "'attic' joined from" in out
        assert waiting.returncode == 0
        until(lambda: cellar.sees() == attic.sees() == {"cellar", "attic"}, "the two see each other")

        # A box whose node does not run yet, told where to go.
        garden = mesh.make("garden", lan.host("garden"), key=None)
        garden.folder.mkdir()
        invited = json.loads(ingle(attic, "mesh", "invite", "--json").out)
        wrong = ingle(garden, "mesh", "join", invited["label"] + "000000", invited["addresses"][0])
        assert (wrong.status, "code is wrong" in wrong.err) == (4, True), wrong
        joined = ingle(garden, "mesh", "join", invited["code"], invited["addresses"][0])
        assert joined.status == 0, joined
        garden.restart()
        mesh.wait_all_see_all()

        # The key changes, and nobody is lost.
        before = key_of(cellar)
        rotated = ingle(garden, "mesh", "key", "rotate")
        assert "on all nodes that are up" in rotated.out, rotated
        assert len({key_of(node) for node in (cellar, attic, garden)} | {before}) == 2
        shown = ingle(garden, "mesh", "key", "--show")
        assert re.fullmatch(r"[0-9a-f]{64}\n", shown.out), shown

        # One is thrown out, and stays out when it starts again.
        gone = ingle(cellar, "mesh", "revoke", "attic", "--why", "lost on a train", "--yes")
        assert gone.status == 0, gone
        until(lambda: cellar.sees() == garden.sees() == {"cellar", "garden"}, "the lost box is out")
        attic.kill()
        attic.restart()
        invited = json.loads(ingle(garden, "mesh", "invite", "--json").out)
        refused = ingle(attic, "mesh", "join", invited["code"], "--leave")
        assert (refused.status, "revoked" in refused.err) == (4, True), refused
        assert cellar.sees() == garden.sees() == {"cellar", "garden"}

        # One leaves by itself.
        refused = ingle(garden, "mesh", "join", "AAA-AAA-AAA")
        assert (refused.status, "would leave it: say --leave" in refused.err) == (6, True), refused
        left = ingle(garden, "mesh", "leave")
        assert left.status == 0, left
        until(lambda: cellar.sees() == {"cellar"} and garden.sees() == {"garden"}, "each is alone")


def test_a_node_whose_key_its_owner_named_says_that_it_would_come_back(lan: Lan, tmp_path: Path) -> None:
    with Mesh(lan, tmp_path) as mesh:
        (node,) = mesh.start("cellar")
        for words in (("leave",), ("join", "AAA-AAA-AAA")):
            said = ingle(node, "mesh", *words)
            assert (said.status, "start it without that first" in said.err) == (6, True), said

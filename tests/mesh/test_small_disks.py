"""Copies that the mesh made give way on real nodes whose disks are short of room, and never the last one."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from federation.messages import Order, Ordered, Record
from tests.mesh.lan import Lan
from tests.mesh.large_models import product
from tests.mesh.members import Member, member
from tests.mesh.meshes import PACKAGE, Mesh, MeshNode, NodeError, until

MIB = 2**20
SIZE = 2048
SIZE_BYTES = SIZE * SIZE * 4  # of a model, about
DISK_BYTES = 320 * MIB
KEPT_FREE_BYTES = 64 * MIB  # by every upload
# The node's data folder is a file system of its own, which goes with the node's last process.
ON_A_DISK_OF_ITS_OWN = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"',
    "sh",
)


class SmallNode(MeshNode):
    """A node whose disk the test sees as the node does."""

    @property
    def data(self) -> Path:
        return Path(f"/proc/{self._process.pid}/root") / str(self.folder / "data").lstrip("/")

    @property
    def admin_key(self) -> str:
        return (Path(f"/proc/{self._process.pid}/root") / self.told["admin_key_file"].lstrip("/")).read_text().strip()

    def leave_free(self, size_bytes: int) -> None:
        """So much of its disk, whatever is there: the rest is filled by somebody else."""
        ballast = self.data / "ballast"
        ballast.unlink(missing_ok=True)
        disk = os.statvfs(self.data)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - size_bytes)

    def called_long_ago(self) -> None:
        """Nobody has called what lies here for an hour."""
        then_s = time.time() - 3600
        for artifact in (self.data / "artifacts").glob("*/*"):
            os.utime(artifact, (then_s, then_s))

    def has(self, digest: str) -> bool:
        return (self.data / "artifacts" / digest[:2] / digest).exists()


class Nodes(NamedTuple):
    """`first` keeps as much of its disk free as is usual, which is more than it has; the `others` keep nothing so."""

    first: SmallNode
    others: list[SmallNode]
    member: Member


def small_node(mesh: Mesh, name: str, keep_free: str) -> SmallNode:
    folder = mesh.folder / name
    (folder / "data").mkdir(parents=True)
    program = (*ON_A_DISK_OF_ITS_OWN, str(DISK_BYTES), str(folder / "data"), *PACKAGE)
    # No call shall have copies made.
    flags = ("--open", "--federation-spread", "false", "--federation-keep-free", keep_free)
    made = mesh.nodes[name] = SmallNode(name, mesh.lan.host(name), folder, mesh.key, flags, program)
    return made


@pytest.fixture(scope="module")
def nodes(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Lan() as lan, Mesh(lan, tmp_path_factory.mktemp("room")) as mesh:
        made = [small_node(mesh, name, keep_free) for name, keep_free in (("a", "1GiB"), ("b", "0"), ("c", "0"))]
        for node in made:
            node.begin()
        for node in made:
            node.wait_ready()
        with member(mesh, lan.host("m"), mesh.folder / "m", made) as met:
            mesh.wait_all_see_all()
            yield Nodes(made[0], made[1:], met)


def model(seed: int) -> bytes:
    matrix = np.random.default_rng(seed).standard_normal((SIZE, SIZE)).astype(np.float32)
    return product(matrix)


def holders(nodes: Nodes, name: str) -> set[str]:
    """The nodes that tell the mesh that they hold it, by name."""
    view, peers = nodes.member.shell.view, nodes.member.shell.by_id
    return nodes.member.do(lambda: {peers[node_id].name for node_id in view.holders(name) if node_id in peers})


def order(nodes: Nodes, node: MeshNode, act: str, model: str) -> Ordered:
    """What a node says to an order of a peer."""
    nodes.member.say(node, Order(1, act, model, "1.0.0"))
    _, ordered = nodes.member.hears()
    assert isinstance(ordered, Ordered)
    return ordered


def knows(node: MeshNode, name: str) -> None:
    until(lambda: node.ask("GET", f"/v1/models/{name}").status == 200, f"{node.name} knows {name}")


def copied(nodes: Nodes, name: str, *to: SmallNode) -> None:
    """Nodes have made copies as a peer's callers would have them, and nobody has called those for long."""
    for node in to:
        node.leave_free(KEPT_FREE_BYTES + 4 * SIZE_BYTES)
        knows(node, name)
        assert order(nodes, node, "fetch", name).code == ""
    until(lambda: holders(nodes, name) >= {node.name for node in to}, f"{name} has its copies")
    for node in to:
        node.called_long_ago()
        node.leave_free(KEPT_FREE_BYTES + SIZE_BYTES // 2)


def is_refused(node: MeshNode, name: str, upload: bytes) -> bool:
    """Whether a deploy finds no room. It does not stay where it does."""
    try:
        node.deploy(name, upload)
    except NodeError as error:
        if "does not fit" not in str(error):
            raise
        return True
    node.ask("DELETE", f"/v1/models/{name}")
    return False


def test_a_copy_that_the_mesh_made_gives_way_to_a_deploy_and_none_is_made_unasked_without_room(nodes: Nodes) -> None:
    (one, other), first = nodes.others, nodes.first
    first.deploy("acme/first", model(1))
    copied(nodes, "acme/first", one, other)
    one.deploy("acme/second", model(2))
    until(lambda: holders(nodes, "acme/first") == {"a", "c"}, "the copy is gone from that node alone")
    knows(first, "acme/second")
    refused = order(nodes, first, "fetch", "acme/second")
    assert (refused.code, "that are kept free" in refused.sentence) == ("unavailable", True), refused
    for name in ("acme/first", "acme/second"):
        one.ask("DELETE", f"/v1/models/{name}")


def test_of_the_last_copies_one_stays_until_another_node_says_that_it_keeps_its_own(nodes: Nodes) -> None:
    name, said = "acme/last", nodes.member
    nodes.first.deploy(name, model(3))
    copied(nodes, name, *nodes.others)
    record = next(said.do(lambda: said.shell.view.records(name)))

    # Both are in the way of a deploy at the same moment, and the node where it was deployed is dead.
    nodes.first.kill()
    for node in nodes.others:
        until(lambda node=node: "a" not in node.sees(), f"{node.name} knows that a node is dead")
    with ThreadPoolExecutor() as threads:
        deploys = [threads.submit(is_refused, node, f"acme/on-{node.name}", model(4)) for node in nodes.others]
    keeping = [node for node, deploy in zip(nodes.others, deploys, strict=True) if deploy.result()]
    assert keeping
    until(lambda: holders(nodes, name) == {node.name for node in keeping}, "copies are where no room was made")
    assert [node.has(record.digest) for node in nodes.others] == [node in keeping for node in nodes.others]

    # One node is left, and a peer, the test, that says that it has the model too.
    node = keeping[0]
    for other in nodes.others:
        if other is not node:
            other.kill()
    said.do(lambda: said.shell.set_holdings([record]))
    until(lambda: node.sees() == {node.name, "m"}, "the others are dead")
    for answer in ("conflict", "unsupported"):
        assert asked_to_keep(nodes, node, record, lambda answer=answer: answer) == (True, True)

    def it_wants_the_same() -> str:
        gave_way.append(not order(nodes, node, "keep", name).code)
        return ""

    gave_way: list[bool] = []
    refused, stays = asked_to_keep(nodes, node, record, it_wants_the_same)
    assert refused == stays == gave_way[0]
    if stays:
        assert asked_to_keep(nodes, node, record, lambda: "") == (False, False)


def asked_to_keep(nodes: Nodes, node: SmallNode, record: Record, answer: Callable[[], str]) -> tuple[bool, bool]:
    """Whether a deploy is refused, and the copy stays that is in its way, where the test is asked whether it keeps its
    own, and answers with this code."""
    with ThreadPoolExecutor() as threads:
        deploying = threads.submit(is_refused, node, "acme/large", model(0))
        _, asked = nodes.member.hears()
        assert isinstance(asked, Order)
        assert (asked.act, asked.model, asked.digest) == ("keep", record.name, record.digest)
        code = answer()
        nodes.member.say(node, Ordered(asked.number, code, code))
        return deploying.result(), node.has(record.digest)

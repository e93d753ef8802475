"""What benchmarks of the mesh share: nodes on a LAN of network namespaces, a host for callers, a model on some of them.

Runs in the benchmark's process. The LAN and the nodes are the tests' (tests/mesh), which need root.
"""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.calls import Call, call_of
from benchmarks.measured import LoadError
from benchmarks.mesh_load import LoadReport, MeshLoad, plan_of
from benchmarks.models import tiny
from tests.mesh.lan import Host, Lan
from tests.mesh.meshes import Mesh, MeshNode, until
from tests.mesh.namespaces import why_not

MBIT_PER_S = 1e6 / 8


@dataclass(frozen=True)
class Meshed:
    """A mesh that is measured. `callers` is a host with no node; `folder` is gone at the end."""

    lan: Lan
    mesh: Mesh
    callers: Host
    folder: Path

    def tiny_call(self) -> tuple[bytes, Call]:
        """The tiny model's file, and a call of it."""
        file = tiny.write(self.folder)
        return file.read_bytes(), call_of(tiny, file)

    def load(self, urls: Iterable[str], call: Call, due_s: list[float], *, deadline_s: float = 10.0) -> MeshLoad:
        return MeshLoad(self.callers, plan_of(list(urls), call, due_s, deadline_s=deadline_s))


@contextlib.contextmanager
def on_a_lan() -> Iterator[Meshed]:
    """A LAN with nothing on it but the callers' host. Raises LoadError where none can be made."""
    if reason := why_not():
        raise LoadError(f"no LAN can be made here: {reason}")
    with tempfile.TemporaryDirectory() as name, Lan() as lan, Mesh(lan, Path(name)) as mesh:
        yield Meshed(lan, mesh, lan.host("callers"), Path(name))


def place(model: str, upload: bytes, nodes: Sequence[MeshNode]) -> None:
    """Deploys the model on the first of these nodes with a wish for copies on all of them, and waits for those."""
    names = [node.name for node in nodes]
    nodes[0].deploy(model, upload, f"?on={','.join(names)}")
    until(lambda: copies_of(model, nodes[0]) >= set(names), f"{model} lies on {', '.join(names)}", 60)


def copies_of(model: str, asked: MeshNode) -> set[str]:
    """The names of the nodes that have a copy, as one node knows it."""
    found = asked.ask("GET", f"/v1/copies?model={model}").json["copies"]
    return {name for version in found for name in version["nodes"]}


def answers_everywhere(model: str, nodes: Iterable[MeshNode]) -> None:
    """Returns once each node would answer for the model, from wherever."""

    def answers(node: MeshNode) -> bool:
        return node.ask("GET", f"/v2/models/{model}/ready").status == 200

    for node in nodes:
        until(partial(answers, node), f"{node.name} answers for {model}")


def warm(call: Call, entry: MeshNode, nodes: Iterable[MeshNode]) -> None:
    """Calls through `entry` until each of these nodes has answered one."""

    def answered(node: MeshNode) -> bool:
        pinned = {"X-Ingle-Pin": f"node:{node.name}"}
        return entry.call(call.name, {"x": call.row.tolist()}, pinned).status == 200

    for node in nodes:
        until(partial(answered, node), f"{node.name} answers for {call.name}")


def milliseconds(value_s: float) -> str:
    return f"{value_s * 1e3:,.1f}"


def settled(report: LoadReport, what: str) -> LoadReport:
    """The report, none of whose calls is lost. Raises LoadError where one is."""
    if report.lost:
        raise LoadError(f"{what}: {len(report.lost)} of {len(report.calls)} calls were lost: {report.lost[0].fault}")
    return report

"""Where calls go in a mesh of five boxes of unlike delays and speeds: `python -m benchmarks.mesh_routing`.

Each node is a real one with its own copy of the model, whose runs are drawn out by sleeping (sleeping_runtime), since
five boxes' computing does not fit two cores; batching is off and a node has one replica, so that a run is a run. Calls
that know nothing of each other come to one of the five at a share of what all can do. Set against an oracle that
replays the same arrivals with perfect knowledge (mesh_oracle; what a call takes on each idle node is measured first),
and against the same calls sent to each node in its turn, by pinning them.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.calls import Call
from benchmarks.measured import LoadError
from benchmarks.mesh_load import LoadReport, MeshLoad, at_random, evenly, plan_of
from benchmarks.mesh_oracle import Site, oracle
from benchmarks.meshed import Meshed, answers_everywhere, milliseconds, on_a_lan, place, settled
from benchmarks.report import Section, verdict, write_section
from tests.mesh.meshes import MeshNode

_SECONDS = 60.0
_SHARE = 0.6  # of what all nodes can do
_DEADLINE_S = 60.0  # round robin builds queues
_SEED = 11
_IDLE_CALLS = 40
_IDLE_PER_S = 10.0
_GOAL_MEAN, _GOAL_P99, _GOAL_ROUND_ROBIN = 2.0, 3.0, 5.0


@dataclass(frozen=True)
class Box:
    """A node's delay from the entry node, one way, and how long its runs take."""

    delay_s: float
    run_s: float


BOXES = (Box(0.0, 0.040), Box(0.001, 0.010), Box(0.005, 0.015), Box(0.010, 0.020), Box(0.020, 0.010))
_FLAGS = ("--open", "--workers-max-batch", "1", "--routing-max-replicas", "1")


def _start(meshed: Meshed, boxes: Sequence[Box]) -> list[MeshNode]:
    """The first is the entry. Delays are between all pairs: what each has to the entry, added up."""
    nodes = []
    for number, box in enumerate(boxes):
        runtime = Path(meshed.folder, f"runtime{number}")
        shutil.copytree(Path(__file__).with_name("sleeping_runtime"), runtime)
        Path(runtime, "run_s.json").write_text(json.dumps(box.run_s))
        node = meshed.mesh.make(f"n{number}", meshed.lan.host(f"n{number}"), flags=_FLAGS)
        node.begin(environment={"PYTHONPATH": str(runtime)})
        nodes.append(node)
    for node in nodes:
        node.wait_ready()
    meshed.mesh.wait_all_see_all()
    for node, box in zip(nodes, boxes, strict=True):
        for other, further in zip(nodes, boxes, strict=True):
            if other is not node:
                meshed.lan.link(node.host, other.host, delay_s=box.delay_s + further.delay_s)
    return nodes


def _calls(meshed: Meshed, entry: MeshNode, call: Call, due_s: Sequence[float], pins: Sequence[str]) -> LoadReport:
    plan = plan_of([entry.url], call, due_s, deadline_s=_DEADLINE_S)
    plan.pins = list(pins)
    with MeshLoad(meshed.callers, plan) as load:
        return settled(load.report(), "without a fault")


def _site(meshed: Meshed, entry: MeshNode, node: MeshNode, box: Box, call: Call) -> Site:
    """What a call takes on a node that has nothing else to do; what is neither its run nor its way back is its way
    there. A run takes as long as the node says, which on a busy machine is longer than it should sleep."""
    before = _runs(node, call)
    report = _calls(meshed, entry, call, evenly(_IDLE_PER_S, _IDLE_CALLS / _IDLE_PER_S), [f"node:{node.name}"])
    count, took_ns = (after - earlier for after, earlier in zip(_runs(node, call), before, strict=True))
    if report.answered_by() != {node.name: _IDLE_CALLS}:
        raise LoadError(f"calls that were pinned to {node.name} were answered by {dict(report.answered_by())}")
    run_s = took_ns / count / 1e9
    return Site(max(0.0, report.centile_s(50) - run_s - box.delay_s), run_s, box.delay_s)


def _runs(node: MeshNode, call: Call) -> tuple[int, int]:
    """How many runs a node has had of the model, and how many nanoseconds they took."""
    (told,) = node.ask("GET", f"/v2/models/{call.name}/stats").json["model_stats"]
    runs = told["inference_stats"]["compute_infer"]
    return runs["count"], runs["ns"]


def _figures(took_s: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(took_s)
    return sum(ordered) / len(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def measure(seconds: float = _SECONDS, boxes: Sequence[Box] = BOXES) -> Section:
    """The mesh's own choice, then round robin, then the oracle's replay."""
    with on_a_lan() as meshed:
        nodes = _start(meshed, boxes)
        entry = nodes[0]
        upload, call = meshed.tiny_call()
        place(call.name, upload, nodes)
        answers_everywhere(call.name, nodes)
        pins = [f"node:{node.name}" for node in nodes]
        sites = [_site(meshed, entry, node, box, call) for node, box in zip(nodes, boxes, strict=True)]
        rate_per_s = _SHARE * sum(1 / box.run_s for box in boxes)
        due_s = at_random(rate_per_s, seconds, _SEED)
        chosen = _calls(meshed, entry, call, due_s, [])
        in_turn = _calls(meshed, entry, call, due_s, pins)
    figures = {
        "the mesh's choice": _figures([outcome.took_s for outcome in chosen.calls]),
        "each node in its turn": _figures([outcome.took_s for outcome in in_turn.calls]),
        "the oracle's replay": _figures(oracle(due_s, sites)),
    }
    shares = chosen.answered_by()
    mean_s, p99_s = figures["the oracle's replay"]
    in_turn_p99_s = figures["each node in its turn"][1]
    own_mean_s, own_p99_s = figures["the mesh's choice"]
    described = ", ".join(
        f"{box.delay_s * 1e3:.0f} ms away and {box.run_s * 1e3:.0f} ms a run ({shares[node.name] / len(due_s):.0%})"
        for node, box in zip(nodes, boxes, strict=True)
    )
    return Section(
        "mesh_routing",
        f"Five nodes, and what share of the calls each got: {described}. {rate_per_s:.0f} calls a second at random, "
        f"{_SHARE:.0%} of what all can do, for {seconds:.0f} s.",
        ("", "mean, ms", "p99, ms"),
        [(what, *map(milliseconds, pair)) for what, pair in figures.items()],
        [
            verdict("mean over the oracle's", own_mean_s / mean_s, _GOAL_MEAN, at_most=True),
            verdict("p99 over the oracle's", own_p99_s / p99_s, _GOAL_P99, at_most=True),
            verdict("p99 of each in its turn over the mesh's", in_turn_p99_s / own_p99_s, _GOAL_ROUND_ROBIN),
        ],
    )


if __name__ == "__main__":
    write_section(measure())

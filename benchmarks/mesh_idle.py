"""What a mesh costs that does nothing: `python -m benchmarks.mesh_idle`.

Ten nodes that see each other, with a model on each of three, left alone: processor time of all of a node's processes,
from /proc, and what each sends into the LAN, from the switch, Ethernet's heads included.
"""

import time

from benchmarks.measured import median_of_numbers
from benchmarks.meshed import answers_everywhere, on_a_lan, place
from benchmarks.report import Section, verdict, write_section
from tests.mesh.meshes import MeshNode

_NODES = 10
_REST_S = 10.0
_SECONDS = 30.0
_GOAL_PERCENT, _GOAL_KB_PER_S = 1.5, 10.0


def _processor_s(node: MeshNode) -> float:
    times = [process.cpu_times() for process in node.processes()]
    return sum(each.user + each.system for each in times)


def measure(count: int = _NODES, rest_s: float = _REST_S, seconds: float = _SECONDS) -> Section:
    """Once, after a rest."""
    with on_a_lan() as meshed:
        nodes = meshed.mesh.start(*(f"n{number}" for number in range(count)))
        meshed.mesh.wait_all_see_all(60)
        upload, call = meshed.tiny_call()
        place(call.name, upload, nodes[:3])
        answers_everywhere(call.name, nodes)
        time.sleep(rest_s)
        cpu_s, sent, began_s = {n.name: _processor_s(n) for n in nodes}, meshed.lan.sent_bytes(), time.monotonic()
        time.sleep(seconds)
        elapsed_s = time.monotonic() - began_s
        shares = [(_processor_s(node) - cpu_s[node.name]) / elapsed_s for node in nodes]
        rates = [(meshed.lan.sent_bytes()[node.name] - sent[node.name]) / elapsed_s for node in nodes]
    return Section(
        "mesh_idle",
        f"{count} idle nodes for {seconds:.0f} s; all of a node's processes together.",
        ("", "median", "largest"),
        [
            ("share of a core", *(f"{value:.2%}" for value in (median_of_numbers(shares), max(shares)))),
            ("sent, kB a second", *(f"{value / 1e3:.2f}" for value in (median_of_numbers(rates), max(rates)))),
        ],
        [
            verdict(
                "processor time of an idle node, % of a core, largest", max(shares) * 100, _GOAL_PERCENT, at_most=True
            ),
            verdict("sent by an idle node, kB a second, largest", max(rates) / 1e3, _GOAL_KB_PER_S, at_most=True),
        ],
    )


if __name__ == "__main__":
    write_section(measure())

"""How soon nodes see each other: `python -m benchmarks.mesh_sight`.

Five nodes are started at once on a LAN; the time from the moment the last one is ready until each sees all. Then a
sixth, from its being ready until it sees all and all see it. Nodes are asked over HTTP, one after the other.
"""

import time
from collections.abc import Sequence

from benchmarks.measured import median_of_numbers
from benchmarks.meshed import milliseconds, on_a_lan
from benchmarks.report import Section, verdict, write_section
from tests.mesh.meshes import MeshNode, until

_ROUNDS = 5
_NODES = 5
_GOAL_S = 1.0


def _all_see_all(nodes: Sequence[MeshNode], ready_s: float) -> float:
    names = {node.name for node in nodes}
    blind = list(nodes)

    def seen() -> bool:
        blind[:] = [node for node in blind if not node.sees() >= names]
        return not blind

    until(seen, "all nodes see each other")
    return time.time() - ready_s


def measure(rounds: int = _ROUNDS, count: int = _NODES) -> Section:
    """Rounds of a new mesh each."""
    first_s, later_s = [], []
    for _ in range(rounds):
        with on_a_lan() as meshed:
            nodes = meshed.mesh.start(*(f"n{number}" for number in range(count)))
            first_s.append(_all_see_all(nodes, max(node.ready_since_s for node in nodes)))
            (later,) = meshed.mesh.start("later")
            later_s.append(_all_see_all([*nodes, later], later.ready_since_s))
    rows = [
        (what, milliseconds(median_of_numbers(took_s)), milliseconds(max(took_s)))
        for what, took_s in ((f"{count} nodes at once", first_s), ("one more", later_s))
    ]
    return Section(
        "mesh_sight",
        f"From the ready file of the last node until each sees all, {rounds} rounds.",
        ("", "median, ms", "longest, ms"),
        rows,
        [
            verdict(f"{count} nodes see each other, s, longest", max(first_s), _GOAL_S, at_most=True),
            verdict("one more is seen by all and sees all, s, longest", max(later_s), _GOAL_S, at_most=True),
        ],
    )


if __name__ == "__main__":
    write_section(measure())

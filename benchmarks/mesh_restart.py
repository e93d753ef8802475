"""A rolling restart under load: `python -m benchmarks.mesh_restart`.

Five nodes, a model with copies on three of them, 200 calls a second through the Python client that knows all five. One
after the other is ended as a person would end it, started again, and seen by all before the next one's turn.
"""

from benchmarks.mesh_load import evenly
from benchmarks.meshed import answers_everywhere, milliseconds, on_a_lan, place
from benchmarks.report import Section, verdict, write_section

_NODES = 5
_COPIES = 3
_RATE_PER_S = 200.0
_SECONDS_A_NODE = 10.0
_PATIENCE_S = 600.0


def measure(count: int = _NODES, seconds_a_node: float = _SECONDS_A_NODE) -> Section:
    """One run over all nodes; it lasts as long as they take."""
    with on_a_lan() as meshed:
        nodes = meshed.mesh.start(*(f"n{number}" for number in range(count)))
        meshed.mesh.wait_all_see_all()
        upload, call = meshed.tiny_call()
        place(call.name, upload, nodes[:_COPIES])
        answers_everywhere(call.name, nodes)
        due_s = evenly(_RATE_PER_S, _PATIENCE_S)
        with meshed.load([node.url for node in nodes], call, due_s) as load:
            for number, node in enumerate(nodes):
                load.wait_s(seconds_a_node * (number + 0.1))
                node.stop()
                node.restart()
                meshed.mesh.wait_all_see_all()
            load.wait_s(seconds_a_node * count)
            report = load.finish()
    row = (
        str(count),
        str(len(report.calls)),
        str(len(report.lost)),
        *(milliseconds(report.centile_s(centile)) for centile in (50, 99, 99.9, 100)),
    )
    return Section(
        "mesh_restart",
        f"Tiny model, {_COPIES} copies, {_RATE_PER_S:.0f} calls a second in open loop through the client that knows "
        f"all {count} nodes, which are restarted one after the other.",
        ("nodes", "calls", "lost", "p50, ms", "p99, ms", "p99.9, ms", "longest, ms"),
        [row],
        [verdict("calls lost in a rolling restart", len(report.lost), 0, at_most=True)],
    )


if __name__ == "__main__":
    write_section(measure())

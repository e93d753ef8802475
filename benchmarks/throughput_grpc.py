"""Calls a second over gRPC, tiny model, 32 callers: `python -m benchmarks.throughput_grpc`.

The node against a bare grpc.aio server of one process on the same stubs that calls the session inline.
"""

import tempfile
from pathlib import Path

from benchmarks.calls import call_of
from benchmarks.grpc_load import grpc_load
from benchmarks.measured import Measured
from benchmarks.models import tiny
from benchmarks.processes import bare_server, node
from benchmarks.report import Section, verdict, write_section
from benchmarks.throughput import COLUMNS, CONCURRENCY, SECONDS, compare, rows_of

_GOAL = 0.9


def measure() -> Section:
    """Rounds of bare server and node in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny.write(folder)
        call = call_of(tiny, model)
        message = call.grpc_message()
        with node([model], folder) as served, bare_server("bare_grpc", model, folder) as bare:

            def by_grpc(address: str) -> Measured:
                return grpc_load(address, message, call.check_grpc, concurrency=CONCURRENCY, seconds=SECONDS)

            turns, ratios = compare(
                {"bare, gRPC": lambda: by_grpc(bare), "node, gRPC": lambda: by_grpc(served.grpc)},
                {"node, gRPC": "bare, gRPC"},
            )
    return Section(
        "throughput_grpc",
        f"Tiny model, {CONCURRENCY} callers on eight connections, load generator included in the cores; ratio to "
        "the bare server.",
        COLUMNS,
        rows_of(turns, ratios),
        [verdict("throughput over gRPC", ratios["node, gRPC"].median, _GOAL)],
    )


if __name__ == "__main__":
    write_section(measure())

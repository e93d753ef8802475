"""Calls a second over HTTP, tiny model, 32 callers: `python -m benchmarks.throughput_http`.

The node against a bare aiohttp server of one process that calls the session inline, over V2 JSON and V2 binary.
"""

import tempfile
from pathlib import Path

from benchmarks.calls import call_of
from benchmarks.http_load import http_load
from benchmarks.measured import Measured
from benchmarks.models import tiny
from benchmarks.processes import bare_server, node
from benchmarks.report import Section, verdict, write_section
from benchmarks.throughput import COLUMNS, CONCURRENCY, SECONDS, compare, rows_of

_GOAL = 1.0


def measure() -> Section:
    """Rounds of bare server and node in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny.write(folder)
        call = call_of(tiny, model)
        with node([model], folder) as served, bare_server("bare_http", model, folder) as bare:

            def by_json(address: str) -> Measured:
                return http_load(
                    address, call.json_request(address), call.check_json, concurrency=CONCURRENCY, seconds=SECONDS
                )

            def by_binary(address: str) -> Measured:
                return http_load(
                    address, call.binary_request(address), call.check_binary, concurrency=CONCURRENCY, seconds=SECONDS
                )

            turns, ratios = compare(
                {
                    "bare, JSON": lambda: by_json(bare),
                    "node, JSON": lambda: by_json(served.http),
                    "bare, binary": lambda: by_binary(bare),
                    "node, binary": lambda: by_binary(served.http),
                },
                {"node, JSON": "bare, JSON", "node, binary": "bare, binary"},
            )
    return Section(
        "throughput_http",
        f"Tiny model, {CONCURRENCY} callers in a closed loop, load generator included in the cores; ratio to the bare "
        "server.",
        COLUMNS,
        rows_of(turns, ratios),
        [verdict("throughput over V2 JSON", ratios["node, JSON"].median, _GOAL)],
    )


if __name__ == "__main__":
    write_section(measure())

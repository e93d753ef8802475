"""Calls a second of a node with two front processes over one with one: `python -m benchmarks.fronts`.

Tiny model, 32 callers, V2 JSON and gRPC. Two fronts, the main process, a worker and the load generator want a core
each: on fewer than four cores the ratio says what the second front costs and not what it brings, so it is shown, and no
verdict is given.
"""

import os
import tempfile
from pathlib import Path

from benchmarks.calls import call_of
from benchmarks.grpc_load import grpc_load
from benchmarks.http_load import http_load
from benchmarks.measured import Measured
from benchmarks.models import tiny
from benchmarks.processes import node
from benchmarks.report import Section, verdict, write_section
from benchmarks.throughput import COLUMNS, CONCURRENCY, ROUNDS, SECONDS, compare, rows_of

_GOAL = 1.6
_CORES = 4
_WIRES = ("JSON", "gRPC")


def measure(*, rounds: int = ROUNDS, seconds: float = SECONDS) -> Section:
    """Rounds of one front and two in turn, each wire by itself."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny.write(folder)
        call = call_of(tiny, model)
        message = call.grpc_message()
        folders = [folder / "one", folder / "two"]
        for made in folders:
            made.mkdir()
        with node([model], folders[0]) as one, node([model], folders[1], {"INGLE_FRONTS": "2"}) as two:

            def by_json(address: str) -> Measured:
                request = call.json_request(address)
                return http_load(address, request, call.check_json, concurrency=CONCURRENCY, seconds=seconds)

            def by_grpc(address: str) -> Measured:
                return grpc_load(address, message, call.check_grpc, concurrency=CONCURRENCY, seconds=seconds)

            turns, ratios = compare(
                {
                    "one front, JSON": lambda: by_json(one.http),
                    "two fronts, JSON": lambda: by_json(two.http),
                    "one front, gRPC": lambda: by_grpc(one.grpc),
                    "two fronts, gRPC": lambda: by_grpc(two.grpc),
                },
                {f"two fronts, {wire}": f"one front, {wire}" for wire in _WIRES},
                rounds,
            )
    cores = len(os.sched_getaffinity(0))
    medians = {wire: ratios[f"two fronts, {wire}"].median for wire in _WIRES}
    return Section(
        "fronts",
        f"Tiny model, {CONCURRENCY} callers, load generator included in the cores; ratio to one front.",
        COLUMNS,
        rows_of(turns, ratios),
        [
            verdict(f"two fronts over one, {wire}", ratio, _GOAL)
            if cores >= _CORES
            else f"two fronts over one, {wire}: not measured: {cores} cores, and the goal of {_GOAL} is for {_CORES}; "
            f"here {ratio:.2f}"
            for wire, ratio in medians.items()
        ],
    )


if __name__ == "__main__":
    write_section(measure())

"""What bounds the figures: processor time a call, process by process: `python -m benchmarks.costs`.

Tiny model, one caller and 32. Processor time is read from /proc before and after a round and divided by the calls
answered, so other work on the machine disturbs it little. The dearest process bounds the calls a second
of two cores; the sum bounds those of one.
"""

import functools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.calls import call_of
from benchmarks.grpc_load import grpc_load
from benchmarks.http_load import http_load
from benchmarks.measured import WARM_UP_S, Measured
from benchmarks.models import tiny
from benchmarks.pinning import children_of, descendants_of
from benchmarks.processes import bare_server, node
from benchmarks.report import Section, whole, write_section

_SECONDS = 3.0
# The processes that are counted must stay the same: one worker, and nothing that tidies up meanwhile.
_SAME_PROCESSES = {"INGLE_ROUTING_MAX_REPLICAS": "1", "INGLE_WORKERS_GRAPH_CACHE": "0"}
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def _processor_s(pids: Sequence[int]) -> float:
    """User and system time that these processes have used so far."""
    total_s = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total_s += (int(fields[11]) + int(fields[12])) * _TICK_S
    return total_s


def _row(name: str, load: Callable[[], Measured], parts: Mapping[str, Sequence[int]], concurrency: int) -> list[str]:
    before = {part: _processor_s(pids) for part, pids in parts.items()}
    measured = load()
    calls = measured.calls_per_s * (_SECONDS + WARM_UP_S)
    used = {part: (_processor_s(pids) - before[part]) / calls for part, pids in parts.items()}
    cells = [f"{used[part] * 1e6:,.0f}" if part in used else "" for part in ("server", "workers", "load")]
    return [name, str(concurrency), *cells, whole(measured.calls_per_s)]


def measure() -> Section:
    """Each wire of the node and of the bare servers once, at both concurrencies."""
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny.write(folder)
        call = call_of(tiny, model)
        message = call.grpc_message()
        here = os.getpid()
        with bare_server("bare_http", model, folder) as bare_http:
            bare_http_pids = children_of(here)
            with bare_server("bare_grpc", model, folder) as bare_grpc, node([model], folder, _SAME_PROCESSES) as served:
                bare_grpc_pids = [pid for pid in children_of(here) if pid not in (*bare_http_pids, served.pid)]

                def by_json(address: str, concurrency: int) -> Measured:
                    request = call.json_request(address)
                    return http_load(address, request, call.check_json, concurrency=concurrency, seconds=_SECONDS)

                def by_binary(address: str, concurrency: int) -> Measured:
                    request = call.binary_request(address)
                    return http_load(address, request, call.check_binary, concurrency=concurrency, seconds=_SECONDS)

                def by_grpc(address: str, concurrency: int) -> Measured:
                    return grpc_load(address, message, call.check_grpc, concurrency=concurrency, seconds=_SECONDS)

                by_json(served.http, 1)  # starts the worker
                of_node = {"server": [served.pid], "workers": descendants_of(served.pid), "load": [here]}
                for concurrency in (1, 32):
                    for contestant, load, address, parts in (
                        ("bare, JSON", by_json, bare_http, {"server": bare_http_pids, "load": [here]}),
                        ("node, JSON", by_json, served.http, of_node),
                        ("bare, binary", by_binary, bare_http, {"server": bare_http_pids, "load": [here]}),
                        ("node, binary", by_binary, served.http, of_node),
                        ("bare, gRPC", by_grpc, bare_grpc, {"server": bare_grpc_pids, "load": [here]}),
                        ("node, gRPC", by_grpc, served.grpc, of_node),
                    ):
                        rows.append(_row(contestant, functools.partial(load, address, concurrency), parts, concurrency))
    return Section(
        "costs",
        "Tiny model: processor time of one call in each process, in microseconds. The node's server is its front.",
        ("", "concurrency", "server", "workers", "load generator", "calls a second"),
        rows,
    )


if __name__ == "__main__":
    write_section(measure())

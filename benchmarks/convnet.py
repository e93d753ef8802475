"""How much of a core's inference reaches the callers: `python -m benchmarks.convnet`.

A convnet of 240 MFLOP on pictures of 3x224x224, sent as 600 KB of binary tensor. The worker has one thread on one core;
the front and the load generator share the other. It is held against `session.run` in a loop on the worker's core.
The zygote is pinned with its workers, so that a worker that starts later lands on the same core.
"""

import tempfile
from pathlib import Path

from benchmarks.calls import call_of
from benchmarks.http_load import http_load
from benchmarks.measured import Measured, Ratio, interleave, median_of
from benchmarks.models import convnet
from benchmarks.pinning import descendants_of, pin, pinned_here, two_cores
from benchmarks.processes import bare_session, node
from benchmarks.report import Section, microseconds, verdict, write_section

_ROUNDS = 9
_SECONDS = 2.5
_CONCURRENCY = 4
_GOAL = 0.95
_ONE_WORKER = {"INGLE_WORKERS_THREADS": "1", "INGLE_ROUTING_MAX_REPLICAS": "1"}


def measure() -> Section:
    """Rounds of the session in a loop, the node with several callers and the node with one."""
    front_core, worker_core = two_cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = convnet.write(folder)
        call = call_of(convnet, model)
        with pinned_here(front_core), node([model], folder, _ONE_WORKER) as served:
            request = call.binary_request(served.http)

            def through_node(concurrency: int) -> Measured:
                for pid in descendants_of(served.pid):
                    pin(pid, worker_core)
                return http_load(served.http, request, call.check_binary, concurrency=concurrency, seconds=_SECONDS)

            through_node(1)  # starts the worker, so that the first counted round finds it pinned
            many, one = f"node, {_CONCURRENCY} callers", "node, 1 caller"
            turns = interleave(
                {
                    "`session.run` in a loop": lambda: Measured(**bare_session(model, _SECONDS, str(worker_core))),
                    many: lambda: through_node(_CONCURRENCY),
                    one: lambda: through_node(1),
                },
                _ROUNDS,
            )
    loop = [turn.calls_per_s for turn in turns["`session.run` in a loop"]]
    ratios = {name: Ratio.of([turn.calls_per_s for turn in turns[name]], loop) for name in (many, one)}
    rows = [
        (
            name,
            f"{median_of(own, lambda turn: turn.calls_per_s):,.1f}",
            microseconds(median_of(own, lambda turn: turn.p50_s)),
            str(ratios.get(name, "")),
        )
        for name, own in turns.items()
    ]
    return Section(
        "convnet",
        f"{convnet.flops / 1e6:.0f} MFLOP, {call.row.nbytes / 1000:.0f} KB a call over V2 binary, worker with one "
        "thread on one core, front and load generator on the other; ratio to the loop on the worker's core.",
        ("", "pictures a second", "p50, µs", "ratio"),
        rows,
        [verdict("share of a core's inference", ratios[many].median, _GOAL)],
    )


if __name__ == "__main__":
    write_section(measure())

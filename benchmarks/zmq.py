"""The ZeroMQ front against V2 binary over HTTP, tiny model, 1 and 32 callers: `python -m benchmarks.zmq`.

The same node, and load generators that cost alike. No goal is set.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from appliance.core.client_frames import Call, Result, Tensor, message_parts, read_message
from benchmarks.calls import call_of
from benchmarks.http_load import http_load
from benchmarks.measured import Ratio, interleave
from benchmarks.models import tiny
from benchmarks.processes import node
from benchmarks.report import Section, write_section
from benchmarks.throughput import COLUMNS, ROUNDS, SECONDS, rows_of
from benchmarks.zmq_load import zmq_load


def measure(rounds: int = ROUNDS, seconds: float = SECONDS) -> Section:
    """Rounds of both fronts in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny.write(folder)
        call = call_of(tiny, model)
        head = Call(1, call.name, tensors=[Tensor("x", "FP32", list(call.row.shape), 0, call.row.nbytes)])
        message = bytes(message_parts(head, [call.row.tobytes()])[0])

        def check(data: bytes) -> None:
            answer, bodies = read_message([data])
            if not isinstance(answer, Result):
                raise TypeError(str(answer))
            call.same(np.frombuffer(bodies[0], np.float32))

        with node([model], folder) as served:
            request = call.binary_request(served.http)
            contestants = {}
            for callers in (1, 32):
                load = {"concurrency": callers, "seconds": seconds}
                by_http = partial(http_load, served.http, request, call.check_binary)
                by_zmq = partial(zmq_load, served.zmq, message, check)
                contestants[f"HTTP binary, {callers}"] = partial(by_http, **load)
                contestants[f"ZeroMQ, {callers}"] = partial(by_zmq, **load)
            turns = interleave(contestants, rounds)
    calls = {name: [turn.calls_per_s for turn in own] for name, own in turns.items()}
    ratios = {f"ZeroMQ, {n}": Ratio.of(calls[f"ZeroMQ, {n}"], calls[f"HTTP binary, {n}"]) for n in (1, 32)}
    return Section(
        "zmq",
        "Tiny model, callers in a closed loop, load generator included in the cores; ratio to HTTP binary.",
        COLUMNS,
        rows_of(turns, ratios),
    )


if __name__ == "__main__":
    write_section(measure())

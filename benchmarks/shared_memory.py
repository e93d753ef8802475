"""Tensors in the caller's shared memory against binary HTTP: `python -m benchmarks.shared_memory`.

A model that only copies its input, 600 KB each way, one caller and several: what is measured is the way to the model
and back. With shared memory both tensors stay in the caller's own region; the caller does not touch them, as one that
fills its region in place would not.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import orjson
import tritonclient.http

from benchmarks.calls import Call, call_of
from benchmarks.http_load import http_load, http_request
from benchmarks.measured import Measured
from benchmarks.models import identity
from benchmarks.processes import node
from benchmarks.report import Section, verdict, write_section
from benchmarks.throughput import COLUMNS, compare, rows_of

CONCURRENCIES = (1, 4)
SECONDS = 1.0
_GOAL = 1.5


@contextmanager
def _region(call: Call, address: str) -> Iterator[SharedMemory]:
    """A region with the call's row at its beginning and room for the answer behind that, registered as `r`."""
    size = call.row.nbytes
    memory = SharedMemory(f"ingle-bench-{uuid.uuid4().hex}", create=True, size=2 * size)
    try:
        assert memory.buf is not None
        memory.buf[:size] = call.row.tobytes()
        with tritonclient.http.InferenceServerClient(address) as client:
            client.register_system_shared_memory("r", memory.name, 2 * size)
        yield memory
    finally:
        memory.close()
        memory.unlink()


def _request(call: Call, address: str) -> bytes:
    size = call.row.nbytes
    there = {"shared_memory_region": "r", "shared_memory_byte_size": size}
    tensor = {"name": "x", "datatype": "FP32", "shape": call.row.shape, "parameters": there}
    output = {"name": "y", "parameters": {**there, "shared_memory_offset": size}}
    body = orjson.dumps({"inputs": [tensor], "outputs": [output]})
    return http_request(address, f"/v2/models/{call.name}/infer", body)


def measure(seconds: float = SECONDS) -> Section:
    """Rounds of both ways in turn, for each number of callers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = identity.write(folder)
        call = call_of(identity, model)
        environment = {"INGLE_ALLOW_SHARED_MEMORY": "true"}
        with node([model], folder, environment) as served, _region(call, served.http) as memory:

            def check_memory(_body: bytes) -> None:
                assert memory.buf is not None
                call.same(np.frombuffer(memory.buf, np.float32, offset=call.row.nbytes).copy())

            def loads(concurrency: int) -> dict[str, Callable[[], Measured]]:
                def by_memory() -> Measured:
                    request = _request(call, served.http)
                    return http_load(served.http, request, check_memory, concurrency=concurrency, seconds=seconds)

                def by_binary() -> Measured:
                    request = call.binary_request(served.http)
                    return http_load(served.http, request, call.check_binary, concurrency=concurrency, seconds=seconds)

                callers = f"{concurrency} caller{'s' * (concurrency > 1)}"
                return {f"binary, {callers}": by_binary, f"shared memory, {callers}": by_memory}

            contestants = {name: load for concurrency in CONCURRENCIES for name, load in loads(concurrency).items()}
            names = list(contestants)
            turns, ratios = compare(contestants, dict(zip(names[1::2], names[::2], strict=True)))
    return Section(
        "shared_memory",
        f"A model that copies its input, {call.row.nbytes:,} bytes each way, over HTTP in a closed loop, load "
        "generator included in the cores; ratio to binary tensors in the request and answer.",
        COLUMNS,
        rows_of(turns, ratios),
        [verdict(f"calls a second, {name}", ratio.median, _GOAL) for name, ratio in ratios.items()],
    )


if __name__ == "__main__":
    write_section(measure())

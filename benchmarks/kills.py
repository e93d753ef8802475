"""A worker is killed every second under load: `python -m benchmarks.kills`.

Sixteen callers in a closed loop for a minute, and each second `kill -9` for a worker of the model that they call. A
call that was under way is answered by another worker: none may fail.
"""

import contextlib
import os
import signal
import tempfile
import threading
from pathlib import Path

from benchmarks.calls import call_of
from benchmarks.http_load import http_load
from benchmarks.models import tiny
from benchmarks.pinning import children_of
from benchmarks.processes import node
from benchmarks.report import Section, microseconds, verdict, whole, write_section

_SECONDS = 60.0
_EVERY_S = 1.0
_CONCURRENCY = 16


def _kill_now_and_then(gateway: int, stop: threading.Event, killed: list[int]) -> None:
    """The workers are the zygote's children, and the zygote the gateway's."""
    while not stop.wait(_EVERY_S):
        workers = [worker for zygote in children_of(gateway) for worker in children_of(zygote)]
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])


def measure(seconds: float = _SECONDS) -> Section:
    """One run with kills, and one without for comparison."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny.write(folder)
        call = call_of(tiny, model)
        with node([model], folder) as served:
            request = call.binary_request(served.http)

            def load(seconds: float) -> tuple[float, float, float]:
                # Raises LoadError at the first call that fails.
                run = http_load(served.http, request, call.check_binary, concurrency=_CONCURRENCY, seconds=seconds)
                return run.calls_per_s, run.p50_s, run.p99_s

            without = load(seconds / 6)
            stop, killed = threading.Event(), list[int]()
            killer = threading.Thread(target=_kill_now_and_then, args=(served.pid, stop, killed))
            killer.start()
            try:
                with_kills = load(seconds)
            finally:
                stop.set()
                killer.join()
    return Section(
        "kills",
        f"Tiny model, {_CONCURRENCY} callers; a worker is killed every second for {seconds:.0f} s. The first call that "
        "fails ends the benchmark without a result.",
        ("", "calls a second", "p50, µs", "p99, µs", "workers killed"),
        [
            ("no kills", whole(without[0]), microseconds(without[1]), microseconds(without[2]), "0"),
            (
                "a kill a second",
                whole(with_kills[0]),
                microseconds(with_kills[1]),
                microseconds(with_kills[2]),
                str(len(killed)),
            ),
        ],
        [verdict("calls that failed", 0.0, 0.0, at_most=True)],
    )


if __name__ == "__main__":
    write_section(measure())

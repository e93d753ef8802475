"""A node with 40,000 versions against one with a single model: `python -m benchmarks.many_versions`.

Distinct names and one small file, published through the catalogue itself: 40,000 uploads would measure the uploading.
Then a real node is started on that folder. Measured: seconds to the ready file, the gateway's resident memory, a warm
call's p50 against the other node's in turns, one more deploy over HTTP, and what answers about everything cost: V2's
index, a page of the list, a search that finds one, the metrics; and how long a call waits at most while they are made.
"""

import contextlib
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import urllib3

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.staging import StagedArtifact, stage
from appliance.core.manifest import Manifest
from appliance.core.names import ModelName
from appliance.core.tensors import Signature, TensorSpec
from benchmarks.calls import Call, call_of
from benchmarks.http_load import http_load
from benchmarks.measured import LoadError, Measured, Ratio, interleave, median_of
from benchmarks.models import tiny
from benchmarks.processes import Node, node
from benchmarks.report import Section, microseconds, verdict, write_section

VERSIONS = 40_000
ROUNDS = 9
SECONDS = 1.0
_START_GOAL_S, _RSS_GOAL_MB, _CALL_GOAL = 5.0, 600.0, 1.1
_INSPECTION = Inspection(
    Signature(
        (TensorSpec("x", "FP32", (-1, 4), ("batch", "")),),
        (TensorSpec("y", "FP32", (-1, 3), ("batch", "")),),
    ),
    True,
    "the first dimension is free in all inputs and outputs",
)


def fill(folder: Path, model: Path, count: int) -> None:
    """Publishes `count` models of this one file in a data folder that no node has open."""
    catalogue = Catalogue(folder)

    def staged() -> StagedArtifact:
        incoming = catalogue.new_incoming()
        shutil.copyfile(model, incoming / "upload")
        return stage(incoming / "upload", incoming)

    for number in range(count):
        if number < 2:
            artifact = staged()  # the first is moved to its address, the second stays for all that come
        manifest = Manifest(description="one of very many", tags=("many", f"kind-{number % 20}"))
        name = ModelName(f"owner-{number % 100:02}", f"model-{number:05}")
        catalogue.publish(artifact, _INSPECTION, name=name, version=None, manifest=manifest)
    catalogue.close()


def rss_mb(pid: int) -> float:
    """Resident memory as /proc has it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _timed(act: Callable[[], object], times: int = 5) -> float:
    """The median of several, in seconds."""
    took = []
    for _ in range(times):
        started_s = time.perf_counter()
        act()
        took.append(time.perf_counter() - started_s)
    return statistics.median(took)


@contextlib.contextmanager
def _longest_wait(call: Callable[[], object]) -> Iterator[list[float]]:
    """Calls all the time in a thread of its own; afterwards the list holds the longest wait in seconds."""
    waits: list[float] = []
    stopped = threading.Event()

    def keep_calling() -> None:
        while not stopped.is_set():
            started_s = time.perf_counter()
            call()
            waits.append(time.perf_counter() - started_s)

    thread = threading.Thread(target=keep_calling)
    thread.start()
    try:
        yield waits
    finally:
        stopped.set()
        thread.join()
        waits[:] = [max(waits)]


def _request(served: Node, method: str, path: str, body: bytes = b"") -> bytes:
    headers = {"Authorization": f"Bearer {served.admin_key}"}
    answer = urllib3.request(method, f"http://{served.http}{path}", body=body, headers=headers, timeout=60)
    if answer.status >= 300:
        raise LoadError(f"{method} {path} was answered with {answer.status}: {answer.data[:300]!r}")
    return answer.data


def measure(versions: int = VERSIONS, rounds: int = ROUNDS, seconds: float = SECONDS) -> Section:
    """One node of each kind, side by side."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny.write(folder)
        many, one = folder / "many", folder / "one"
        many.mkdir()
        one.mkdir()
        fill(many / "node", model, versions)
        started_s = time.perf_counter()
        with node([], many) as full:
            start_s = time.perf_counter() - started_s
            idle_mb = rss_mb(full.pid)
            with node([model], one) as single:
                turns = _calls(full, single, call_of(tiny, model), rounds, seconds)
                rows = _answers(full, model, versions)
            used_mb = rss_mb(full.pid)
    p50 = {kind: median_of(of_kind, lambda turn: turn.p50_s) for kind, of_kind in turns.items()}
    ratio = Ratio.of([turn.p50_s for turn in turns["full"]], [turn.p50_s for turn in turns["single"]])
    rows = [
        ("start to the ready file", f"{start_s:.2f} s"),
        ("resident memory of the gateway, started", f"{idle_mb:.0f} MB"),
        ("the same after all that follows", f"{used_mb:.0f} MB"),
        ("p50 of a warm call", f"{microseconds(p50['full'])} µs"),
        ("the same in a node with one model", f"{microseconds(p50['single'])} µs, ratio {ratio}"),
        *rows,
    ]
    return Section(
        "many_versions",
        f"{versions:,} versions of distinct names and one file in one node.",
        ("", "measured"),
        rows,
        [
            verdict("start, s", start_s, _START_GOAL_S, at_most=True),
            verdict("resident memory, MB", used_mb, _RSS_GOAL_MB, at_most=True),
            verdict("p50 of a warm call to that with one model", ratio.median, _CALL_GOAL, at_most=True),
        ],
    )


def _calls(full: Node, single: Node, call: Call, rounds: int, seconds: float) -> dict[str, list[Measured]]:
    def load(served: Node, name: str) -> Measured:
        request = Call(name, call.row, call.expected).json_request(served.http)
        return http_load(served.http, request, call.check_json, concurrency=1, seconds=seconds)

    contestants = {
        "full": lambda: load(full, "owner-07/model-00007"),
        "single": lambda: load(single, "tiny"),
    }
    return interleave(contestants, rounds)


def _answers(full: Node, model: Path, versions: int) -> list[tuple[str, str]]:
    upload = model.read_bytes()
    numbers = iter(range(1000))
    acts: dict[str, Callable[[], object]] = {
        "one more deploy, over HTTP": lambda: _request(full, "PUT", f"/v1/models/new/model-{next(numbers)}", upload),
        "V2's index of all": lambda: _request(full, "POST", "/v2/repository/index"),
        "a page of the list": lambda: _request(full, "GET", "/v1/models"),
        "a search that finds one": lambda: _request(full, "GET", f"/v1/models?q=model-{versions - 1:05}"),
        "/metrics": lambda: _request(full, "GET", "/metrics"),
    }
    pool = urllib3.HTTPConnectionPool(full.http)
    rows = []
    for what, act in acts.items():
        took_s = _timed(act)
        with _longest_wait(lambda: pool.request("GET", "/livez")) as waits:
            _timed(act)
        rows.append((what, f"{took_s * 1e3:.0f} ms; a caller beside it waited {waits[0] * 1e3:.0f} ms at most"))
    return rows


if __name__ == "__main__":
    write_section(measure())

"""How much memory a warm worker costs: `python -m benchmarks.density`.

A hundred models of distinct names and one tiny file, each called; then each worker's private memory (USS: what would
come free if it alone ended), from /proc/PID/smaps_rollup.
"""

import http.client
import re
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.calls import Call, call_of
from benchmarks.measured import LoadError
from benchmarks.models import tiny
from benchmarks.pinning import children_of
from benchmarks.processes import Node, node
from benchmarks.report import Section, verdict, write_section

_MODELS = 100
_GOAL_MB = 5.0
_PRIVATE = re.compile(r"^(?:Private_\w+):\s+(\d+) kB$", re.MULTILINE)
_PROPORTIONAL = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)
_CALLS_EACH = 3


def _mb(pid: int, of: re.Pattern[str]) -> float:
    return sum(map(int, of.findall(Path(f"/proc/{pid}/smaps_rollup").read_text()))) * 1024 / 1e6


def _warm(served: Node, call: Call, file: Path, models: int) -> list[int]:
    """Deploys the models, calls each, and returns the workers."""
    connection = http.client.HTTPConnection(served.http, timeout=60)
    key = {"Authorization": f"Bearer {served.admin_key}"}

    def ask(method: str, path: str, body: bytes) -> bytes:
        connection.request(method, path, body, key | {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status not in (200, 201):
            raise LoadError(f"{path} answered {answer.status}: {content[:300]!r}")
        return content

    names = [f"tiny-{index}" for index in range(models)]
    for name in names:
        ask("PUT", f"/v1/models/{name}", file.read_bytes())
    for _ in range(_CALLS_EACH):
        for name in names:
            call.check_json(ask("POST", f"/v2/models/{name}/infer", call.json_body()))
    (zygote,) = children_of(served.pid)
    gives_up_s = time.monotonic() + 30
    while len(workers := children_of(zygote)) != models:
        if time.monotonic() > gives_up_s:
            raise LoadError(f"{models} models were called and {len(workers)} workers are there")
        time.sleep(0.1)
    return workers


def measure(models: int = _MODELS) -> Section:
    """One node, filled once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = tiny.write(folder)
        with node([], folder, {"INGLE_WORKERS_IDLE_S": "0"}) as served:
            workers = _warm(served, call_of(tiny, file), file, models)
            private = sorted(_mb(pid, _PRIVATE) for pid in workers)
            proportional = [_mb(pid, _PROPORTIONAL) for pid in workers]
            (zygote,) = children_of(served.pid)
            others = [(what, _mb(pid, _PRIVATE)) for what, pid in (("zygote", zygote), ("gateway", served.pid))]
    rows = [
        ("worker, median", f"{statistics.median(private):.2f}", f"{statistics.median(proportional):.2f}"),
        ("worker, least and most", f"{private[0]:.2f} to {private[-1]:.2f}", ""),
        *((what, f"{size:.1f}", "") for what, size in others),
    ]
    return Section(
        "density",
        f"{models} models of distinct names and one tiny file, each warm in a worker of its own.",
        ("", "private (USS), MB", "proportional (PSS), MB"),
        rows,
        [verdict("private memory of a warm worker, MB, the largest", private[-1], _GOAL_MB, at_most=True)],
    )


if __name__ == "__main__":
    write_section(measure())

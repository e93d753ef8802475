"""From no replica at all to a thousand calls a second: `python -m benchmarks.burst`.

A tiny model that nobody called yet is called in open loop, 1,000 times a second for ten seconds. No call may fail, and
after the first second 99 of 100 are to be answered within 100 ms of when they were due.
"""

import tempfile
from pathlib import Path

from benchmarks.calls import call_of
from benchmarks.measured import median_of_numbers
from benchmarks.models import tiny
from benchmarks.open_loop import OpenLoop, evenly, run_open
from benchmarks.processes import node, unload
from benchmarks.report import Section, microseconds, verdict, whole, write_section

_ROUNDS = 3
_SECONDS = 10.0
_RATE_PER_S = 1000.0
_GOAL_MS = 100.0


def measure(rounds: int = _ROUNDS, seconds: float = _SECONDS) -> Section:
    """Bursts with the model put to sleep before each."""
    rows: list[tuple[str, ...]] = []
    failed, late_ms = 0, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny.write(folder)
        call = call_of(tiny, model)
        with node([model], folder) as served:
            request = call.binary_request(served.http)
            for number in range(1, rounds + 1):
                unload(served, call.name)
                (answers,) = run_open(OpenLoop(served.http, request, call.check_binary, evenly(_RATE_PER_S, seconds)))
                failed += answers.failed
                late_ms.append(answers.centile_s(99, after_s=1.0) * 1e3)
                rows.append(
                    (
                        f"burst {number}",
                        whole(len(answers.calls)),
                        str(answers.failed),
                        microseconds(answers.centile_s(99.9)),
                        microseconds(answers.median_s()),
                        microseconds(answers.centile_s(99, after_s=1.0)),
                    )
                )
    return Section(
        "burst",
        "Tiny model at zero replicas, then 1,000 calls a second for 10 s in open loop; times count from when a call "
        "was due. Load generator on the same cores.",
        ("", "answered", "failed", "p99.9 of all, µs", "p50, µs", "p99 after the first second, µs"),
        rows,
        [
            verdict("calls that failed", float(failed), 0.0, at_most=True),
            verdict("p99 after the first second, ms", median_of_numbers(late_ms), _GOAL_MS, at_most=True),
        ],
    )


if __name__ == "__main__":
    write_section(measure())

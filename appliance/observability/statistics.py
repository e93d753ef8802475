"""Counters of each model version: what V2's statistics and `/metrics` show. Plain integers, added to per answer.

Runs in the gateway, in the event loop's thread, so nothing is locked. `VersionCounters` is what the hot path adds to
(about a microsecond); `VersionStatistics` is a copy for readers, with the members V2 clients read without checking that
they are there. Source: Triton's `extension_statistics.md`. Knows no protocol and no metrics library.
"""

import math
import time
from collections.abc import Iterable, Sequence

import msgspec

from appliance.core.frames import Answer

EXACT_BATCH_ROWS = 64
# Calls are counted by the bit length of their nanoseconds: bucket b holds durations from 2**(b-1) to below 2**b ns.
DURATION_BUCKETS = 48


class Duration(msgspec.Struct):
    """How often something was timed, and the sum of its times."""

    count: int = 0
    ns: int = 0


class InferenceStatistics(msgspec.Struct):
    """V2's `inference_stats`. `success.ns` is whole calls; queue and compute are parts of them."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class BatchStatistics(msgspec.Struct):
    """V2's `batch_stats` for runs of one size. Sizes beyond 64 are counted at the next power of two."""

    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class VersionStatistics(msgspec.Struct):
    """A copy of one version's counters, named as V2 names them. `inference_count` is rows, `execution_count` runs.

    `fails` (by error code) and `durations` (calls by the bit length of their nanoseconds) are for the metrics.
    """

    name: str
    version: str
    last_inference_ms: int  # Unix time, milliseconds; V2 calls it `last_inference`
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistics]
    fails: dict[str, int]
    durations: list[int]


class VersionCounters:
    """What the data plane adds to for one version of one model."""

    __slots__ = (
        "_batches",
        "_decode_ns",
        "_durations",
        "_encode_ns",
        "_executions",
        "_fail_ns",
        "_failed_ms",
        "_fails",
        "_last_ms",
        "_queue_ns",
        "_rows",
        "_run_ns",
        "_success",
        "_success_ns",
    )

    def __init__(self) -> None:
        self._success = self._success_ns = self._fail_ns = self._queue_ns = 0
        self._decode_ns = self._run_ns = self._encode_ns = 0
        self._rows = self._executions = self._last_ms = self._failed_ms = 0
        self._fails: dict[str, int] = {}
        self._batches: dict[int, list[int]] = {}
        self._durations = [0] * DURATION_BUCKETS

    def record(self, answer: Answer, total_ns: int, queue_ns: int) -> None:
        """Count one answered call: `total_ns` from arrival to answer, `queue_ns` of it waiting in this gateway.

        What the answer says it waited in the worker is added to the queue's time.
        """
        self._success += 1
        self._success_ns += total_ns
        self._queue_ns += queue_ns + answer.wait_ns
        self._decode_ns += answer.decode_ns
        self._run_ns += answer.run_ns
        self._encode_ns += answer.encode_ns
        self._last_ms = time.time_ns() // 1_000_000
        bucket = total_ns.bit_length()
        self._durations[bucket if bucket < DURATION_BUCKETS else -1] += 1
        if answer.executions:
            rows = answer.batch_rows
            self._rows += rows
            self._executions += answer.executions
            batch = self._batches.get(rows) or self._batch(rows)
            batch[0] += 1
            batch[1] += answer.decode_ns
            batch[2] += answer.run_ns
            batch[3] += answer.encode_ns

    def outcome(self, codes: Iterable[str]) -> tuple[int, int, float]:
        """Calls answered, calls that ended in one of these errors, and the seconds that the answered ones took."""
        return self._success, sum(self._fails.get(code, 0) for code in codes), self._success_ns / 1e9

    def record_failure(self, code: str, total_ns: int) -> None:
        """Count one call that ended in an error of this code."""
        self._fail_ns += total_ns
        self._failed_ms = time.time_ns() // 1_000_000
        self._fails[code] = self._fails.get(code, 0) + 1

    def _batch(self, rows: int) -> list[int]:
        size = rows if rows <= EXACT_BATCH_ROWS else 1 << (rows - 1).bit_length()
        return self._batches.setdefault(size, [0, 0, 0, 0])

    @property
    def last_call_ms(self) -> int:
        """When a call last ended, well or not: Unix time, milliseconds."""
        return max(self._last_ms, self._failed_ms)

    def add(self, other: "VersionCounters") -> None:
        """Counts here what `other` counted, for sums over versions."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self._last_ms = max(self._last_ms, other._last_ms)
        self._failed_ms = max(self._failed_ms, other._failed_ms)
        for code, count in other._fails.items():
            self._fails[code] = self._fails.get(code, 0) + count
        for size, counts in other._batches.items():
            self._batches[size] = [a + b for a, b in zip(self._batch(size), counts, strict=True)]
        self._durations = [a + b for a, b in zip(self._durations, other._durations, strict=True)]

    def read(self, name: str, version: str) -> VersionStatistics:
        """A copy of the counters as they are now, for the version so named."""
        timed = self._success
        return VersionStatistics(
            name=name,
            version=version,
            last_inference_ms=self._last_ms,
            inference_count=self._rows,
            execution_count=self._executions,
            inference_stats=InferenceStatistics(
                success=Duration(timed, self._success_ns),
                fail=Duration(sum(self._fails.values()), self._fail_ns),
                queue=Duration(timed, self._queue_ns),
                compute_input=Duration(timed, self._decode_ns),
                compute_infer=Duration(timed, self._run_ns),
                compute_output=Duration(timed, self._encode_ns),
                cache_hit=Duration(),
                cache_miss=Duration(),
            ),
            batch_stats=[
                BatchStatistics(size, Duration(runs, decode), Duration(runs, run), Duration(runs, encode))
                for size, (runs, decode, run, encode) in sorted(self._batches.items())
            ],
            fails=dict(self._fails),
            durations=list(self._durations),
        )


_SUMS = (
    "_success",
    "_success_ns",
    "_fail_ns",
    "_queue_ns",
    "_decode_ns",
    "_run_ns",
    "_encode_ns",
    "_rows",
    "_executions",
)


def duration_bounds_s() -> Iterable[float]:
    """The upper bound of each of `durations`' buckets in seconds; the last bucket also holds all that is longer."""
    return (2**bits / 1e9 for bits in range(DURATION_BUCKETS))


def centile_s(durations: Sequence[int], centile: float) -> float:
    """The time that this many of a hundred calls took at most, from counts by the bit length of their nanoseconds; 0
    without calls. A bucket reaches from half its bound to that; within it calls are taken to lie evenly on the
    logarithm, so that the answer is at most twice too high or too low, and mostly close."""
    wanted = sum(durations) * centile / 100
    before = 0
    for bound_s, count in zip(duration_bounds_s(), durations, strict=False):
        if count and before + count >= wanted:
            return bound_s / 2 * math.exp2((wanted - before) / count)
        before += count
    return 0.0

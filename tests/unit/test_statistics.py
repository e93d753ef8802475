"""What a version's counters say after calls, and what the ring of recent calls remembers."""

import msgspec
import pytest

from appliance.core.frames import Answer
from appliance.core.requests import Seconds
from appliance.observability.calls import CallRecord, RecentCalls
from appliance.observability.statistics import DURATION_BUCKETS, VersionCounters, centile_s, duration_bounds_s


def answer(**fields: int) -> Answer:
    times = {"decode_ns": 3, "wait_ns": 5, "run_ns": 7, "encode_ns": 11} | fields
    return Answer(call=1, tensors=[], **times)


def test_fresh_counters_have_every_member_v2_clients_read() -> None:
    stats = msgspec.to_builtins(VersionCounters().read("m", "1"))["inference_stats"]
    expected = [
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
        "cache_hit",
        "cache_miss",
    ]
    assert stats == {member: {"count": 0, "ns": 0} for member in expected}


def test_an_answer_is_split_into_queue_and_compute() -> None:
    counters = VersionCounters()
    counters.record(answer(), total_ns=1000, queue_ns=100)
    counters.record(answer(), total_ns=500, queue_ns=10)
    stats = counters.read("m", "1")
    assert (stats.inference_count, stats.execution_count) == (2, 2)
    read = {name: (d["count"], d["ns"]) for name, d in msgspec.to_builtins(stats.inference_stats).items()}
    assert read == {
        "success": (2, 1500),
        "fail": (0, 0),
        "queue": (2, 120),
        "compute_input": (2, 6),
        "compute_infer": (2, 14),
        "compute_output": (2, 22),
        "cache_hit": (0, 0),
        "cache_miss": (0, 0),
    }
    assert stats.last_inference_ms > 0


def test_a_shared_run_counts_once_with_all_its_rows() -> None:
    counters = VersionCounters()
    counters.record(answer(executions=1, batch_rows=3), 10, 0)
    counters.record(answer(executions=0, batch_rows=0), 10, 0)
    counters.record(answer(executions=0, batch_rows=0), 10, 0)
    stats = counters.read("m", "1")
    assert (stats.inference_stats.success.count, stats.inference_count, stats.execution_count) == (3, 3, 1)
    (batch,) = stats.batch_stats
    assert (batch.batch_size, batch.compute_infer.count, batch.compute_infer.ns) == (3, 1, 7)


@pytest.mark.parametrize(
    ("rows", "size"), [(0, 0), (1, 1), (64, 64), (65, 128), (128, 128), (129, 256), (2**30 + 1, 2**31)]
)
def test_batch_sizes_are_exact_up_to_64_and_powers_of_two_beyond(rows: int, size: int) -> None:
    counters = VersionCounters()
    counters.record(answer(batch_rows=rows), 10, 0)
    counters.record(answer(batch_rows=rows), 10, 0)
    assert [(b.batch_size, b.compute_infer.count) for b in counters.read("m", "1").batch_stats] == [(size, 2)]


def test_batch_sizes_stay_bounded_whatever_callers_send() -> None:
    counters = VersionCounters()
    for rows in range(1, 5000):
        counters.record(answer(batch_rows=rows), 10, 0)
    stats = counters.read("m", "1")
    assert len(stats.batch_stats) == 64 + 7
    assert sum(b.compute_infer.count for b in stats.batch_stats) == 4999


def test_failures_are_counted_by_code() -> None:
    counters = VersionCounters()
    for code in ("deadline", "bad_input", "deadline"):
        counters.record_failure(code, 20)
    stats = counters.read("m", "1")
    assert stats.fails == {"deadline": 2, "bad_input": 1}
    assert (stats.inference_stats.fail.count, stats.inference_stats.fail.ns) == (3, 60)
    assert stats.inference_count == 0


@pytest.mark.parametrize("total_ns", [0, 1, 999, 1_000_000, 3_600_000_000_000, 2**60])
def test_a_call_lies_below_its_bucket_s_bound_unless_it_is_the_last(total_ns: int) -> None:
    counters = VersionCounters()
    counters.record(answer(), total_ns, 0)
    bucket = counters.read("m", "1").durations.index(1)
    bounds = list(duration_bounds_s())
    assert len(bounds) == DURATION_BUCKETS
    assert bucket == DURATION_BUCKETS - 1 or total_ns / 1e9 < bounds[bucket]
    assert bucket == 0 or total_ns / 1e9 >= bounds[bucket - 1]


def test_a_copy_does_not_change_with_later_calls() -> None:
    counters = VersionCounters()
    before = counters.read("m", "1")
    counters.record(answer(), 10, 0)
    counters.record_failure("busy", 1)
    assert before == VersionCounters().read("m", "1")


def record(call_id: str) -> CallRecord:
    return CallRecord(call_id, "local/m", "1.0.0", "here", "ok", Seconds(0.0, 0.0, 0.0, 0.0), 1.0)


def test_the_ring_drops_the_oldest_and_finds_the_rest() -> None:
    calls = RecentCalls(remembered=3)
    for n in range(5):
        calls.add(record(str(n)))
    assert [c.id for c in calls] == ["4", "3", "2"]
    assert calls.find("1") is None
    found = calls.find("3")
    assert found is not None
    assert found.id == "3"
    assert len(calls) == 3


def test_a_sum_of_counters_says_what_one_would_have_said() -> None:
    apart, together = [VersionCounters(), VersionCounters()], VersionCounters()
    for number, counters in enumerate(apart):
        for each in (counters, together):
            each.record(answer(batch_rows=4 + number), total_ns=1000 << number, queue_ns=10)
            each.record_failure("busy", 7)
    total = VersionCounters()
    for counters in apart:
        total.add(counters)
    told, expected = total.read("m", "1"), together.read("m", "1")
    assert msgspec.structs.replace(told, last_inference_ms=0) == msgspec.structs.replace(expected, last_inference_ms=0)
    assert total.last_call_ms == max(counters.last_call_ms for counters in apart)


@pytest.mark.parametrize("took_ns", [700, 50_000, 3_000_000, 2**30])
def test_a_centile_is_within_a_factor_of_two_and_in_order(took_ns: int) -> None:
    counters = VersionCounters()
    for _ in range(100):
        counters.record(answer(), took_ns, 0)
    durations = counters.read("m", "1").durations
    found = [centile_s(durations, centile) * 1e9 for centile in (1, 50, 99, 100)]
    assert found == sorted(found)
    assert took_ns / 2 <= found[0] <= found[-1] <= took_ns * 2


def test_a_centile_of_nothing_is_nothing_and_the_slowest_are_found() -> None:
    assert centile_s([0] * DURATION_BUCKETS, 99) == 0
    durations = [0] * DURATION_BUCKETS
    durations[20], durations[30] = 98, 2
    assert centile_s(durations, 50) < 0.00105
    assert 0.5 < centile_s(durations, 99) < 1.1

"""What is learned from answers about how long runs take."""

import pytest

from appliance.core.frames import Answer
from appliance.workers.run_times import RunTimes

MS = 1_000_000


def run(times: RunTimes, *, calls: int, run_ms: float, rows: int = 0, changed: bool = False) -> None:
    """The answers of one run, as a worker sends them."""
    for index in range(calls):
        times.answered(
            Answer(
                index,
                [],
                run_ns=int(run_ms * MS),
                executions=0 if index else 1,
                batch_rows=rows or calls,
                changed=changed,
            )
        )


def test_the_first_answer_already_tells_something() -> None:
    times = RunTimes()
    run(times, calls=1, run_ms=4.0)
    assert times.call_s == pytest.approx(0.004)


def test_calls_that_share_a_run_cost_a_part_of_it_each() -> None:
    times = RunTimes()
    for _ in range(20):
        run(times, calls=8, run_ms=4.0)
    assert times.call_s == pytest.approx(0.0005)
    assert times.formed_calls == 8
    assert times.run_s == {8: pytest.approx(0.004)}


def test_runs_are_kept_by_the_power_of_two_that_holds_their_rows() -> None:
    times = RunTimes()
    for rows in (1, 3, 4, 5):
        run(times, calls=1, run_ms=rows, rows=rows)
    run(times, calls=1, run_ms=1.0)
    assert set(times.run_s) == {1, 4, 8}


def test_what_formed_batches_fades_when_it_no_longer_does() -> None:
    times = RunTimes()
    for _ in range(3):
        run(times, calls=32, run_ms=1.0)
    for _ in range(100):
        run(times, calls=1, run_ms=1.0)
    assert times.formed_calls == pytest.approx(1.0, abs=0.1)


def test_what_was_measured_before_counts_from_the_start() -> None:
    times = RunTimes({1: 0.02, 8: 0.04})
    assert times.call_s == 0.02
    assert times.wait_s(6, 2) == pytest.approx(0.06)


def test_a_run_that_changed_shapes_does_not_stand_for_the_next_ones() -> None:
    times = RunTimes()
    for changed, run_ms in ((True, 300.0), (False, 2.0), (False, 2.0), (True, 50.0), (False, 2.0)):
        run(times, calls=1, run_ms=run_ms, changed=changed)
    run(times, calls=1, run_ms=2.0)
    assert times.call_s == pytest.approx(0.002)
    assert times.run_s == {1: pytest.approx(0.002)}


def test_where_each_run_changes_shapes_that_is_what_a_run_takes() -> None:
    times = RunTimes()
    for _ in range(60):
        run(times, calls=1, run_ms=50.0, changed=True)
    assert times.call_s == pytest.approx(0.05)

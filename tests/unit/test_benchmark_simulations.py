"""The simulations judge the policies by what they say they do: small cases that can be reckoned by hand."""

from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the seefood benchmark draws with matplotlib")

import numpy as np

from appliance.routing.keep_warm import KeepWarm
from benchmarks import seefood
from benchmarks.keep_warm import Lru, Replay
from benchmarks.keep_warm_trace import MODELS, Trace, make_trace
from benchmarks.replica_queue import ReplicaQueue
from benchmarks.seefood_day import AVERAGE_PER_S, PEAK_PER_S, arrivals_s, rates_per_s


def replay_of(*calls: tuple[float, int]) -> Replay:
    """Three models of ten bytes, a second to start, and memory for two; each call is a time and a model."""
    replay = Replay(Trace([10] * 3, [1.0] * 3, [at_s for at_s, _ in calls], [model for _, model in calls]), Lru())
    replay.budget_bytes = 20
    return replay


@pytest.mark.parametrize(
    ("calls", "waited_s", "starts"),
    [
        pytest.param([(0, 0), (5, 0)], 1.0, 1, id="the second call finds it warm"),
        pytest.param([(0, 0), (0.25, 0)], 1.75, 1, id="the second call waits for the rest of the start"),
        pytest.param([(0, 0), (5, 1), (9, 2), (15, 0)], 4.0, 4, id="there is room for two"),
        pytest.param([(0, 0), (5, 1), (7, 0), (9, 2), (15, 0)], 3.0, 3, id="the longest unused has gone"),
        pytest.param([(0, 0), (0.5, 1), (0.75, 2), (9, 2)], 3.25, 3, id="none that starts is ended: the third waits"),
    ],
)
def test_callers_wait_for_starts(calls: list[tuple[float, int]], waited_s: float, starts: int) -> None:
    outcome = replay_of(*calls).run()
    assert (outcome.suffered_s, outcome.starts) == (pytest.approx(waited_s), starts)


def test_an_idle_limit_ends_what_idles() -> None:
    replay = replay_of((0, 0), (500, 0), (1200, 0))
    replay.policy = Lru(600)
    assert replay.run().starts == 2


def test_a_trace_is_the_same_for_the_same_seed_and_is_what_it_says() -> None:
    trace = make_trace(1, days=1)
    assert trace == make_trace(1, days=1)
    assert trace != make_trace(2, days=1)
    assert trace.times_s == sorted(trace.times_s)
    assert min(trace.sizes_bytes) >= 10e6
    assert max(trace.sizes_bytes) <= 1e9
    counts = sorted(np.bincount(trace.models, minlength=MODELS))
    assert 5 <= counts[MODELS // 2] <= 60  # about once an hour, or in bursts


def test_the_policy_delays_callers_less_than_lru_does() -> None:
    trace = make_trace(1, days=0.25)
    assert Replay(trace, KeepWarm()).run().suffered_s <= 0.7 * Replay(trace, Lru()).run().suffered_s


def test_calls_are_served_in_order_by_what_is_free() -> None:
    queue = ReplicaQueue(run_s=1.0, cold_start_s=2.0, ready=1)
    for now_s in (0.0, 0.1, 0.2):
        queue.arrive(now_s)
    queue.scale(2, 0.5)  # ready at 2.5: too late for all three
    queue.advance(10.0)
    assert queue.latencies_s == pytest.approx([1.0, 1.9, 2.8])
    queue.scale(2, 10.0)
    assert (queue.ready, queue.idle) == (2, 2)


def test_only_idle_replicas_end() -> None:
    queue = ReplicaQueue(run_s=1.0, cold_start_s=2.0, ready=3)
    queue.arrive(0.0)
    queue.scale(0, 0.5)
    assert (queue.ready, queue.idle) == (1, 0)
    queue.scale(0, 1.5)
    assert queue.ready == 0


def test_the_day_is_of_the_height_and_the_average_that_the_case_has() -> None:
    rates = rates_per_s()
    assert rates.max() == pytest.approx(PEAK_PER_S)
    assert rates.mean() == pytest.approx(AVERAGE_PER_S)
    assert rates.min() > 0
    times_s = arrivals_s(rates[:600], seed=1)
    assert all(before <= after for before, after in pairwise(times_s))


def test_a_rush_and_its_end_are_followed() -> None:
    rates = np.concatenate([np.full(120, 2.0), np.full(240, 140.0), np.full(240, 2.0)])
    day = seefood.replay(arrivals_s(rates, seed=1), seefood.Kernel(), until_s=len(rates))
    turns = int(1 / seefood.TURN_S)
    assert max(day.replicas) >= 41
    assert max(day.replicas[100 * turns : 120 * turns]) <= 3
    assert day.replicas[-1] <= 3
    assert day.p99_s <= 1.5 * seefood.TARGET_S  # a rush from 2 to 140 a second cannot be met at once


def test_the_section_has_the_three_strategies_and_a_picture(tmp_path: Path) -> None:
    section = seefood.measure(600, plot=tmp_path / "plots" / "day.svg")
    assert [row[0] for row in section.rows] == ["ideal", "fixed", "by the hour", "this kernel"]
    assert "<svg" in (tmp_path / "plots" / "day.svg").read_text()

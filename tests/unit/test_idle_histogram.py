"""What idle times say about the next call, as tables."""

import math
import random

import pytest

from appliance.routing.idle_histogram import (
    BUCKETS,
    EDGES_S,
    LONGEST_S,
    REMEMBERED,
    IdleHistogram,
    bucket_of,
    next_edge_s,
)

HOUR_S = 3600.0


def histogram(*idle_times: tuple[float, int]) -> IdleHistogram:
    made = IdleHistogram()
    for idle_s, times in idle_times:
        for _ in range(times):
            made.add(idle_s)
    return made


@pytest.mark.parametrize(
    ("idle_s", "bucket"), [(-1.0, 0), (0.0, 0), (1.0, 0), (1.01, 0), (LONGEST_S, BUCKETS - 1), (1e12, BUCKETS - 1)]
)
def test_every_idle_time_has_a_bucket(idle_s: float, bucket: int) -> None:
    assert bucket_of(idle_s) == bucket


def test_a_bucket_holds_what_lies_between_its_edges() -> None:
    for bucket in range(BUCKETS - 1):
        middle_s = (EDGES_S[bucket] + EDGES_S[bucket + 1]) / 2
        assert bucket_of(middle_s) == bucket
        assert next_edge_s(middle_s) == EDGES_S[bucket + 1]
    assert next_edge_s(2 * LONGEST_S) == math.inf


def test_calls_at_random_are_expected_at_their_rate_however_long_it_was_quiet() -> None:
    drawn = random.Random(1)
    made = IdleHistogram()
    for _ in range(400):
        made.add(drawn.expovariate(1 / 600))
    for idle_s in (0.0, 60.0, 600.0):
        assert made.call_rate(idle_s) == pytest.approx(1 / 600, rel=0.5)


def test_calls_once_an_hour_are_expected_ever_more_until_they_come() -> None:
    hourly = histogram((HOUR_S, 50))
    rates = [hourly.call_rate(idle_s) for idle_s in (0.0, 1800.0, 3000.0, HOUR_S)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1 / HOUR_S, rel=0.3)
    assert rates[-1] > 4 * rates[0]


def test_after_a_burst_little_is_expected() -> None:
    bursty = histogram((2.0, 200), (6 * HOUR_S, 5))
    assert bursty.call_rate(0.0) == pytest.approx(1 / 2, rel=0.2)
    assert bursty.call_rate(60.0) < 2 / (6 * HOUR_S)


@pytest.mark.parametrize(
    ("idle_s", "within_s", "chance"),
    [
        pytest.param(0.0, 60.0, 0.0, id="no call was ever so soon"),
        pytest.param(0.0, 2 * HOUR_S, 50 / 51, id="all came within two hours"),
        pytest.param(3500.0, 300.0, 50 / 51, id="the hour is almost over"),
        pytest.param(2 * HOUR_S, HOUR_S, 0.0, id="it has never been idle for so long"),
    ],
)
def test_the_chance_of_a_call_is_of_the_idle_times_that_are_left(idle_s: float, within_s: float, chance: float) -> None:
    assert histogram((HOUR_S, 50)).chance(idle_s, within_s) == pytest.approx(chance)


def test_one_observation_promises_little() -> None:
    assert histogram((HOUR_S, 1)).chance(0.0, 2 * HOUR_S) == 0.5


def test_counts_stay_small_and_what_was_rare_is_remembered() -> None:
    made = histogram((86400.0, 1), (2.0, 100 * REMEMBERED))
    assert made.total <= REMEMBERED
    assert made.chance(3 * HOUR_S, 86400.0) == 0.5

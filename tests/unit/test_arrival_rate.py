"""Calls a second from counts: steady in chance's noise, quick in a rush."""

import random

import pytest

from appliance.routing.arrival_rate import STEADY_S, ArrivalRate


def counted(*parts: tuple[float, int], turn_s: float = 0.5) -> ArrivalRate:
    """Each part: calls in every turn, and how many turns."""
    rate, now_s = ArrivalRate(0.0), 0.0
    for calls, turns in parts:
        for _ in range(turns):
            now_s += turn_s
            rate.count(int(calls), now_s)
    return rate


def test_an_even_stream_is_told_exactly() -> None:
    assert counted((5, 1000)).per_s == pytest.approx(10.0, rel=0.01)


def test_turns_need_not_be_even() -> None:
    rate = ArrivalRate(0.0)
    for now_s in (1.0, 1.5, 4.0, 100.0, 400.0):
        rate.count(int(10 * now_s), now_s)
    late = rate.per_s
    rate.count(0, 401.0)
    assert rate.per_s < late


@pytest.mark.parametrize(
    ("turns", "per_s"),
    [
        pytest.param(1, 5.0, id="half a second is too short to tell: as if there had been none before"),
        pytest.param(2, 10.0, id="from then on it is told at once"),
        pytest.param(8, 10.0, id="and stays so"),
    ],
)
def test_what_begins_to_be_called_is_told_at_once(turns: int, per_s: float) -> None:
    assert counted((5, turns)).per_s == pytest.approx(per_s, rel=0.02)


def test_a_rush_is_told_within_a_few_seconds() -> None:
    assert counted((1, 600), (100, 8)).per_s > 60


def test_chance_is_not_taken_for_a_rush() -> None:
    drawn = random.Random(1)
    rate, told = ArrivalRate(0.0), []
    for turn in range(1, 4000):
        rate.count(sum(drawn.random() < 0.1 for _ in range(50)), 0.5 * turn)
        told.append(rate.per_s)
    settled = told[400:]
    assert sum(settled) / len(settled) == pytest.approx(10.0, rel=0.05)
    assert max(settled) < 14


def test_what_stopped_is_forgotten() -> None:
    rate = counted((50, 1000))
    rate.count(0, 500.0 + 20 * STEADY_S)
    assert rate.per_s == 0.0


def test_counts_at_one_moment_add_up() -> None:
    parts, whole = counted((5, 100)), counted((5, 100))
    for calls, now_s in ((3, 50.0), (4, 50.0), (0, 51.0)):
        parts.count(calls, now_s)
    for calls, now_s in ((7, 50.0), (0, 51.0)):
        whole.count(calls, now_s)
    assert parts.per_s == pytest.approx(whole.per_s)


def test_a_clock_that_stands_still_or_goes_back_does_no_harm() -> None:
    rate = counted((5, 100))
    rate.count(5, 10.0)
    assert 0 < rate.per_s < 20

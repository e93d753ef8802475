"""Rates and quotas of keys: what passes, what waits and how long, and what clocks that jump cannot do."""

import calendar

import pytest

from appliance.core.errors import BadInputError, BusyError
from appliance.security.limits import Limits, Meter, Used, next_free_s, used_now, window_of

NOON = float(calendar.timegm((2026, 3, 31, 12, 0, 0)))
DAY_S = 86400.0


def taken(meter: Meter, times_s: list[float], now_s: float = NOON) -> str:
    """`.` for each call that passes, `x` for each that does not."""
    marks = ""
    for time_s in times_s:
        try:
            meter.take(time_s, now_s)
            marks += "."
        except BusyError:
            marks += "x"
    return marks


@pytest.mark.parametrize(
    ("rate", "burst", "times_s", "passes"),
    [
        ("2/s", 0, [0, 0, 0], "..x"),
        ("2/s", 0, [0, 0, 0.4, 0.5, 0.6, 1.0], "..x.x."),
        ("2/s", 4, [0] * 5 + [10] * 5, "....x....x"),
        ("10/s", 1, [0, 0.05, 0.1, 0.2, 0.3], ".x..."),
        ("1/min", 0, [0, 30, 59, 60], ".xx."),
        ("3/s", 3, [0, 0, 0, 1 / 3, 2 / 3, 1.0, 1.0], "......x"),
        ("0.5/s", 0, [0, 1, 2, 3, 4], ".x.x."),
        ("1000000/s", 0, [0, 0, 0], "..."),
    ],
)
def test_a_rate_lets_its_burst_pass_and_then_one_each_interval(
    rate: str, burst: int, times_s: list[float], passes: str
) -> None:
    assert taken(Meter(Limits(rate, burst)), times_s) == passes


def test_a_refused_call_is_told_exactly_when_it_would_pass() -> None:
    meter = Meter(Limits("10/s", 3))
    assert taken(meter, [5.0] * 3) == "..."
    with pytest.raises(BusyError) as caught:
        meter.take(5.02, NOON)
    assert caught.value.retry_after_s == pytest.approx(0.08)
    assert taken(meter, [5.02 + 0.08, 5.02 + 0.08]) == ".x"


def test_a_flood_takes_nothing_from_the_rate() -> None:
    meter = Meter(Limits("10/s", 1))
    passed = taken(meter, [number / 1000 for number in range(1000)]).count(".")
    assert passed == 10


@pytest.mark.parametrize("jump_s", [-1e9, -10.0, 10.0, 1e9])
def test_a_monotonic_clock_that_jumps_after_all_neither_blocks_nor_opens(jump_s: float) -> None:
    free_s = 1000.0
    for _ in range(5):
        free_s, _ = next_free_s(free_s, 1000.0, 1.0, 5)
    now_s, waited_s = 1000.0 + jump_s, 0.0
    passed = 0
    for _ in range(6):
        free_s, wait_s = next_free_s(free_s, now_s, 1.0, 5)
        waited_s += wait_s
        passed += not wait_s
    assert passed <= 5
    assert waited_s <= 6.0


@pytest.mark.parametrize(
    ("period", "start", "length_s"),
    [
        ("min", (2026, 3, 31, 12, 0, 0), 60),
        ("hour", (2026, 3, 31, 12, 0, 0), 3600),
        ("day", (2026, 3, 31, 0, 0, 0), DAY_S),
        ("month", (2026, 3, 1, 0, 0, 0), 31 * DAY_S),
    ],
)
def test_a_quotas_window_is_the_calendars_in_utc(period: str, start: tuple[int, ...], length_s: float) -> None:
    window = window_of(period, NOON + 59.9)
    assert window.start_s == calendar.timegm(start)
    assert window.end_s - window.start_s == length_s


def test_december_ends_with_the_year() -> None:
    window = window_of("month", calendar.timegm((2026, 12, 31, 23, 59, 59)))
    assert window.end_s == calendar.timegm((2027, 1, 1, 0, 0, 0))


def test_a_quota_is_used_up_and_begins_anew_with_its_window() -> None:
    meter = Meter(Limits(quota="3/day"))
    assert taken(meter, [0] * 5) == "...xx"
    with pytest.raises(BusyError) as caught:
        meter.take(0, NOON + 3600)
    assert caught.value.retry_after_s == pytest.approx(11 * 3600)
    assert taken(meter, [0] * 4, NOON + DAY_S / 2) == "...x"


def test_a_call_that_was_not_taken_up_is_given_back() -> None:
    meter = Meter(Limits(quota="1/day"))
    meter.take(0, NOON)
    meter.give_back()
    assert taken(meter, [0, 0]) == ".x"


def test_what_the_rate_refuses_does_not_use_up_the_quota() -> None:
    meter = Meter(Limits("1/s", 1, "10/day"))
    assert taken(meter, [0, 0, 0]) == ".xx"
    assert meter.used_calls(NOON) == 1


@pytest.mark.parametrize(
    ("jump_s", "calls"),
    [(0, 7), (3600, 7), (DAY_S, 0), (365 * DAY_S, 0), (-3600, 7), (-DAY_S, 7), (-365 * DAY_S, 7)],
)
def test_a_clock_set_forward_begins_a_window_and_one_set_back_keeps_the_count(jump_s: float, calls: int) -> None:
    used = Used(window_of("day", NOON).start_s, 7)
    window = window_of("day", NOON + jump_s)
    assert used_now(used, window) == Used(window.start_s, calls)


def test_a_clock_that_was_years_ahead_refuses_for_no_longer_than_a_window() -> None:
    meter = Meter(Limits(quota="2/day"))
    assert taken(meter, [0, 0, 0], NOON + 1000 * DAY_S) == "..x"
    assert taken(meter, [0], NOON) == "x"
    assert taken(meter, [0, 0, 0], NOON + DAY_S) == "..x"


@pytest.mark.parametrize(
    "limits",
    [
        Limits("50"),
        Limits("0/s"),
        Limits("-1/s"),
        Limits("50/year"),
        Limits("1e9/s"),
        Limits("nan/s"),
        Limits("50/s", -1),
        Limits("50/s", 10**9),
        Limits(quota="5/s"),
        Limits(quota="0/day"),
        Limits(quota="1.5/day"),
    ],
)
def test_what_is_no_limit_is_said(limits: Limits) -> None:
    with pytest.raises(BadInputError):
        limits.check()

"""How soon a model is expected again, over a clock that the test drives."""

import pytest

from appliance.routing.call_history import UNKNOWN_IDLE_S, CallHistory

HOUR_S = 3600.0


def called_every(gap_s: float, times: int) -> CallHistory:
    made = CallHistory(0.0)
    for nth in range(1, times):
        made.called(nth * gap_s)
    return made


def test_a_model_called_once_is_expected_ever_less() -> None:
    once = CallHistory(100.0)
    assert once.rate_per_s(100.0) == pytest.approx(1 / UNKNOWN_IDLE_S)
    assert once.rate_per_s(100.0 + 9 * UNKNOWN_IDLE_S) == pytest.approx(1 / (10 * UNKNOWN_IDLE_S))
    assert once.chance(HOUR_S, 200.0) == 0.0


def test_only_a_call_after_a_second_without_any_ends_an_idle_time() -> None:
    busy = CallHistory(0.0)
    assert [busy.called(now_s) for now_s in (0.0, 0.5, 1.4, 2.5, 2.4)] == [False, False, False, True, False]


def test_few_idle_times_say_little_against_the_plain_rate() -> None:
    twice, often = called_every(10.0, 2), called_every(10.0, 100)
    assert twice.rate_per_s(10.0) < 1 / 100
    assert often.rate_per_s(990.0) == pytest.approx(1 / 10, rel=0.3)


def test_the_outlook_changes_with_time_alone() -> None:
    hourly = called_every(HOUR_S, 50)
    last_s = 49 * HOUR_S
    at_first = hourly.rate_per_s(last_s + 1)
    assert last_s + 1 < hourly.next_change_s(last_s + 1) < last_s + HOUR_S
    assert hourly.rate_per_s(last_s + 0.9 * HOUR_S) > 2 * at_first
    assert hourly.chance(600.0, last_s + 0.9 * HOUR_S) > 0.9


def test_changes_become_rarer_the_longer_it_idles() -> None:
    made = CallHistory(0.0)
    changes, now_s = [], 0.0
    while (next_s := made.next_change_s(now_s)) < 1e6:
        changes.append(next_s - now_s)
        now_s = next_s
    assert changes[1:] == sorted(changes[1:])
    assert len(changes) < 60

"""When workers start, end and are given up, as tables over a clock that the test drives."""

import pytest

from appliance.workers.lifecycle import (
    MAX_BACKOFF_S,
    MAX_CONSECUTIVE_DEATHS,
    SET_ASIDE_S,
    History,
    is_hung,
    may_start,
)


@pytest.mark.parametrize(
    ("deaths", "now_s", "verdict"),
    [
        (0, 100.0, "now"),
        (1, 100.0, "now"),  # one bad call must not make the next one wait
        (2, 100.0, "later"),
        (2, 100.1, "now"),
        (3, 100.1, "later"),
        (3, 100.2, "now"),
        (MAX_CONSECUTIVE_DEATHS, 100.0, "set_aside"),
        (MAX_CONSECUTIVE_DEATHS, 100.0 + SET_ASIDE_S - 1, "set_aside"),
        (MAX_CONSECUTIVE_DEATHS, 100.0 + SET_ASIDE_S, "now"),  # nobody may be watching: try once more
    ],
)
def test_a_dead_worker_is_started_again_with_growing_patience(deaths: int, now_s: float, verdict: str) -> None:
    assert may_start(History(deaths, 100.0), now_s).verdict == verdict


def test_the_backoff_is_bounded() -> None:
    for deaths in range(2, MAX_CONSECUTIVE_DEATHS):
        assert may_start(History(deaths, 0.0), 0.0).at_s <= MAX_BACKOFF_S


def test_one_answer_clears_the_count_of_deaths() -> None:
    history = History()
    for _ in range(MAX_CONSECUTIVE_DEATHS - 1):
        history = history.died(1.0)
    assert may_start(history.succeeded().died(1.0), 1.0).verdict == "now"
    assert may_start(history.died(1.0), 1.0).verdict == "set_aside"


@pytest.mark.parametrize(
    ("busy_since_s", "now_s", "hung"), [(None, 99.0, False), (10.0, 12.0, False), (10.0, 12.1, True)]
)
def test_only_the_run_limit_says_that_a_worker_hangs(busy_since_s: float | None, now_s: float, hung: bool) -> None:
    assert is_hung(busy_since_s=busy_since_s, run_limit_s=2.0, now_s=now_s) is hung

"""How calls are spread over versions, and when a new one is taken back, as tables."""

import pytest

from appliance.core.traffic import Traffic
from appliance.routing.traffic import Share, Tally, judge

WISH = Traffic(canary="2.0.0", canary_share=0.1, max_error_share=0.05, max_latency_ratio=2.0, least_calls=20)
STEADY = Tally(1000, 0, 10.0)  # 10 ms each


@pytest.mark.parametrize(("share", "taken"), [(0.0, 0), (0.05, 5), (0.1, 10), (0.5, 50), (0.333, 33), (1.0, 100)])
def test_a_share_is_kept_exactly(share: float, taken: int) -> None:
    splitter = Share(share)
    assert sum(splitter.take() for _ in range(100)) == taken


def test_a_share_is_spread_evenly() -> None:
    splitter = Share(0.25)
    assert [splitter.take() for _ in range(8)] == [False, False, False, True] * 2


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (Tally(19, 0, 9.9), ""),  # too few to say
        (Tally(100, 5, 1.0), ""),
        (Tally(95, 6, 1.0), "failed"),
        (Tally(0, 20, 0.0), "failed"),
        (Tally(100, 0, 1.9), ""),
        (Tally(100, 0, 2.1), "2.1 times"),
    ],
)
def test_a_new_version_is_taken_back_for_errors_or_slowness(new: Tally, reason: str) -> None:
    verdict = judge(new, STEADY, WISH)
    assert bool(verdict) == bool(reason)
    assert reason in verdict


def test_what_the_deployer_did_not_set_is_not_judged() -> None:
    assert judge(Tally(10, 90, 1000.0), STEADY, Traffic(canary="2.0.0", canary_share=0.1)) == ""


def test_without_anything_beside_it_slowness_cannot_be_said() -> None:
    assert judge(Tally(100, 0, 100.0), Tally(), WISH) == ""


def test_a_tally_counts_from_an_earlier_one_on() -> None:
    assert Tally(10, 3, 2.0).since(Tally(4, 1, 0.5)) == Tally(6, 2, 1.5)


def test_a_version_whose_counters_began_anew_is_judged_by_them_alone() -> None:
    assert Tally(5, 1, 0.5).since(Tally(100, 0, 9.0)) == Tally(5, 1, 0.5)
    assert Tally(105, 1, 9.5).since(Tally(100, 0, 9.0)) == Tally(5, 1, 0.5)

"""What is done again and again is done at the multiples of its period, and never twice for one of them."""

import pytest

from appliance.core.beats import until_beat_s


@pytest.mark.parametrize(
    ("now_s", "period_s", "left_s"),
    [
        pytest.param(10.0, 0.25, 0.25, id="on a beat: the next"),
        pytest.param(10.01, 0.25, 0.24, id="a little late"),
        pytest.param(10.1, 0.25, 0.15, id="late"),
        pytest.param(10.2, 0.25, 0.3, id="very late: one is left out"),
        pytest.param(9.999, 0.25, 0.251, id="woken a little early: not again at once"),
    ],
)
def test_the_next_beat_is_a_multiple_of_the_period(now_s: float, period_s: float, left_s: float) -> None:
    assert until_beat_s(now_s, period_s) == pytest.approx(left_s)


def test_two_that_began_at_different_times_go_by_one_beat() -> None:
    began_s = (3.017, 3.094)
    assert {round(now_s + until_beat_s(now_s, 0.2), 9) for now_s in began_s} == {3.2}

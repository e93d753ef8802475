"""What the benchmarks of the mesh reckon: the oracle of routing, arrivals, and what a load's report says."""

import pytest

from benchmarks.measured import LoadError
from benchmarks.mesh_load import CallOutcome, LoadReport, at_random
from benchmarks.mesh_oracle import Site, oracle

NEAR, QUICK = Site(0.0, 1.0, 0.0), Site(0.25, 0.5, 0.25)


@pytest.mark.parametrize(
    ("arrivals_s", "sites", "took_s"),
    [
        ([0.0, 5.0], [NEAR], [1.0, 1.0]),
        ([0.0, 0.5], [NEAR], [1.0, 1.5]),
        ([0.0, 0.0], [NEAR, NEAR], [1.0, 1.0]),
        ([0.0, 0.0, 0.0], [NEAR, QUICK], [1.0, 1.0, 1.5]),  # to the quick one twice: 0.25 + 0.5 + 0.5 + 0.25
        ([0.0], [Site(3.0, 0.1, 0.0), NEAR], [1.0]),
    ],
)
def test_each_call_goes_where_it_is_answered_first(
    arrivals_s: list[float], sites: list[Site], took_s: list[float]
) -> None:
    assert oracle(arrivals_s, sites) == pytest.approx(took_s)


def test_arrivals_at_random_keep_their_rate_and_follow_from_the_seed() -> None:
    due_s = at_random(100.0, 50.0, seed=3)
    assert due_s == at_random(100.0, 50.0, seed=3) == sorted(due_s)
    assert 4500 < len(due_s) < 5500
    assert due_s[-1] < 50.0


def test_a_report_tells_what_was_lost_and_times_what_was_answered() -> None:
    calls = [CallOutcome(due_s=number, took_s=0.001 * number, node="a", fault="") for number in range(1, 101)]
    report = LoadReport([*calls, CallOutcome(due_s=200.0, took_s=9.0, node="", fault="nobody was there")])
    assert [call.fault for call in report.lost] == ["nobody was there"]
    assert report.answered_by() == {"a": 100}
    assert report.mean_s() == pytest.approx(0.0505)
    assert [round(report.centile_s(centile), 3) for centile in (50, 99, 99.9, 100)] == [0.051, 0.1, 0.1, 0.1]
    assert report.centile_s(100, after_s=10, before_s=20) == pytest.approx(0.019)
    with pytest.raises(LoadError):
        report.centile_s(50, after_s=150)

"""The oracle of the routing benchmark, on paper."""

import pytest

from benchmarks.mesh_load import at_random
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

"""How many replicas, cores and threads: as tables."""

from collections.abc import Mapping

import pytest

from appliance.routing.scaling import (
    HOLD_STARTS,
    Demand,
    Wanted,
    needed_replicas,
    servers,
    share_cores,
    threads_for,
    wanted_replicas,
)


def demand(**changed: float) -> Demand:
    quiet = Demand(
        waiting=0,
        in_flight=0,
        arrivals_per_s=0.0,
        run_s=0.1,
        replicas=0,
        starting=0,
        cold_start_s=1.0,
        target_latency_s=0.5,
        max_replicas=100,
    )
    return quiet._replace(**changed)


@pytest.mark.parametrize(
    ("now", "replicas"),
    [
        pytest.param(demand(), 0, id="nothing to do and nothing there"),
        pytest.param(demand(floor=2), 2, id="the owner wants two"),
        pytest.param(demand(replicas=1), 1, id="the last one is for the keep-warm policy to end"),
        pytest.param(demand(replicas=3), 1, id="the others are not"),
        pytest.param(demand(waiting=1), 1, id="the first call"),
        pytest.param(demand(waiting=1, run_s=0.0), 1, id="nothing was measured yet"),
        pytest.param(demand(waiting=900, run_s=0.0), 1, id="nothing was measured yet, and many wait"),
        pytest.param(demand(waiting=900, run_s=0.0001), 1, id="many wait, of almost no work"),
        pytest.param(demand(waiting=20, replicas=1, cold_start_s=5.0), 1, id="done before another could start"),
        pytest.param(demand(waiting=40, replicas=1), 8, id="3 s of work left when others are ready, for 0.4 s"),
        pytest.param(demand(waiting=4, replicas=1), 1, id="one works them off in time"),
        pytest.param(demand(waiting=40, replicas=10), 1, id="so do ten, which then are not needed"),
        pytest.param(demand(arrivals_per_s=5.0, replicas=1), 1, id="half busy"),
        pytest.param(demand(arrivals_per_s=9.9, replicas=1), 2, id="one would be too busy for the target"),
        pytest.param(demand(arrivals_per_s=400.0, replicas=40), 41, id="forty at once, and little more"),
        pytest.param(demand(arrivals_per_s=400.0, max_replicas=8, waiting=90), 8, id="no more than there are cores"),
        pytest.param(demand(arrivals_per_s=5.0, target_latency_s=0.05), 3, id="one run alone is past the target"),
    ],
)
def test_replicas_follow_the_work(now: Demand, replicas: int) -> None:
    assert needed_replicas(now) == replicas


def test_more_work_never_wants_fewer() -> None:
    needed = [needed_replicas(demand(arrivals_per_s=rate)) for rate in range(0, 500, 7)]
    assert needed == sorted(needed)


@pytest.mark.parametrize(
    ("load", "patience_runs", "count"),
    [
        (0.0, 1.0, 0),
        (0.01, 1.0, 1),
        (0.9, 1e9, 1),  # any patience: only stability asks for servers
        (40.0, 1e9, 41),
        (0.9, 0.0, 5),  # no patience: Erlang's C alone
        (40.0, 2.5, 41),
        (99.5, 1.0, 99),  # more than there may be
    ],
)
def test_servers_by_erlang(load: float, patience_runs: float, count: int) -> None:
    assert servers(load, patience_runs, most=99) == count


@pytest.mark.parametrize(
    ("needed_per_s", "now_s", "wanted"),
    [
        pytest.param(100.0, 1.0, 11, id="up at once"),
        pytest.param(10.0, 9.9, 5, id="not yet down"),
        pytest.param(10.0, 10.0, 2, id="down when it was not needed for a while"),
    ],
)
def test_replicas_come_at_once_and_go_late(needed_per_s: float, now_s: float, wanted: int) -> None:
    before = Wanted(5, until_s=10.0)
    assert wanted_replicas(demand(arrivals_per_s=needed_per_s, replicas=5), before, now_s).replicas == wanted


def test_what_is_needed_again_is_kept_for_as_long_again() -> None:
    kept = wanted_replicas(demand(arrivals_per_s=35.0, replicas=5), Wanted(5, until_s=10.0), 9.0)
    assert kept == Wanted(5, until_s=9.0 + HOLD_STARTS * 1.0)


def test_a_model_that_was_put_to_sleep_is_not_woken() -> None:
    assert wanted_replicas(demand(), Wanted(1, until_s=10.0), 9.0).replicas == 0


def test_no_more_are_kept_than_there_may_be_by_now() -> None:
    fewer = demand(replicas=5, max_replicas=2)
    assert wanted_replicas(fewer, Wanted(5, until_s=10.0), 9.0) == Wanted(2, until_s=10.0)


@pytest.mark.parametrize(
    ("wanted", "cores", "shares"),
    [
        pytest.param({"a": 1, "b": 2}, 8, {"a": 1, "b": 2}, id="there is enough"),
        pytest.param({"a": 9, "b": 9}, 8, {"a": 4, "b": 4}, id="halves"),
        pytest.param({"a": 90, "b": 1}, 8, {"a": 7, "b": 1}, id="a flood takes what nobody wants"),
        pytest.param({"a": 90, "b": 3, "c": 3}, 8, {"a": 3, "b": 3, "c": 2}, id="and not more than the others"),
        pytest.param({"a": 1, "b": 1, "c": 1}, 2, {"a": 1, "b": 1, "c": 1}, id="each has one in any case"),
        pytest.param({"a": 0, "b": 5}, 2, {"a": 0, "b": 2}, id="what wants none gets none"),
        pytest.param({}, 2, {}, id="nobody"),
    ],
)
def test_cores_are_shared_max_min_fairly(wanted: Mapping[str, int], cores: int, shares: Mapping[str, int]) -> None:
    assert share_cores(wanted, cores) == shares


@pytest.mark.parametrize(
    ("size_mb", "cores", "busy_large", "replicas", "threads"),
    [
        pytest.param(1, 16, 0, 1, 1, id="a small model gains nothing from a second"),
        pytest.param(100, 16, 0, 1, 16, id="a large one on an idle box has all"),
        pytest.param(100, 16, 1, 1, 8, id="two share"),
        pytest.param(100, 16, 0, 4, 4, id="its own replicas share"),
        pytest.param(100, 2, 9, 1, 1, id="never none"),
    ],
)
def test_threads_follow_the_box_and_what_else_is_busy(
    size_mb: int, cores: int, busy_large: int, replicas: int, threads: int
) -> None:
    assert threads_for(size_bytes=size_mb << 20, cores=cores, busy_large=busy_large, replicas=replicas) == threads

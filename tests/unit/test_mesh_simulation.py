"""The router in simulation: near an oracle; and the simulation itself, where it can be reckoned by hand."""

import random
from statistics import fmean

import pytest

from benchmarks.mesh_simulation import (
    POLICIES,
    Arrival,
    Fleet,
    Oracle,
    Policy,
    RoundRobin,
    Routed,
    Simple,
    World,
    compare,
    latencies_s,
    make_arrivals,
    make_fleet,
    nearest,
    p99,
)

PAIR = Fleet([1.0, 0.5], [[0.0, 0.1], [0.1, 0.0]])


@pytest.mark.parametrize(
    ("choose", "expected_s"),
    [
        pytest.param(nearest, [1.0, 2.0, 3.0], id="nearest: one after the other, here"),
        pytest.param(RoundRobin(), [0.7, 1.0, 2.0], id="round-robin: the second goes there, and is back first"),
        pytest.param(Oracle(2), [0.7, 1.0, 1.2], id="the oracle: the quick one first, then whichever ends first"),
    ],
)
def test_calls_wait_and_travel(choose: object, expected_s: list[float]) -> None:
    world = World(PAIR)
    policy = Simple(world, choose)  # type: ignore[arg-type]
    for _ in range(3):
        policy.arrive(Arrival(0.0, 0, 1.0))
    world.run(10.0)
    assert sorted(world.latencies_s) == pytest.approx(expected_s)


def test_the_router_is_near_the_oracle_with_twenty_nodes() -> None:
    policies = {name: POLICIES[name] for name in ("the router", "round-robin")}
    ratios = compare(20, 4000, 0.7, 1, policies)
    mean, tail = ratios["the router"]
    assert mean <= 1.8
    assert tail <= 3.5
    assert ratios["round-robin"][1] >= 5 * tail


def test_the_router_is_near_the_oracle_with_a_hundred_nodes() -> None:
    mean, _ = compare(100, 3000, 0.7, 1, {"the router": Routed})["the router"]
    assert mean <= 2.5


ALIKE = Fleet([0.005] * 4, [[0.0 if a == b else 0.0002 for b in range(4)] for a in range(4)])
FREEZES_AT_S, SUSPECT_S, DEAD_S = 2.0, 0.75, 2.25


def frozen(hedge_share: float) -> list[float]:
    """Latencies of 200 calls a second that come in at three of four nodes, of which the fourth freezes."""
    dice = random.Random(3)
    arrivals = [Arrival(number / 200, dice.randrange(3), 1.0) for number in range(1000)]

    def make(world: World) -> Policy:
        routed = Routed(world, hedge_share=hedge_share)
        world.call_later(FREEZES_AT_S, lambda: routed.freeze(3, suspect_s=SUSPECT_S, dead_s=DEAD_S))
        return routed

    return latencies_s(ALIKE, arrivals, make)


def test_no_call_is_lost_with_a_node_that_freezes_and_hedging_hides_it() -> None:
    assert len(frozen(hedge_share=0.05)) == len(frozen(hedge_share=0.0))  # latencies_s() waits for all
    assert max(frozen(hedge_share=0.05)) <= 0.06
    assert max(frozen(hedge_share=0.0)) <= SUSPECT_S + 0.06


def test_what_is_cancelled_before_its_run_does_not_run() -> None:
    """Twice the work's hedges would otherwise fill the nodes: the budget alone does not keep them from it."""
    fleet = make_fleet(10, random.Random(5))
    arrivals = make_arrivals(fleet, 2000, 0.7, random.Random(6))
    hedged = latencies_s(fleet, arrivals, lambda world: Routed(world, hedge_share=1.0))
    plain = latencies_s(fleet, arrivals, lambda world: Routed(world, hedge_share=0.0))
    assert fmean(hedged) <= 1.2 * fmean(plain)
    assert p99(hedged) <= 1.2 * p99(plain)

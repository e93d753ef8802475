"""What a call is priced at, what corrects it, and whom that makes the router ask: as tables."""

import random

import pytest

from appliance.core.errors import BadInputError
from appliance.routing.breaker import FAILURES, FIRST_OPEN_S, MAX_OPEN_S, Breaker
from appliance.routing.choosing import ALL_UP_TO, SAMPLED, Sighting, choose, shortlist
from appliance.routing.correction import HALF_LIFE_S, LEAST, MOST, Correction
from appliance.routing.cost import Candidate, Standing, price, run_time_s
from appliance.routing.hedging import BURST, FIRST_S, KNOWN_CALLS, LEAST_S, Budget, Centile, hedge_after_s
from appliance.routing.own_work import OwnWork
from appliance.routing.pins import Pin, parse_pin
from federation.messages import ModelState


def candidate(node_id: str = "a", **changed: object) -> Candidate:
    idle = {
        "node_id": node_id,
        "name": f"box-{node_id}",
        "rtt_s": 0.0,
        "bytes_per_s": 0.0,
        "backlog_s": 0.0,
        "own_s": 0.0,
        "run_s": 0.01,
    }
    return Candidate(**(idle | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "size_bytes", "total_s"),
    [
        pytest.param(candidate(), 10**9, 0.01, id="here nothing is transferred"),
        pytest.param(candidate(rtt_s=0.002), 0, 0.012, id="a round trip"),
        pytest.param(candidate(rtt_s=0.002, bytes_per_s=1e6), 5000, 0.017, id="and a transfer"),
        pytest.param(candidate(backlog_s=0.1, own_s=0.05), 0, 0.16, id="what waits there, and what is on its way"),
        pytest.param(candidate(rtt_s=0.002, backlog_s=0.1, own_s=0.05, correction=2.0), 0, 0.322, id="corrected"),
        pytest.param(candidate(cold_start_s=0.5, correction=2.0), 0, 0.52, id="a start is what it is"),
    ],
)
def test_a_call_costs(of: Candidate, size_bytes: int, total_s: float) -> None:
    assert price(of, size_bytes).total_s == pytest.approx(total_s)


def test_a_price_explains_itself_by_the_terms_that_matter() -> None:
    of = candidate(rtt_s=0.002, bytes_per_s=1e6, backlog_s=0.1, correction=1.5, standing="suspect")
    assert price(of, 1000).explained() == {
        "node": "box-a",
        "total_s": 0.168,
        "rtt_s": 0.002,
        "transfer_s": 0.001,
        "backlog_s": 0.1,
        "run_s": 0.01,
        "correction": 1.5,
        "standing": "suspect",
    }
    assert price(candidate(), 1000).explained() == {"node": "box-a", "total_s": 0.01, "run_s": 0.01}


@pytest.mark.parametrize(
    ("known", "rows", "seconds"),
    [
        ({}, 1, 0.0),
        ({1: 0.1, 8: 0.3}, 1, 0.1),
        ({1: 0.1, 8: 0.3}, 0, 0.1),
        ({1: 0.1, 8: 0.3}, 7, 0.3),
        ({1: 0.1, 8: 0.3}, 2, 0.3),  # the next larger
        ({1: 0.1, 8: 0.3}, 9, 0.6),  # as much more as there are more rows
        ({8: 0.3}, 1, 0.3),
    ],
)
def test_runs_of_other_sizes_tell_of_this_one(known: dict[int, float], rows: int, seconds: float) -> None:
    assert run_time_s(known, rows) == pytest.approx(seconds)


# Correction.


def taught(times: int, actual_s: float, predicted_s: float) -> Correction:
    correction = Correction()
    for _ in range(times):
        correction.learn(actual_s, predicted_s, 0.0)
    return correction


@pytest.mark.parametrize(
    ("times", "actual_s", "factor"),
    [
        (0, 1.0, 1.0),
        (1, 2.0, 2**0.1),
        (100, 2.0, 2.0),
        (100, 0.75, 0.75),
        (1000, 50.0, MOST),
        (1000, 0.0, LEAST),
    ],
)
def test_a_correction_comes_to_what_calls_really_take(times: int, actual_s: float, factor: float) -> None:
    assert taught(times, actual_s, 1.0).factor(0.0) == pytest.approx(factor, rel=0.01)


def test_one_call_out_of_all_proportion_changes_little() -> None:
    assert taught(1, 1e9, 1.0).factor(0.0) == pytest.approx(100**0.1)


def test_nothing_is_learned_where_nothing_was_predicted() -> None:
    assert taught(9, 1.0, 0.0).factor(0.0) == 1.0


def test_a_node_that_was_slow_is_tried_again_in_time() -> None:
    slow = taught(100, 4.0, 1.0)
    assert slow.factor(HALF_LIFE_S) == pytest.approx(2.0, rel=0.01)
    assert slow.factor(20 * HALF_LIFE_S) == pytest.approx(1.0, abs=1e-4)


def test_a_call_that_was_given_up_counts_where_it_was_late() -> None:
    correction = Correction()
    correction.learn_at_least(0.5, 1.0, 0.0)
    assert correction.factor(0.0) == 1.0
    correction.learn_at_least(3.0, 1.0, 0.0)
    assert correction.factor(0.0) > 1.0


# Own work.


def test_what_is_on_its_way_counts_until_it_is_told_or_answered() -> None:
    own = OwnWork()
    parcels = [own.sent(now_s, 0.1) for now_s in (1.0, 2.0, 3.0, 4.0)]
    assert own.seconds == pytest.approx(0.4)
    own.told(3.5, rtt_s=1.0)  # made when the first two had reached it
    assert own.seconds == pytest.approx(0.2)
    own.done(parcels[0])
    assert own.seconds == pytest.approx(0.2)
    own.done(parcels[3])
    assert own.seconds == pytest.approx(0.1)
    own.done(parcels[2])
    own.done(parcels[2])
    assert own.seconds == 0.0


# Choosing.


def sighting(node_id: str, rtt_s: float = 0.001, standing: Standing = "alive", *, warm: bool = True) -> Sighting:
    return Sighting(node_id, node_id, rtt_s, 1e8, standing, warm, ModelState())


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param([sighting("a"), sighting("b", warm=False)], "ab", id="warm and cold"),
        pytest.param([sighting("a", standing="suspect"), sighting("b", warm=False)], "b", id="no suspect"),
        pytest.param([sighting("a", standing="draining"), sighting("b")], "b", id="none that drains"),
        pytest.param([sighting("a", standing="draining"), sighting("b", standing="broken")], "b", id="broken it is"),
        pytest.param([sighting("a", standing="broken"), sighting("b", standing="suspect")], "b", id="suspect it is"),
        pytest.param([sighting("a", standing="draining")], "a", id="nobody else is there"),
        pytest.param([], "", id="nobody"),
        pytest.param([sighting(node) for node in "abcdefgh"], "abcdefgh", id="eight"),
    ],
)
def test_those_of_the_best_standing_are_priced(seen: list[Sighting], expected: str) -> None:
    assert "".join(s.node_id for s in shortlist(seen, random.Random(1))) == expected


def test_of_many_some_at_random_and_the_nearest_are_priced() -> None:
    seen = [sighting(str(number), rtt_s=0.001 * (number != 5) + 0.001) for number in range(ALL_UP_TO + 1)]
    dice = random.Random(1)
    lists = [{s.node_id for s in shortlist(seen, dice)} for _ in range(100)]
    assert all("5" in chosen and SAMPLED <= len(chosen) <= SAMPLED + 1 for chosen in lists)
    assert set.union(*lists) == {s.node_id for s in seen}


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        pytest.param([], "", id="nobody"),
        pytest.param([candidate("a", run_s=0.02), candidate("b")], "b", id="the cheapest"),
        pytest.param([candidate("a", rtt_s=0.0001), candidate("b")], "b", id="alike: the one with less network"),
        pytest.param([candidate("a"), candidate("b", backlog_s=0.0001)], "ab", id="alike in all: either"),
        pytest.param(
            [candidate("a", cold_start_s=0.3), candidate("b", backlog_s=0.4)], "b", id="no load for so little"
        ),
        pytest.param([candidate("a", cold_start_s=0.3), candidate("b", backlog_s=9.0)], "a", id="a load that pays"),
        pytest.param([candidate("a", cold_start_s=0.3), candidate("b", cold_start_s=0.2)], "b", id="both are cold"),
        pytest.param([candidate("b", cold_start_s=0.2), candidate("a", cold_start_s=0.2)], "a", id="cold alike: by id"),
        pytest.param(
            [candidate("a", cold_start_s=0.3, loading=True), candidate("b", cold_start_s=0.2)],
            "a",
            id="it loads already",
        ),
    ],
)
def test_the_node_that_answers_soonest_is_asked(candidates: list[Candidate], expected: str) -> None:
    priced = [price(of, 0) for of in candidates]
    dice = random.Random(1)
    chosen = {terms.candidate.node_id for _ in range(50) if (terms := choose(priced, dice))}
    assert "".join(sorted(chosen)) == expected


# Pins.


@pytest.mark.parametrize(
    ("text", "pin"),
    [
        ("", None),
        ("local", Pin("local")),
        (" node:box-a ", Pin("node", "box-a")),
        ("tag: gpu", Pin("tag", "gpu")),
    ],
)
def test_pins_are_read(text: str, pin: Pin | None) -> None:
    assert parse_pin(text) == pin


@pytest.mark.parametrize("text", ["here", "node:", "tag:", "local:x", "node", "tag:" + "x" * 200])
def test_what_is_no_pin_is_told_so(text: str) -> None:
    with pytest.raises(BadInputError, match="expected local, node:NAME or tag:WORD"):
        parse_pin(text)


@pytest.mark.parametrize(
    ("pin", "local", "expected"),
    [
        (Pin("local"), True, True),
        (Pin("local"), False, False),
        (Pin("node", "box-a"), False, True),
        (Pin("node", "0a"), False, True),
        (Pin("node", "gpu"), False, False),
        (Pin("tag", "gpu"), False, True),
        (Pin("tag", "box-a"), True, False),
    ],
)
def test_a_pin_admits(pin: Pin, local: bool, expected: bool) -> None:
    assert pin.admits(node_id="0a", name="box-a", tags=["gpu"], local=local) is expected


# Hedging.


@pytest.mark.parametrize("seed", range(3))
def test_the_centile_is_estimated_in_passing(seed: int) -> None:
    dice, centile = random.Random(seed), Centile()
    above = 0
    for number in range(6000):
        seconds = dice.lognormvariate(-4.0, 1.0)
        above += number >= 1000 and seconds > (centile.seconds or 0.0)
        centile.learn(seconds)
    assert above / 5000 == pytest.approx(0.05, abs=0.015)


def test_the_centile_follows_a_model_that_becomes_slow() -> None:
    centile = Centile()
    for seconds in [0.01] * 500 + [0.1] * 100:
        centile.learn(seconds)
    assert centile.seconds == pytest.approx(0.1, rel=0.1)


def test_there_is_no_centile_of_few_calls() -> None:
    centile = Centile()
    for _ in range(KNOWN_CALLS - 1):
        centile.learn(0.01)
    assert centile.seconds is None
    centile.learn(0.01)
    assert centile.seconds is not None


@pytest.mark.parametrize(
    ("centile_s", "predicted_s", "expected_s"),
    [
        pytest.param(0.05, 0.01, 0.05, id="the centile"),
        pytest.param(0.05, 0.2, 0.2, id="nobody is late who was expected later"),
        pytest.param(0.0005, 0.0001, LEAST_S, id="no hedge for microseconds"),
        pytest.param(None, 0.01, FIRST_S, id="nothing is known yet"),
        pytest.param(None, 0.2, 0.6, id="but that it takes long"),
    ],
)
def test_a_call_is_late_after(centile_s: float | None, predicted_s: float, expected_s: float) -> None:
    assert hedge_after_s(centile_s, predicted_s) == pytest.approx(expected_s)


def test_hedges_are_a_share_of_the_calls_after_a_burst() -> None:
    budget = Budget(0.05)
    assert sum(budget.spend() for _ in range(200)) == BURST
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert spent in (49, 50)
    for _ in range(100_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(200)) == BURST


def test_a_share_of_nothing_is_no_hedge() -> None:
    budget = Budget(0.0)
    budget.earn()
    assert not budget.spend()


# Breaker.


def test_a_breaker_opens_after_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    assert breaker.passes(0.0)
    breaker.failed(0.0)
    assert not breaker.passes(0.0)
    assert not breaker.passes(0.99 * FIRST_OPEN_S)


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES + 5):  # with some that were under way
        breaker.failed(0.0)
    return breaker


def test_one_call_at_a_time_probes() -> None:
    breaker = opened()
    assert breaker.passes(FIRST_OPEN_S)
    breaker.asked(FIRST_OPEN_S)
    assert not breaker.passes(FIRST_OPEN_S + 0.01)
    breaker.succeeded()
    assert breaker.passes(FIRST_OPEN_S + 0.01)


def test_failed_probes_become_rarer_up_to_a_bound() -> None:
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(8):
        at_s = next(now_s + tenths / 10 for tenths in range(1, 1000) if breaker.passes(now_s + tenths / 10))
        waits.append(at_s - now_s)
        now_s = at_s
        breaker.asked(now_s)
        breaker.failed(now_s)
    assert waits[:3] == pytest.approx([FIRST_OPEN_S, 2 * FIRST_OPEN_S, 4 * FIRST_OPEN_S], abs=0.11)
    assert waits[-1] == pytest.approx(MAX_OPEN_S, abs=0.11)


def test_a_probe_that_was_never_heard_of_does_not_keep_it_open() -> None:
    breaker = opened()
    breaker.asked(FIRST_OPEN_S)
    assert breaker.passes(2 * FIRST_OPEN_S)

"""What nodes tell of how they fare: what is enough to be told, gaps, and what came with answers."""

import pytest

from federation.estimates import LEAST_BYTES, MAX_OUTSTANDING, ROUND_TRIPS, Estimates
from federation.messages import Engines, Load, ModelState, State
from federation.state import (
    MAX_MODELS,
    HeardState,
    OwnState,
    credible_load,
    credible_model,
    load_changed_enough,
    model_changed_enough,
)

WARM = ModelState(replicas=1, backlog_s=0.1, run_s={1: 0.010, 2: 0.015}, cold_start_s=1.0, p95_s=0.02)
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("now", "enough"),
    [
        (WARM, False),
        (ModelState(2, 0.1, WARM.run_s, 1.0, 0.02), True),
        (ModelState(1, 0.119, WARM.run_s, 1.0, 0.02), False),
        (ModelState(1, 0.121, WARM.run_s, 1.0, 0.02), True),
        (ModelState(1, 0.1, {1: 0.0109, 2: 0.015}, 1.0, 0.02), False),
        (ModelState(1, 0.1, {1: 0.0112, 2: 0.015}, 1.0, 0.02), True),
        (ModelState(1, 0.1, {1: 0.010}, 1.0, 0.02), True),
        (ModelState(1, 0.1, WARM.run_s, 1.2, 0.02), True),
        (ModelState(1, 0.1, WARM.run_s, 1.0, 0.03), True),
        (ModelState(1, 0.1, WARM.run_s, 1.0, 0.02, "set aside"), True),
        (ModelState(1, 0.1, WARM.run_s, 1.0, 0.02, engines=Engines("e" * 64, 5)), True),
    ],
)
def test_a_models_state_is_told_where_it_changed_enough(now: ModelState, enough: bool) -> None:
    assert model_changed_enough(WARM, now) == enough


def test_a_short_backlog_that_comes_and_goes_is_not_told() -> None:
    assert not model_changed_enough(ModelState(1), ModelState(1, backlog_s=0.005))
    assert model_changed_enough(ModelState(1), ModelState(1, backlog_s=0.006))


@pytest.mark.parametrize(
    ("now", "enough"),
    [
        (Load(0.1, 10, 1000 * MIB, 50 * MIB, 0.5, 100.0, 60.0), False),
        (Load(0.13, 10, 1000 * MIB, 50 * MIB, 0.5, 100.0, 60.0), True),
        (Load(0.1, 12, 1000 * MIB, 50 * MIB, 0.5, 100.0, 60.0), False),
        (Load(0.1, 13, 1000 * MIB, 50 * MIB, 0.5, 100.0, 60.0), True),
        (Load(0.1, 10, 960 * MIB, 50 * MIB, 0.5, 100.0, 60.0), False),
        (Load(0.1, 10, 940 * MIB, 50 * MIB, 0.5, 100.0, 60.0), True),
        (Load(0.1, 10, 1000 * MIB, -1, 0.5, 100.0, 60.0), True),
        (Load(0.1, 10, 1000 * MIB, 50 * MIB, 0.65, 100.0, 60.0), True),
        (Load(0.1, 10, 1000 * MIB, 50 * MIB, 0.5, 111.0, 60.0), True),
        (Load(0.1, 10, 1000 * MIB, 50 * MIB, 0.5, 100.0, 63.0), True),
    ],
)
def test_a_load_is_told_where_it_changed_enough(now: Load, enough: bool) -> None:
    assert load_changed_enough(Load(0.1, 10, 1000 * MIB, 50 * MIB, 0.5, 100.0, 60.0), now) == enough


def test_states_are_numbered_and_come_ten_times_a_second_at_most() -> None:
    own = OwnState(epoch=5)
    own.publish(Load(1.0), {"a": WARM})
    first = own.due(10.0)
    assert first == State(5, 2, 1, Load(1.0), {"a": WARM})
    own.publish(Load(2.0), {"a": WARM})
    assert own.due(10.05) is None
    assert own.due(10.11) == State(5, 3, 2, Load(2.0))
    assert own.due(11.0) is None
    own.publish(Load(2.0), {})
    assert own.due(12.0) == State(5, 4, 3, Load(2.0), gone=["a"])
    assert own.whole() == State(5, 4, 0, Load(2.0))


def test_a_beat_that_comes_a_millisecond_early_is_not_left_out() -> None:
    own = OwnState(epoch=5)
    for beat, at_s in enumerate((10.001, 10.1, 10.201, 10.299)):
        own.publish(Load(float(beat + 1)), {})
        assert own.due(at_s) is not None


def test_small_steps_add_up_against_what_was_told() -> None:
    own, told = OwnState(1), 0
    for step in range(100):
        own.publish(Load(0.001 * step), {})
        told += own.due(10.0 + step) is not None
    assert 5 < told < 25


def test_of_very_many_models_the_loaded_ones_are_told() -> None:
    own = OwnState(1)
    models = {f"m{number}": ModelState(cold_start_s=1.0) for number in range(MAX_MODELS + 5)}
    own.publish(Load(), models | {"zz": WARM, "never measured": ModelState()})
    state = own.due(1.0)
    assert state is not None
    assert len(state.models) == MAX_MODELS
    assert "zz" in state.models
    assert "never measured" not in state.models


@pytest.fixture
def heard() -> HeardState:
    heard = HeardState()
    assert heard.hear(State(5, 7, 0, Load(1.0), {"a": WARM, "b": WARM}), 5, 0.0)
    return heard


def test_deltas_in_a_row_are_put_together(heard: HeardState) -> None:
    busy = ModelState(1, 2.0)
    assert heard.hear(State(5, 8, 7, Load(2.0), {"a": busy}, ["b"]), 5, 1.0)
    assert heard.models == {"a": busy}
    assert heard.load == Load(2.0)


def test_after_a_gap_all_is_asked_for_and_taken(heard: HeardState) -> None:
    models = heard.models
    assert not heard.hear(State(5, 9, 8, Load(2.0), {"c": WARM}), 5, 1.0)
    assert heard.models.keys() == {"a", "b"}
    assert heard.hear(State(5, 9, 0, Load(2.0), {"c": WARM}), 5, 1.0)
    assert heard.models == {"c": WARM}
    assert heard.models is models


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(State(4, 99, 0, Load(9.0)), id="of an earlier life"),
        pytest.param(State(5, 7, 6, Load(9.0), {}, ["a"]), id="known already"),
        pytest.param(State(5, 3, 2, Load(9.0), {}, ["a"]), id="older"),
    ],
)
def test_what_is_no_news_is_passed_over(heard: HeardState, state: State) -> None:
    assert heard.hear(state, 5, 1.0)
    assert heard.models.keys() == {"a", "b"}
    assert heard.load == Load(1.0)


def test_what_came_with_an_answer_is_believed_for_half_a_second(heard: HeardState) -> None:
    busy = ModelState(1, 5.0)
    heard.reply_said("a", busy, Load(5.0), 1.0)
    heard.reply_said("new", busy, None, 1.0)
    assert heard.models["a"] == heard.models["new"] == busy
    assert heard.load == Load(5.0)
    heard.pass_time(1.4)
    assert heard.models["a"] == busy
    heard.pass_time(1.6)
    assert heard.models == {"a": WARM, "b": WARM}
    assert heard.load == Load(1.0)


def test_a_state_after_an_answer_is_newer_and_one_just_behind_it_is_not(heard: HeardState) -> None:
    busy, idle = ModelState(1, 5.0), ModelState(1, 0.0)
    heard.reply_said("a", busy, Load(5.0), 1.0)
    heard.hear(State(5, 8, 7, Load(0.5), {"a": idle}), 5, 1.05)
    assert heard.models["a"] == busy
    assert heard.load == Load(5.0)
    heard.hear(State(5, 9, 8, Load(0.6), {"a": idle}), 5, 1.2)
    assert heard.models["a"] == idle
    assert heard.load == Load(0.6)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "state",
    [
        ModelState(replicas=-1),
        ModelState(backlog_s=NAN),
        ModelState(backlog_s=INF),
        ModelState(run_s={1: NAN}),
        ModelState(run_s={1: -1.0}),
        ModelState(run_s={0: 1.0}),
        ModelState(run_s={-1: 1.0, 1: 1.0}),
        ModelState(run_s={2**63 - 1: 1.0}),
        ModelState(cold_start_s=-0.1),
        ModelState(p95_s=INF),
        ModelState(run_s=dict.fromkeys(range(33), 1.0)),
        ModelState(refused="x" * 2000),
        ModelState(engines=Engines("../" + "e" * 61, 5)),
        ModelState(engines=Engines("e" * 64, 0)),
        ModelState(engines=Engines("e" * 64, 2**60)),
    ],
)
def test_a_state_that_cannot_be_is_not_believed(heard: HeardState, state: ModelState) -> None:
    assert not credible_model(state)
    assert heard.hear(State(5, 8, 7, Load(), {"a": state, "c": WARM}), 5, 1.0)
    heard.reply_said("b", state, None, 1.0)
    assert heard.models == {"a": WARM, "b": WARM, "c": WARM}


@pytest.mark.parametrize("load", [Load(NAN), Load(in_flight=-1), Load(cpu_share=INF), Load(power_w=NAN)])
def test_a_load_that_cannot_be_is_not_believed(heard: HeardState, load: Load) -> None:
    assert not credible_load(load)
    assert heard.hear(State(5, 8, 7, load), 5, 1.0)
    heard.reply_said("a", None, load, 1.0)
    assert heard.load == Load(1.0)


def test_a_peer_cannot_make_its_states_grow_without_bound(heard: HeardState) -> None:
    for number in range(3):
        models = {f"{number}-{index}": WARM for index in range(MAX_MODELS)}
        heard.hear(State(5, 8 + number, 7 + number, Load(), models), 5, 1.0)
        heard.reply_said(f"reply {number}", WARM, None, 1.0)
    heard.hear(State(5, 11, 10, Load(), {"x" * 5000: WARM}, list(heard.models)[:10]), 5, 1.0)
    assert len(heard.models) <= MAX_MODELS
    assert "x" * 5000 not in heard.models


def test_the_round_trip_is_the_least_of_the_last() -> None:
    way = Estimates()
    for number, took_s in enumerate([0.005, 0.002] + [0.009] * (ROUND_TRIPS - 2)):
        way.came_back(way.probe(float(number)), number + took_s)
    assert way.rtt_s == pytest.approx(0.002)
    for number in range(ROUND_TRIPS):
        way.came_back(way.probe(100.0 + number), 100.009 + number)
    assert way.rtt_s == pytest.approx(0.009)


def test_the_width_is_what_large_bodies_took_beyond_the_round_trip() -> None:
    way = Estimates()
    way.moved(10**6, 1.0)
    assert way.bytes_per_s == 0  # the round trip is not known yet
    way.came_back(way.probe(0.0), 0.010)
    way.came_back(way.probe(1.0, 125_000), 1.020)
    assert way.bytes_per_s == pytest.approx(12.5e6)
    way.moved(LEAST_BYTES - 1, 9.0)
    assert way.bytes_per_s == pytest.approx(12.5e6)
    way.moved(10**6, 3.0)  # it met others on its way
    assert way.bytes_per_s == pytest.approx(12.5e6)
    for _ in range(4):
        way.moved(10**6, 0.110)
    assert way.bytes_per_s == pytest.approx(10e6)


def test_probes_that_never_come_back_or_were_never_sent_tell_nothing() -> None:
    way = Estimates()
    numbers = [way.probe(0.0) for _ in range(MAX_OUTSTANDING + 1)]
    way.came_back(numbers[0], 1.0)
    way.came_back(12345, 1.0)
    assert way.rtt_s == 0
    way.forget_outstanding()
    way.came_back(numbers[-1], 1.0)
    assert way.rtt_s == 0

"""What stays warm, as tables over a clock that the test drives."""

import pytest

from appliance.routing.call_history import UNKNOWN_IDLE_S
from appliance.routing.keep_warm import LEAST_WORTH, Candidate, KeepWarm

MB = 1_000_000
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def called_every(policy: KeepWarm, key: str, gap_s: float, *, until_s: float, times: int = 50) -> None:
    for nth in range(times - 1, -1, -1):
        policy.called(key, until_s - nth * gap_s)


def policy_with(*models: tuple[str, float, float], until_s: float = 10 * DAY_S) -> KeepWarm:
    """Each model: its key, the seconds between its calls, its cold start's seconds. All were called at `until_s`."""
    policy = KeepWarm()
    for key, gap_s, cold_start_s in models:
        called_every(policy, key, gap_s, until_s=until_s)
        policy.learned(key, cold_start_s=cold_start_s, memory_bytes=100 * MB)
    return policy


def idle(key: str, memory_bytes: int = 100 * MB, replicas: int = 1, floor: int = 0) -> Candidate:
    return Candidate(key, memory_bytes, replicas, replicas, floor)


NOW_S = 10 * DAY_S


@pytest.mark.parametrize(
    ("dearer", "cheaper"),
    [
        pytest.param(("a", 60.0, 1.0), ("b", 600.0, 1.0), id="called more often"),
        pytest.param(("a", 600.0, 5.0), ("b", 600.0, 1.0), id="slower to start"),
        pytest.param(("a", 600.0, 30.0), ("b", 60.0, 1.0), id="rarely called but far slower to start"),
    ],
)
def test_worth_is_rate_times_cost(dearer: tuple[str, float, float], cheaper: tuple[str, float, float]) -> None:
    policy = policy_with(dearer, cheaper)
    assert policy.worth("a", 100 * MB, NOW_S) > policy.worth("b", 100 * MB, NOW_S)


def test_worth_is_for_each_byte() -> None:
    policy = policy_with(("a", 60.0, 1.0))
    assert policy.worth("a", 100 * MB, NOW_S) == pytest.approx(10 * policy.worth("a", 1000 * MB, NOW_S))


def test_what_was_never_called_is_worth_nothing() -> None:
    policy = KeepWarm()
    policy.learned("a", cold_start_s=9.0, memory_bytes=1)
    assert policy.worth("a", 1, NOW_S) == 0.0
    assert policy.worth("unknown", 1, NOW_S) == 0.0


def test_a_model_called_once_fades_as_it_idles() -> None:
    policy = KeepWarm()
    policy.called("a", NOW_S)
    worths = [policy.worth("a", MB, NOW_S + idle_s) for idle_s in (0.0, UNKNOWN_IDLE_S, DAY_S)]
    assert worths == sorted(worths, reverse=True)
    assert worths[1] == pytest.approx(worths[0] / 2)


@pytest.mark.parametrize(
    ("warm", "need_mb", "ended"),
    [
        pytest.param([idle("often"), idle("rare")], 100, ["rare"], id="the one worth least"),
        pytest.param([idle("often"), idle("rare")], 150, ["rare", "often"], id="as many as it takes"),
        pytest.param([idle("often"), idle("rare")], 201, None, id="all together do not suffice"),
        pytest.param([idle("often"), idle("rare")], 0, [], id="there is room already"),
        pytest.param([idle("often"), Candidate("rare", 100 * MB, 1, 0)], 100, ["often"], id="never a busy one"),
        pytest.param([idle("often"), idle("rare", floor=1)], 100, ["often"], id="never below the owner's floor"),
        pytest.param([idle("often", replicas=3)], 200, ["often", "often"], id="a key once for each replica"),
        pytest.param([idle("often", replicas=3, floor=2)], 200, None, id="a floor of two leaves one to end"),
        pytest.param([idle("new"), idle("often")], 100, ["often"], id="not the one that needs the room"),
        pytest.param(
            [idle("rare"), idle("often", 1000 * MB)], 1000, ["often"], id="small ones are spared where a large suffices"
        ),
    ],
)
def test_room_is_made_by_those_worth_least(warm: list[Candidate], need_mb: int, ended: list[str] | None) -> None:
    policy = policy_with(("often", 60.0, 1.0), ("rare", HOUR_S, 1.0), ("new", DAY_S, 1.0))
    assert policy.make_room(warm, need_mb * MB, NOW_S, for_key="new") == ended


def test_a_second_replica_is_worth_less_than_another_models_only_one() -> None:
    policy = policy_with(("a", 60.0, 1.0), ("b", 80.0, 1.0))
    assert policy.make_room([idle("a", replicas=2), idle("b")], MB, NOW_S, for_key="c") == ["a"]


@pytest.mark.parametrize(
    ("idle_s", "ended"),
    [
        pytest.param(60.0, [], id="a model of this rate is kept"),
        pytest.param(20 * DAY_S, ["a"], id="it has idled too long for its worth"),
    ],
)
def test_what_is_worth_less_than_the_price_of_memory_is_ended(idle_s: float, ended: list[str]) -> None:
    policy = policy_with(("a", 600.0, 1.0))
    assert policy.to_end([idle("a")], NOW_S + idle_s, used_bytes=100 * MB, budget_bytes=1000 * MB) == ended


def test_after_a_burst_a_model_is_ended_early() -> None:
    policy = KeepWarm()
    now_s = 0.0
    for _ in range(10):
        for _ in range(30):
            now_s += 2.0
            policy.called("bursty", now_s)
        now_s += 12 * HOUR_S
        policy.called("bursty", now_s)
    policy.learned("bursty", cold_start_s=1.0, memory_bytes=100 * MB)
    warm = [idle("bursty")]
    assert policy.to_end(warm, now_s + 1.5, used_bytes=0, budget_bytes=1) == []
    assert policy.to_end(warm, now_s + 120.0, used_bytes=0, budget_bytes=1) == ["bursty"]


def test_past_the_budget_the_least_worth_are_ended() -> None:
    policy = policy_with(("often", 60.0, 1.0), ("rare", 600.0, 1.0))
    warm = [idle("often"), idle("rare")]
    assert policy.to_end(warm, NOW_S, used_bytes=200 * MB, budget_bytes=199 * MB) == ["rare"]
    assert policy.to_end(warm, NOW_S, used_bytes=200 * MB, budget_bytes=10 * MB) == ["rare", "often"]


def asleep_after(policy: KeepWarm, key: str, now_s: float) -> None:
    """Lets the policy see that the model was warm and is no longer."""
    policy.to_start([idle(key)], now_s, free_bytes=0)
    policy.to_start([], now_s, free_bytes=0)


def test_a_model_called_by_the_hour_is_started_shortly_before() -> None:
    policy = policy_with(("hourly", HOUR_S, 2.0))
    asleep_after(policy, "hourly", NOW_S + 1)
    started = [
        minute
        for minute in range(1, 60)
        if policy.to_start([], NOW_S + 60.0 * minute, free_bytes=1000 * MB) == "hourly"
    ]
    assert started
    assert 30 <= started[0] < 60


@pytest.mark.parametrize(
    ("warm", "free_mb", "starts"),
    [
        pytest.param([], 100, True, id="there is room"),
        pytest.param([], 99, False, id="there is none, and none can be made"),
        pytest.param([idle("rare")], 0, True, id="what is warm is worth clearly less"),
        pytest.param([idle("often")], 0, False, id="what is warm is worth more"),
        pytest.param([idle("like")], 0, False, id="what is warm is worth as much: they would take turns for nothing"),
        pytest.param([Candidate("rare", 100 * MB, 1, 0)], 0, False, id="what is warm is busy"),
    ],
)
def test_a_start_ahead_must_be_worth_it(warm: list[Candidate], free_mb: int, starts: bool) -> None:
    policy = policy_with(("a", 300.0, 1.0), ("like", 300.0, 1.0), ("often", 30.0, 1.0), ("rare", DAY_S, 1.0))
    asleep_after(policy, "a", NOW_S + 1)
    asked = [policy.to_start(warm, NOW_S + at_s, free_bytes=free_mb * MB) for at_s in range(2, 25)]
    assert ("a" in asked) is starts


def test_starting_ahead_takes_a_bounded_share_of_the_time() -> None:
    policy = policy_with(*((f"m{n}", 300.0, 50.0) for n in range(20)))
    policy.to_start([idle(f"m{n}") for n in range(20)], NOW_S, free_bytes=0)
    started = [policy.to_start([], NOW_S + at_s, free_bytes=10_000 * MB) for at_s in range(1, 200)]
    assert len([key for key in started if key]) == 1


def test_the_models_remembered_are_bounded_and_the_longest_uncalled_goes_first() -> None:
    policy = KeepWarm(max_remembered=2)
    for now_s, key in enumerate(["a", "b", "a", "c"]):
        policy.called(key, 10.0 * now_s)
    assert policy.worth("a", 1, 40.0) > 0
    assert policy.worth("b", 1, 40.0) == 0
    assert policy.worth("c", 1, 40.0) > 0


def test_what_is_forgotten_is_not_started() -> None:
    policy = policy_with(("a", 300.0, 1.0))
    asleep_after(policy, "a", NOW_S + 1)
    policy.forget("a")
    assert all(policy.to_start([], NOW_S + at_s, free_bytes=1000 * MB) is None for at_s in range(2, 300))


def test_the_price_of_memory_is_a_second_for_a_gigabyte_hour() -> None:
    assert pytest.approx(1.0) == LEAST_WORTH * 1e9 * HOUR_S

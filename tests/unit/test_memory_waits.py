"""Who waits for memory does so in turn, no longer than it must, and is never in the way of others."""

import asyncio

import pytest

from appliance.core.errors import IngleError, UnavailableError
from appliance.core.scale import Scale
from tests.unit.box import Box, in_a_loop

pytestmark = pytest.mark.usefixtures("driven_clock")

PINNED = Scale(min_replicas=1)


def test_a_model_that_pins_leave_no_room_for_is_refused_and_those_behind_it_are_served() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        box.scales["pinned"] = PINNED
        pinned, large, small = box.model("pinned", 60), box.model("large", 60), box.model("small", 30)
        box.warm_up(pinned)
        refused = box.call(large)
        box.call(small)
        box.pass_time(0.2)
        assert isinstance(refused.told, UnavailableError)
        assert "min_replicas" in refused.told.sentence
        assert small.replicas

    in_a_loop(body)


def test_a_model_of_unknown_size_is_tried_beside_pins_that_leave_little() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        box.scales["pinned"] = PINNED
        pinned, unknown = box.model("pinned", 95), box.model("unknown", 0)
        box.warm_up(pinned)
        box.call(unknown)
        assert unknown.replicas

    in_a_loop(body)


def test_who_waits_for_memory_and_is_not_called_any_more_is_in_nobodys_way() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        leased, gone, small = box.model("leased", 60), box.model("gone", 60), box.model("small", 30)
        box.warm_up(leased)
        leased.prepare()  # nobody's need ends it for a while
        caller = box.call(gone, deadline_s=0.5)
        box.pass_time(1)
        assert isinstance(caller.told, IngleError)
        box.call(small)
        box.pass_time(0.2)
        assert small.replicas
        assert box.scheduler.counts().waiting_for_memory == 0

    in_a_loop(body)


def test_a_pin_that_finds_no_room_holds_nobody_up() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        leased, pinned, small = box.model("leased", 60), box.model("pinned", 60), box.model("small", 30)
        box.warm_up(leased)
        leased.prepare()
        box.scales["pinned"] = PINNED
        box.pass_time(1.5)
        assert not pinned.replicas
        box.call(small)
        assert small.replicas

    in_a_loop(body)


def test_more_replicas_of_one_model_do_not_pass_who_waits_for_memory() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        flooded, other, waits = box.model("flooded", 30), box.model("other", 50, cold_start_s=9.0), box.model("w", 70)
        box.warm_up(flooded, other)
        box.call(other)  # and it computes for a long time
        box.call(waits)
        for _ in range(20):
            for _ in range(3):
                box.call(flooded)
            box.pass_time(0.1)
            for worker in box.workers(flooded):
                worker.answer_all()
        assert len(flooded.replicas) == 1

    in_a_loop(body)


def test_who_could_have_no_room_whoever_gave_way_keeps_nobody_waiting_and_ends_nobody() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        stateful, large, small = box.model("stateful", 50), box.model("large", 60), box.model("small", 30)
        box.call(stateful, sequence=stateful.sequences.begin(1))
        box.workers(stateful)[0].load()
        box.workers(stateful)[0].answer_all()
        caller = box.call(large)
        box.pass_time(1)
        box.call(small)
        box.workers(small)[0].load()
        box.pass_time(10)
        assert caller.told is None
        assert "sequences" in large.state()[1]
        assert box.workers(small)[0].state == "ready"

    in_a_loop(body)


def test_another_replica_does_not_end_what_is_worth_more() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        dear, flooded = box.model("dear", 60, cold_start_s=1000.0), box.model("flooded", 30, cold_start_s=0.01)
        for _ in range(3):
            box.warm_up(dear)
            box.pass_time(1)
        box.warm_up(flooded)
        for _ in range(20):
            for _ in range(3):
                box.call(flooded)
            for worker in box.workers(flooded):
                worker.answer_all()
            box.pass_time(0.1)
        assert dear.replicas_that_are("ready") == 1

    in_a_loop(body)


def test_all_replicas_that_are_to_stay_are_started_though_nobody_calls() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        box.scales["pinned"] = Scale(min_replicas=2)
        pinned = box.model("pinned", 20)
        box.pass_time(1.5)
        for worker in box.workers(pinned):
            worker.load()
        box.pass_time(1.5)
        assert len(pinned.replicas) == 2

    in_a_loop(body)


def test_memory_that_sequences_hold_is_waited_for_and_had_once_they_are_over() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        stateful, other = box.model("stateful", 60), box.model("other", 60)
        box.call(stateful, sequence=stateful.sequences.begin(1))
        box.workers(stateful)[0].load()
        box.workers(stateful)[0].answer_all()
        caller = box.call(other, deadline_s=120)
        box.pass_time(30)
        assert caller.told is None
        assert box.workers(stateful)[0].state == "ready"
        box.pass_time(40)
        box.let_go()
        assert other.replicas

    in_a_loop(body)


def test_a_worker_that_stays_for_its_sequences_does_not_keep_others_from_giving_way() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        stateful, idle, called = box.model("stateful", 50), box.model("idle", 40), box.model("called", 40)
        box.call(stateful, sequence=stateful.sequences.begin(1))
        box.workers(stateful)[0].load()
        box.workers(stateful)[0].answer_all()
        box.warm_up(idle)
        stateful.sleep()
        box.call(called)
        box.let_go()
        assert called.replicas

    in_a_loop(body)


def test_a_busy_worker_without_sequences_gives_way_before_one_with() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        stateful, busy, called = box.model("stateful", 40), box.model("busy", 60, cold_start_s=9.0), box.model("c", 60)
        box.call(stateful, sequence=stateful.sequences.begin(1))
        box.workers(stateful)[0].load()
        box.warm_up(busy)
        box.call(busy)
        box.call(called)
        box.pass_time(40)
        assert box.workers(stateful)[0].state == "ready"
        assert box.workers(busy)[0].state == "retiring"

    in_a_loop(body)


def test_calls_that_waited_when_their_model_was_put_to_sleep_are_answered() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        busy, waits = box.model("busy", 60), box.model("waits", 60)
        box.warm_up(busy)
        box.call(busy)
        caller = box.call(waits)
        waits.sleep()
        box.workers(busy)[0].answer_all()
        box.pass_time(0.2)
        box.let_go()
        box.workers(waits)[0].load()
        box.workers(waits)[0].answer_all()
        assert caller.told is not None
        assert not isinstance(caller.told, IngleError)
        box.let_go()
        assert not waits.replicas

    in_a_loop(body)


@pytest.mark.parametrize("end", ["sleep", "close"])
def test_who_waits_for_a_load_is_told_at_once_when_the_model_is_put_to_sleep_or_deleted(end: str) -> None:
    async def run() -> None:
        box = Box(budget_mib=100)
        pool = box.model("m", 60)
        loading = asyncio.ensure_future(pool.warm(60))
        await asyncio.sleep(0)
        getattr(pool, end)()
        for _ in range(3):  # turns of the loop
            await asyncio.sleep(0)
        assert loading.done()
        assert isinstance(loading.exception(), UnavailableError)

    asyncio.run(run())


def test_a_version_that_is_gone_takes_no_call() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        pool = box.model("m", 60)
        pool.close()
        with pytest.raises(UnavailableError):
            box.call(pool)

    in_a_loop(body)


def test_no_worker_is_asked_for_while_none_can_be_started_and_no_model_is_blamed_for_it() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        box.can_start = False
        pool = box.model("m", 60)
        caller = box.call(pool)
        box.pass_time(3)
        assert not pool.replicas
        assert caller.told is None
        box.can_start = True
        box.pass_time(0.1)
        assert pool.replicas

    in_a_loop(body)


def test_an_idle_limit_leaves_the_replicas_that_are_to_stay() -> None:
    def body() -> None:
        box = Box(budget_mib=100, idle_s=10.0)
        box.scales["pinned"] = PINNED
        pinned = box.model("pinned", 20)
        box.warm_up(pinned)
        pinned.add_replica()
        box.workers(pinned)[-1].load()
        box.pass_time(20)
        assert pinned.replicas_that_are("ready") == 1

    in_a_loop(body)

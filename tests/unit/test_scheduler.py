"""Who gets memory and who gives way, over real pools and policies; the workers are stand-ins that load when told."""

import asyncio

import pytest

from appliance.core.errors import UnavailableError
from appliance.core.scale import Scale
from tests.unit.box import Box, in_a_loop

pytestmark = pytest.mark.usefixtures("driven_clock")


def test_a_call_to_a_cold_model_starts_it_at_once_where_there_is_room() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        pool = box.model("a", 60)
        box.call(pool)
        assert [worker.state for worker in box.workers(pool)] == ["starting"]

    in_a_loop(body)


def test_what_idles_gives_way_to_what_is_called_and_no_call_fails() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        idle, called = box.model("idle", 60), box.model("called", 60)
        box.warm_up(idle)
        caller = box.call(called)
        assert not called.replicas
        box.let_go()
        assert not idle.replicas
        box.workers(called)[0].load()
        box.workers(called)[0].answer_all()
        assert caller.told is not None
        assert box.scheduler.counts().evicted == 1

    in_a_loop(body)


def test_the_least_worthy_gives_way() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        dear, cheap, third = box.model("dear", 40, cold_start_s=9.0), box.model("cheap", 40), box.model("third", 40)
        box.warm_up(dear, cheap)
        box.pass_time(1)
        box.call(third)
        box.let_go()
        assert dear.replicas
        assert not cheap.replicas

    in_a_loop(body)


def test_a_model_that_computes_all_the_time_gives_way_once_it_has_had_its_turn() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        busy, starved = box.model("busy", 60, cold_start_s=0.1), box.model("starved", 60)
        box.warm_up(busy)
        box.call(busy)
        box.call(starved)
        assert "memory" in starved.state()[1]
        box.pass_time(1)
        assert box.workers(busy)[0].state == "retiring"
        box.workers(busy)[0].answer_all()
        box.let_go()
        assert starved.replicas

    in_a_loop(body)


def test_no_turn_is_shorter_than_a_few_of_its_cold_starts() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        busy, starved = box.model("busy", 60, cold_start_s=2.0), box.model("starved", 60)
        box.warm_up(busy)
        box.call(busy)
        box.call(starved)
        box.pass_time(7)
        assert box.workers(busy)[0].state == "ready"
        box.pass_time(2)
        assert box.workers(busy)[0].state == "retiring"

    in_a_loop(body)


def test_a_model_that_was_loaded_by_name_is_not_ended_before_it_is_called() -> None:
    async def run() -> None:
        box = Box(budget_mib=100)
        leased, other = box.model("leased", 60), box.model("other", 60)
        loading = asyncio.ensure_future(leased.warm(5))
        await asyncio.sleep(0)
        box.workers(leased)[0].load()
        await loading
        box.call(other)
        box.pass_time(20)
        assert leased.replicas_that_are("ready")
        box.pass_time(20)
        box.let_go()
        assert other.replicas

    asyncio.run(run())


def test_those_that_wait_for_memory_get_it_in_the_order_in_which_they_came() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        first, second, third = (box.model(name, 90) for name in ("first", "second", "third"))
        box.call(first)
        box.call(second)
        box.call(third)
        box.workers(first)[0].load()
        box.workers(first)[0].answer_all()
        box.pass_time(0.1)
        box.let_go()
        assert second.replicas
        assert not third.replicas

    in_a_loop(body)


def test_a_model_larger_than_the_whole_budget_is_refused_with_what_to_do() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        caller = box.call(box.model("huge", 200))
        assert isinstance(caller.told, UnavailableError)
        assert "--memory-budget" in caller.told.sentence

    in_a_loop(body)


def test_demand_beyond_one_worker_starts_others_and_its_end_ends_them() -> None:
    def body() -> None:
        box = Box(budget_mib=100)
        pool = box.model("wanted", 10)
        box.warm_up(pool)
        for _ in range(30):  # 30 calls a second, of 0.1 s each
            for _ in range(3):
                box.call(pool)
            for worker in box.workers(pool):
                if worker.state == "starting":
                    worker.load()
                worker.answer_all()
            box.pass_time(0.1)
        assert len(pool.replicas) == 4
        box.pass_time(60)
        box.let_go()
        assert len(pool.replicas) == 1

    in_a_loop(body)


def test_a_pinned_model_is_warm_without_a_call_and_never_gives_way() -> None:
    def body() -> None:
        box = Box(budget_mib=100, scale=Scale(min_replicas=1))
        pinned = box.model("pinned", 60)
        box.pass_time(1.2)
        box.workers(pinned)[0].load()
        box.pass_time(4000)
        assert pinned.replicas_that_are("ready")

    in_a_loop(body)

"""Who gets memory and who gives way, over real pools and policies; the workers are stand-ins that load when told."""

import asyncio
from collections.abc import Callable, Hashable
from typing import cast

import pytest

from appliance.core.errors import UnavailableError
from appliance.core.frames import Invoke
from appliance.core.manifest import Limits, Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.core.profile import Profile
from appliance.core.scale import AS_THE_NODE_DECIDES, Scale
from appliance.core.tensors import Signature
from appliance.core.versions import parse_version
from appliance.routing.scheduler import Scheduler
from appliance.routing.settings import RoutingSettings
from appliance.workers.measures import Measures
from appliance.workers.pool import Pool
from appliance.workers.replica import Replica
from appliance.workers.sequences import CallSequence
from appliance.workers.supervisor import Supervisor
from appliance.workers.work import Work
from tests.unit.test_work import Caller

MIB = 2**20


class StandIn:
    """A worker that is loaded and answers when the test says so."""

    def __init__(self, pool: Pool, box: "Box") -> None:
        self.pool, self.box = pool, box
        self.state = "starting"
        self.in_flight: dict[int, Work] = {}
        self.memory_bytes = pool.measures.memory_bytes
        self.alone = self.retired = self.answered = self.shares_process = False
        self.threads, self.load_s, self.load_error, self.end_reason, self.pid = 1, 0.0, "", "", 1
        self.started_s = self.ready_s = self.idle_since_s = box.now_s
        self.busy_since_s: float | None = None
        self.sequences: set[CallSequence] = set()

    @property
    def idle(self) -> bool:
        return self.state == "ready" and not self.in_flight

    def load(self) -> None:
        self.state, self.ready_s = "ready", self.box.now_s
        self.pool.on_change(cast(Replica, self))

    def send(self, work: Work, *, alone: bool = False) -> None:
        self.in_flight[work.invoke.call] = work

    def answer_all(self) -> None:
        for work in self.in_flight.values():
            work.future.set_result(cast("tuple[object, bytes]", (None, b"")))  # type: ignore[arg-type]
        self.in_flight.clear()
        self.pool.on_change(cast(Replica, self))

    def retire(self) -> None:
        self.state, self.retired = "retiring", True
        self.end_if_done()

    def end_if_done(self) -> None:
        if self.state == "retiring" and not self.in_flight:
            self.box.leaving.append(self)


class Box:
    """What the scheduler sees of the supervisor: pools on this box, and a clock that the test turns."""

    def __init__(self, *, budget_mib: int, scale: Scale = AS_THE_NODE_DECIDES, cores: int = 4) -> None:
        self.now_s = 1000.0
        self.pools: dict[str, Pool] = {}
        self.leaving: list[StandIn] = []
        self._numbers = iter(range(1, 10_000))
        self.scheduler = Scheduler(
            cast(Supervisor, self),
            RoutingSettings(),
            budget_bytes=budget_mib * MIB,
            cores=cores,
            scale_of=lambda _: scale,
            pinned=lambda: [pool.model for pool in self.pools.values()] if scale.min_replicas else [],
        )

    def model(self, name: str, mib: int, *, cold_start_s: float = 1.0) -> Pool:
        version = ModelVersion(
            name=ModelName("local", name),
            version=parse_version("1.0.0"),
            ordinal=1,
            digest=name,
            folder="/nowhere",
            size_bytes=1,
            signature=Signature((), ()),
            manifest=Manifest(limits=Limits()),
            batchable=False,
            batch_reason="",
            created_s=0.0,
        )
        profile = Profile(uss_loaded_bytes=mib * MIB, cold_start_s=cold_start_s, run_s={1: 0.1})
        self.pools[name] = Pool(
            version,
            max_batch=1,
            max_waiting=100,
            run_limit_s=30.0,
            most_sequences=1,
            sequence_idle_s=60.0,
            measures=Measures(version, profile if mib else None),
            spawn=lambda pool: cast(Replica, StandIn(pool, self)),
            need=self.scheduler.need,
        )
        return self.pools[name]

    def call(self, pool: Pool) -> Caller:
        caller = Caller()
        pool.submit(Work(Invoke(next(self._numbers), 0, []), [], self.now_s + 60, caller, 0))
        return caller

    def workers(self, pool: Pool) -> list[StandIn]:
        return [cast(StandIn, replica) for replica in pool.replicas]

    def warm_up(self, *pools: Pool) -> None:
        """Each is called, loaded, and answers."""
        for pool in pools:
            self.call(pool)
            for worker in self.workers(pool):
                worker.load()
                worker.answer_all()

    def let_go(self) -> None:
        """Those that were told to end, end."""
        while self.leaving:
            worker = self.leaving.pop()
            worker.state = "lost"
            worker.pool.on_change(cast(Replica, worker))
            self.scheduler.freed()

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.now_s += 0.1
            self.scheduler.tick(self.now_s)

    # What the scheduler asks of a supervisor.

    def active_pools(self) -> set[Pool]:
        return {pool for pool in self.pools.values() if pool.active}

    @property
    def used_bytes(self) -> int:
        return sum(replica.memory_bytes for pool in self.pools.values() for replica in pool.replicas)

    def pool(self, model: ModelVersion) -> Pool:
        return self.pools[model.name.name]

    def pool_of(self, key: Hashable) -> Pool | None:
        return next((pool for pool in self.pools.values() if pool.model.key == key), None)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The box that was made last tells the time."""
    made: list[Box] = []
    before = Box.__init__

    def remember(self: Box, **how: object) -> None:
        before(self, **how)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Box, "__init__", remember)
    for module in ("appliance.routing.scheduler", "appliance.workers.pool"):
        monkeypatch.setattr(f"{module}.time.monotonic", lambda: made[-1].now_s if made else 1000.0)


def in_a_loop(body: Callable[[], None]) -> None:
    async def run() -> None:
        body()

    asyncio.run(run())


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

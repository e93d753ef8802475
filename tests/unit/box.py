"""A box for tests of who gets memory: real pools and policies, over workers that are stand-ins and load when told."""

import asyncio
from collections.abc import Callable, Hashable
from typing import cast

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
        self.alone = self.retired = self.answered = self.shares_process = self.blameless = False
        self.threads, self.load_s, self.load_error, self.end_reason, self.pid = 1, 0.0, "", "", 1
        self.started_s = self.ready_s = self.idle_since_s = box.now_s
        self.busy_since_s: float | None = None
        self.sequences: set[CallSequence] = set()

    @property
    def idle(self) -> bool:
        return self.state == "ready" and not self.in_flight and not self.sequences

    def load(self) -> None:
        self.state, self.ready_s = "ready", self.box.now_s
        self.pool.on_change(cast(Replica, self))

    def send(self, work: Work, *, alone: bool = False) -> None:
        if work.sequence is not None and work.sequence.replica is None:
            work.sequence.bind(cast(Replica, self))
        self.in_flight[work.invoke.call] = work

    def answer_all(self) -> None:
        for work in self.in_flight.values():
            work.future.set_result(cast("tuple[object, bytes]", (None, b"")))  # type: ignore[arg-type]
        for work in [self.in_flight.pop(number) for number in list(self.in_flight)]:
            if work.sequence is not None:
                work.sequence.done(work)
        self.pool.on_change(cast(Replica, self))

    def retire(self) -> None:
        self.state, self.retired = "retiring", True
        self.end_if_done()

    def let_go(self, sequence: CallSequence) -> None:
        self.sequences.discard(sequence)
        self.end_if_done()

    def end_if_done(self) -> None:
        if self.state == "retiring" and not self.in_flight and not self.sequences:
            self.box.leaving.append(self)


class Box:
    """What the scheduler sees of the supervisor: pools on this box, and a clock that the test turns."""

    def __init__(
        self, *, budget_mib: int, scale: Scale = AS_THE_NODE_DECIDES, cores: int = 4, idle_s: float = 0.0
    ) -> None:
        self.now_s = 1000.0
        self.pools: dict[str, Pool] = {}
        self.scales: dict[str, Scale] = {}  # by model, where it is not `scale`
        self.leaving: list[StandIn] = []
        self.can_start = True
        self._numbers = iter(range(1, 10_000))

        def scale_of(model: ModelVersion) -> Scale:
            return self.scales.get(model.name.name, scale)

        self.scheduler = Scheduler(
            cast(Supervisor, self),
            RoutingSettings(),
            budget_bytes=budget_mib * MIB,
            cores=cores,
            idle_s=idle_s,
            scale_of=scale_of,
            pinned=lambda: [pool.model for pool in self.pools.values() if scale_of(pool.model).min_replicas],
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

    def call(self, pool: Pool, *, deadline_s: float = 60.0, sequence: CallSequence | None = None) -> Caller:
        """A call; of a sequence, its first."""
        caller = Caller()
        work = Work(Invoke(next(self._numbers), 0, []), [], self.now_s + deadline_s, caller, 0)
        if sequence is not None:
            work.sequence, work.invoke.sequence_start = sequence, True
        pool.submit(work)
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
            for pool in self.active_pools():
                pool.tick(self.now_s)
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


def in_a_loop(body: Callable[[], None]) -> None:
    async def run() -> None:
        body()

    asyncio.run(run())

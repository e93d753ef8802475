"""The one way through the node for every front: a call goes in as tensors and comes out as tensors, or as an error
of the one table.

Runs in the gateway's event loop. It finds the model, admits the call, hands it to the model's pool, counts and records
what became of it. It knows no protocol; deploys and loads are in deployment.py.
"""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from appliance.catalogue.catalogue import Catalogue
from appliance.core.client_memory import MemorySpan
from appliance.core.errors import (
    BadInputError,
    DeadlineError,
    IngleError,
    NotFoundError,
    UnavailableError,
    WorkerFailedError,
)
from appliance.core.frames import Answer, AnswerForm, Invoke
from appliance.core.machine import memory_bytes
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName, parse_name
from appliance.core.profile import Profile
from appliance.core.requests import CallAnswer, CallRequest, Seconds
from appliance.gateway.deployment import Deployer
from appliance.gateway.held import HeldBytes
from appliance.gateway.pacing import paced
from appliance.gateway.routes import Route, Routes
from appliance.gateway.sequence_routes import SequenceRoutes
from appliance.gateway.settings import GatewaySettings
from appliance.gateway.shadow import Pair, Shadow, ShadowReport
from appliance.gateway.shared_memory import SharedMemory
from appliance.gateway.sight import Sight
from appliance.gateway.states import IndexRow, ModelState, WorkerState
from appliance.gateway.traffic_watch import TrafficWatch
from appliance.gateway.vouching import Vouching
from appliance.observability.calls import CallRecord, RecentCalls
from appliance.observability.log_switch import LogSwitch
from appliance.observability.statistics import VersionCounters, VersionStatistics
from appliance.observability.tracing import Stamps, Tracer
from appliance.routing.scheduler import Scheduler
from appliance.routing.traffic import Tally
from appliance.security.keys import KeyRing
from appliance.security.limits import Meter
from appliance.security.scopes import ANONYMOUS, Principal
from appliance.workers.alarms import Alarms
from appliance.workers.inspector import Inspector
from appliance.workers.sequences import CallSequence
from appliance.workers.supervisor import Supervisor
from appliance.workers.work import DEFAULT_PRIORITY, Choice, Future, Outcome, Work

if TYPE_CHECKING:
    from appliance.gateway.programs import Programs
    from appliance.gateway.tritons import Tritons
    from federation.mesh_membership import MeshMembership

_log = logging.getLogger("ingle.gateway")


# Errors for which a version itself is to blame, rather than its callers.
_NOT_READY = frozenset({"unloaded", "set_aside", "unreachable", "conflict"})
_TO_BLAME = (IngleError.code, WorkerFailedError.code, UnavailableError.code, DeadlineError.code)
_PLAIN = int(AnswerForm.PLAIN)
_DRAINED_S = 0.02  # between two looks at whether all calls are answered


class BegunCall(NamedTuple):
    """A call that was admitted and waits for its worker. `cold`: no worker was there when it came."""

    id: str
    route: Route
    work: Work
    started_ns: int
    cold: bool
    pair: Pair | None = None  # with its copy for a shadow
    explain: bool = False


def _stamps(begun: BegunCall, answer: Answer, ended_ns: int) -> Stamps:
    """When what began, in the words of Triton's traces. The worker tells how long it took for what, from its receipt of
    the call: its times are laid behind the gateway's sending, the way between left out."""
    compute_ns = begun.work.sent_ns + answer.wait_ns
    input_ns = compute_ns + answer.decode_ns
    output_ns = input_ns + answer.run_ns
    return [
        ("REQUEST_START", begun.started_ns),
        ("QUEUE_START", begun.started_ns),
        ("COMPUTE_START", compute_ns),
        ("COMPUTE_INPUT_END", input_ns),
        ("COMPUTE_OUTPUT_START", output_ns),
        ("COMPUTE_END", output_ns + answer.encode_ns),
        ("REQUEST_END", ended_ns),
    ]


def _explained(choice: Choice | None, node: str) -> str:
    told = {"node": node, "why": "no other node holds the model"} if choice is None else choice.explanation()
    return msgspec.json.encode(told).decode()


class Remote(Protocol):
    """Whoever has a call answered by this node or another. `under_way`: the calls that wait for their answer so."""

    @property
    def under_way(self) -> int: ...

    def submit(self, route: Route, work: Work, request: CallRequest, call_id: str, key_id: str) -> None:
        """The call's future is told the outcome. Raises IngleError where the call is not taken."""

    def may_spread(self, route: Route) -> bool:
        """Whether calls of a version that lies here alone wait so long that another node may be worth a copy."""

    def fares(self, model: ModelVersion, holders: Iterable[str]) -> dict[str, str]:
        """Of those of the nodes that are in reach, by name: `warm` or `asleep`."""


class DataPlane:
    def __init__(
        self,
        *,
        catalogue: Catalogue,
        keys: KeyRing,
        supervisor: Supervisor,
        inspector: Inspector,
        settings: GatewaySettings,
        scheduler: Scheduler,
        node_name: str,
        open_to_all: bool,
        shared_memory: SharedMemory,
        tracer: Tracer,
    ) -> None:
        self.catalogue = catalogue
        self.keys = keys
        self.settings = settings
        self.node_name = node_name
        self.inspector = inspector
        self.deployer = Deployer(
            catalogue,
            inspector,
            warm=self.warm,
            swap=self.swap,
            forget=self.forget,
            unload=self.unload,
            vouching=Vouching(settings.trusted_keys),
        )
        self.scheduler = scheduler
        self.shared_memory = shared_memory
        self.tracer = tracer
        self.log_switch = LogSwitch()
        self.held = HeldBytes(settings.max_held_bytes or memory_bytes() // 8)
        self.watch = TrafficWatch(catalogue, self.tally, self.deployer.set_alias)
        # Set where there is a mesh.
        self.remote: Remote | None = None
        self.warm_elsewhere: Callable[[ModelVersion], Awaitable[None]] | None = None
        # The nodes that have what a call means, and are out of reach: by model, version and whether that is an ordinal.
        self.away: Callable[[str, str, bool], list[str]] = lambda _model, _version, _by_ordinal: []
        self.sight: Sight | None = None
        self.membership: MeshMembership | None = None
        self.tritons: Tritons | None = None
        self.programs: Programs | None = None
        self.draining = False
        self.started = False
        self._supervisor = supervisor
        self._anonymous = ANONYMOUS if open_to_all else None
        self._calls = RecentCalls()
        self._counters: dict[tuple[ModelName, int], VersionCounters] = {}
        self.gone = VersionCounters()  # the sum of versions that are no more: sums over all must not shrink
        self._routes = Routes(catalogue, supervisor, self._counters_of)
        self._sequences = SequenceRoutes()
        self._unloaded: set[ModelName] = set()
        # Unique among nodes and restarts without asking anyone; the counter makes it unique within.
        self._prefix = secrets.token_hex(5)
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self.alarms = Alarms()

    # Who.

    def principal(self, authorization: str | None) -> Principal:
        """Who calls. Raises UnauthenticatedError for a wrong key, or for none where the node is not open."""
        if authorization is None and self._anonymous is not None:
            return self._anonymous
        return self.keys.authenticate(authorization)

    # Calls.

    async def call(self, request: CallRequest, principal: Principal) -> CallAnswer:
        """Answers one call. Raises IngleError; its `call` is the id under which the call is remembered.

        Cancelled, it drops the call.
        """
        future: asyncio.Future[Outcome] = self._loop.create_future()
        begun = self.begin(request, principal, future)
        try:
            answer, body = await future
        except IngleError as error:
            self.failed(begun, error)
            raise
        except asyncio.CancelledError:
            self.dropped(begun)
            raise
        return self.finished(begun, answer, body)

    def begin(self, request: CallRequest, principal: Principal, future: Future) -> BegunCall:
        """Admits a call and hands it to its model's pool. Raises IngleError where it is not admitted.

        `future` is told the outcome, which goes to finished() or failed() and nowhere else.
        """
        started_ns = time.perf_counter_ns()
        if self.draining:
            raise UnavailableError("the node is shutting down and takes no new calls: ask another", retry_after_s=5.0)
        step = request.sequence
        goes_on = step is not None and not step.start
        try:
            route = self._routes.find(request.model, request.version, request.by_ordinal, goes_on=goes_on)
        except NotFoundError as error:
            raise self._not_found(request, principal, error) from None
        if principal is not route.allowed:
            principal.require("call", route.model.name)
            route.allowed = principal
        if step is None or not route.model.folder:  # a sequence on another node is kept by that one
            return self._begin(request, principal, future, route, None, started_ns)
        with self._sequences.step(request, principal.key_id, route) as (place, sequence):
            return self._begin(request, principal, future, place, sequence, started_ns)

    def _not_found(self, request: CallRequest, principal: Principal, error: NotFoundError) -> IngleError:
        """What a model lies on that is out of reach comes back with it, maybe: its callers may try again."""
        try:
            name = parse_name(request.model)
        except BadInputError:
            return error
        if not principal.allows("call", name):
            return error
        nodes = self.away(str(name), request.version, request.by_ordinal)
        if not nodes:
            return error
        meant = f"{name}:{request.version}" if request.version else str(name)
        return UnavailableError(
            f"{meant} lies on {', '.join(nodes)} alone, out of reach now: `ingle mesh` says since when",
            retry_after_s=1.0,
        )

    def _begin(
        self,
        request: CallRequest,
        principal: Principal,
        future: Future,
        route: Route,
        sequence: CallSequence | None,
        started_ns: int,
        call_id: str = "",
    ) -> BegunCall:
        self._number = number = self._number + 1
        invoke = Invoke(number, request.form, request.tensors, request.outputs, request.binary, request.content_type)
        asked_s = request.deadline_s
        deadline_s = time.monotonic() + (asked_s or self.settings.default_deadline_s)
        work = Work(invoke, request.parts, deadline_s, future, started_ns)
        work.patience_turns = request.patience_turns
        work.priority = request.priority or DEFAULT_PRIORITY
        work.memory_outputs = request.memory_outputs
        if sequence is not None and request.sequence is not None:
            work.sequence, invoke.sequence = sequence, sequence.number
            invoke.sequence_start, invoke.sequence_end = request.sequence.start, request.sequence.end
        # A copy of one call of a sequence would be a sequence torn apart.
        pair = None if route.shadow is None or sequence is not None else self._copied(route.shadow, invoke, work)
        named = call_id or f"{self._prefix}{number:08x}"
        begun = BegunCall(named, route, work, started_ns, not route.pool.replicas, pair, request.explain)
        try:
            if request.form < _PLAIN:  # what other calls' content means, the worker says
                route.admission.check(request.tensors, request.outputs)
            if self._unloaded:
                self._unloaded.discard(route.model.name)
            if principal.meter is None:
                self._submit(begun, request, principal)
            else:
                self._submit_metered(begun, request, principal, principal.meter)
        except IngleError as error:
            self.failed(begun, error)
            raise
        if asked_s and work.flight is None:  # a flight minds its own deadline
            # The pool's tick is too coarse for a deadline that somebody chose.
            work.timer = self.alarms.call_later(asked_s, work.expire)
        return begun

    def _submit(self, begun: BegunCall, request: CallRequest, principal: Principal) -> None:
        """Hands the call to whoever is to answer it. Raises IngleError."""
        route, work = begun.route, begun.work
        if request.pin == "local" or work.sequence is not None or not (request.pin or self._concerns_others(route)):
            if not route.model.folder:
                raise UnavailableError(f"the call must run on {self.node_name}, which does not have {route.model}")
            route.pool.submit(work)
        elif self.remote is not None:
            self.remote.submit(route, work, request, begun.id, principal.key_id)
        elif request.pin == f"node:{self.node_name}":
            route.pool.submit(work)
        else:
            raise NotFoundError(f"no node is known here for '{request.pin}': this one is '{self.node_name}', and alone")

    def _concerns_others(self, route: Route) -> bool:
        """Whether other nodes have the version, had it a moment ago, or had better have it."""
        if route.holders or not route.model.folder:
            return True
        if route.awaits_until_s and time.monotonic() < route.awaits_until_s:
            return True  # what cannot be answered here now may be there soon
        return self.remote is not None and self.remote.may_spread(route)

    def _submit_metered(self, begun: BegunCall, request: CallRequest, principal: Principal, meter: Meter) -> None:
        """Counts a call against its key's limits; one that is not taken is not held against the quota."""
        meter.take(time.monotonic(), time.time())
        try:
            self._submit(begun, request, principal)
        except IngleError:
            meter.give_back()
            raise

    def next_number(self) -> int:
        """A number that no other call has here since the start."""
        self._number += 1
        return self._number

    def begin_for_peer(
        self, request: CallRequest, digest: str, call_id: str, peer: Principal, future: Future
    ) -> BegunCall:
        """Takes a call that another node of the mesh was asked for, and that is to run here or nowhere. Raises as
        begin(), NotFoundError too where this node does not hold the version with that content."""
        started_ns = time.perf_counter_ns()
        if self.draining:
            raise UnavailableError(f"{self.node_name} is shutting down", retry_after_s=5.0)
        step = request.sequence
        route = self._routes.find(request.model, request.version, False)
        if not route.model.folder or route.model.digest != digest:
            raise NotFoundError(f"{self.node_name} does not hold {request.model}:{request.version} with that content")
        if step is None:
            return self._begin(request, peer, future, route, None, started_ns, call_id)
        with self._sequences.step(request, peer.key_id, route) as (place, sequence):
            return self._begin(request, peer, future, place, sequence, started_ns, call_id)

    def finished(self, begun: BegunCall, answer: Answer, body: bytes) -> CallAnswer:
        """Counts and remembers a call that was answered; the answer as fronts want it."""
        ended_ns = time.perf_counter_ns()
        call_id, route, work, started_ns, cold, pair, explain = begun
        if work.timer is not None:
            work.timer.cancel()
        work.flight = None  # each holds the other
        waited_ns = work.sent_ns - started_ns
        route.counters.record(answer, ended_ns - started_ns, waited_ns)
        if pair is not None:
            pair.own(answer, body)
        if work.ran_on:
            node, (queue_s, load_s) = work.ran_on, work.remote_s
            queue_s += waited_ns / 1e9
        else:
            node = self.node_name
            load_ns = min(waited_ns, int(route.pool.last_load_s * 1e9)) if cold else 0
            queue_s, load_s = (waited_ns - load_ns + answer.wait_ns) / 1e9, load_ns / 1e9
        seconds = Seconds(queue_s, load_s, answer.run_ns / 1e9, (ended_ns - started_ns) / 1e9)
        name, version = route.name, route.version
        self._calls.add(CallRecord(call_id, name, version, node, "ok", seconds, time.time(), choice=work.choice))
        if self.tracer.active:
            self.tracer.record(route.model.name.v2, route.model.ordinal, call_id, _stamps(begun, answer, ended_ns))
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("a call was answered", extra={"call": call_id, "model": name, "seconds": f"{seconds.total:.6f}"})
        return CallAnswer(
            call_id,
            node,
            name,
            version,
            route.model.ordinal,
            answer.tensors,
            body,
            answer.text_size,
            seconds,
            _explained(work.choice, node) if explain else "",
        )

    def failed(self, begun: BegunCall, error: IngleError) -> None:
        """Counts and remembers a call that ended in an error, and tells the error which call it was."""
        error.call = begun.id
        self._ended(begun, error.code, error.sentence)

    def dropped(self, begun: BegunCall) -> None:
        """Counts and remembers a call whose caller has gone; its future must be done. Where it still waits it is not
        run."""
        self._ended(begun, "gone", "the caller hung up before the answer")

    def _copied(self, shadow: Shadow, invoke: Invoke, work: Work) -> Pair | None:
        """A copy of the call on its way to the shadow, where it may have one: tensors in callers' memory may not."""
        if work.memory_outputs or any(isinstance(part, MemorySpan) for part in work.parts):
            return None
        self._number += 1
        copy = msgspec.structs.replace(invoke, call=self._number)
        # What lies in a front process's memory is another call's as soon as this one is answered.
        parts = [bytes(part) if isinstance(part, memoryview) else part for part in work.parts]
        return shadow.copy(copy, parts, work.deadline_s, work.sent_ns)

    def _ended(self, begun: BegunCall, outcome: str, sentence: str) -> None:
        if begun.pair is not None:
            begun.pair.abandon()
        if begun.work.timer is not None:
            begun.work.timer.cancel()
        if begun.work.flight is not None:
            begun.work.flight.caller_gone()
            begun.work.flight = None
        total_ns = time.perf_counter_ns() - begun.started_ns
        route = begun.route
        route.counters.record_failure(outcome, total_ns)
        seconds = Seconds(0.0, 0.0, 0.0, total_ns / 1e9)
        self._calls.add(
            CallRecord(begun.id, route.name, route.version, self.node_name, outcome, seconds, time.time(), sentence)
        )
        if self.tracer.active:
            stamps = [("REQUEST_START", begun.started_ns), ("REQUEST_END", begun.started_ns + total_ns)]
            self.tracer.record(route.model.name.v2, route.model.ordinal, begun.id, stamps)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("a call was not answered", extra={"call": begun.id, "model": route.name, "outcome": outcome})

    def _counters_of(self, model: ModelVersion) -> VersionCounters:
        return self._counters.setdefault((model.name, model.ordinal), VersionCounters())

    def call_record(self, call_id: str) -> CallRecord | None:
        """What is remembered of a call, or None."""
        return self._calls.find(call_id)

    # Models.

    async def warm(self, model: ModelVersion) -> None:
        """Starts the model's worker and waits until it is loaded, forgetting what went wrong before.

        Raises UnavailableError with the reason where it does not load.
        """
        self._unloaded.discard(model.name)
        if not model.folder and self.warm_elsewhere is not None:
            await self.warm_elsewhere(model)
            return
        await self._supervisor.pool(model).warm(self.settings.default_deadline_s)

    def tally(self, model: ModelVersion) -> Tally:
        """What became of the version's calls since the start; what callers did wrong is not counted."""
        counters = self._counters.get((model.name, model.ordinal))
        return Tally(*counters.outcome(_TO_BLAME)) if counters else Tally()

    def shadow_report(self, name: ModelName) -> ShadowReport | None:
        """What became of the copies that the model's shadow was sent, None where it has no shadow."""
        return self._routes.shadow_report(name)

    async def swap(self, before: ModelVersion | None, after: ModelVersion) -> str:
        """Has `after` warm where `before` was, so that whoever now calls the one for the other does not wait.

        Calls stay with `before` until then. A sentence where `after` did not get warm, else an empty one.
        """
        if before is None or before.key == after.key:
            return ""
        pool = self._supervisor.existing_pool(before)
        if pool is None or not pool.replicas_that_are("ready"):
            return ""
        try:
            await self.warm(after)
        except UnavailableError as error:
            _log.warning("%s takes the place of %s, but is not warm: %s", after, before, error.sentence)
            return f"calls stay with {before} while it is warm: {error.sentence}"
        self.scheduler.superseded(before)
        return ""

    def unload(self, name: ModelName) -> None:
        """Ends the workers of all versions once they have answered. The model is not ready until it is loaded or
        called again. Raises NotFoundError."""
        for version in self.catalogue.entry(name).versions:
            if pool := self._supervisor.existing_pool(version):
                pool.sleep()
        self._unloaded.add(name)

    def forget(self, model: ModelVersion, successor: ModelVersion | None = None) -> None:
        """The version is no more: its workers and counters go, and what waits for it to its successor if it has one."""
        self._supervisor.forget(model, successor)
        self.scheduler.superseded(model)
        self._routes.drop_closed()
        if not self.catalogue.has_model(model.name):
            self._unloaded.discard(model.name)  # a model of that name that comes later was not unloaded
        if counters := self._counters.pop((model.name, model.ordinal), None):
            self.gone.add(counters)

    def model_ready(self, model: str, version: str = "") -> bool:
        """Whether a call would be taken. Raises NotFoundError."""
        state, _ = self._state(self.catalogue.resolve(model, version, by_ordinal=True))
        return not self.draining and state not in _NOT_READY

    def node_ready(self) -> bool:
        """Whether this node takes calls: started, and not draining."""
        return self.started and not self.draining

    def _state(self, model: ModelVersion) -> tuple[str, str]:
        if conflict := self.catalogue.conflict(model):
            return "conflict", conflict
        pool = self._supervisor.existing_pool(model)
        state, reason = pool.state() if pool else ("asleep", "")
        if model.name in self._unloaded:
            return "unloaded", "unloaded by request; a call or a load starts it again"
        if not model.folder:
            return self._state_elsewhere(model)
        return state, reason

    def _state_elsewhere(self, model: ModelVersion) -> tuple[str, str]:
        """How a version fares that lies on other nodes of the mesh alone."""
        states = self.remote.fares(model, self.catalogue.holders(model)) if self.remote is not None else {}
        if not states:
            return "unreachable", "it lies on nodes that are not in reach"
        word = "warm" if "warm" in states.values() else "asleep"
        return word, f"it lies on {', '.join(sorted(states))}"

    async def index(self, ready_only: bool, may_see: Callable[[ModelName], bool]) -> list[IndexRow]:
        """Every version of every model that `may_see` allows, by name and then ordinal."""
        rows = []
        async for entry in paced(self.catalogue.walk()):
            for version in entry.versions if may_see(entry.name) else ():
                state, reason = self._state(version)
                ready = state not in _NOT_READY
                if ready or not ready_only:
                    word = "READY" if ready else "UNAVAILABLE"
                    rows.append(IndexRow(entry.name.v2, str(version.ordinal), word, reason))
        return rows

    def use(self, model: ModelVersion) -> tuple[bool, float]:
        """Whether the version has a worker here or calls that wait for one; how many seconds ago it was last used,
        infinite where it was not since the start."""
        pool = self._supervisor.existing_pool(model)
        if pool is None:
            return False, math.inf
        return bool(pool.replicas or pool.waiting), time.monotonic() - pool.last_used_s

    def state_word(self, model: ModelVersion) -> str:
        """How one version fares, in a word."""
        return self._state(model)[0]

    @property
    def device(self) -> str:
        """What models run on here, as a phrase."""
        return self._supervisor.device

    def state(self, model: ModelVersion) -> ModelState:
        """How one version fares."""
        pool = self._supervisor.existing_pool(model)
        state, reason = self._state(model)
        return ModelState(
            model,
            state,
            reason,
            self.workers(model),
            pool.waiting if pool else 0,
            self._supervisor.loads_from(model),
            self._supervisor.profile(model) or Profile(),
            self.scheduler.arrivals_per_s(pool) if pool else 0.0,
            self.scheduler.worth(pool) if pool else 0.0,
        )

    def workers(self, model: ModelVersion) -> list[WorkerState]:
        """The workers of one version, those that are still starting among them."""
        pool = self._supervisor.existing_pool(model)
        return [
            WorkerState(
                pid=replica.pid,
                providers=tuple(replica.providers),
                in_flight=len(replica.in_flight),
                load_s=replica.load_s,
                from_graph=replica.from_graph,
                memory_bytes=replica.memory_bytes,
                threads=replica.threads,
                calls=replica.calls,
                device_bytes=replica.device_bytes,
                note=replica.note,
            )
            for replica in (pool.replicas if pool else ())
        ]

    def active(self) -> list[ModelVersion]:
        """The versions that have a worker, or calls that wait for one."""
        return [pool.model for pool in self._supervisor.active_pools() if pool.replicas or pool.waiting]

    def states(self) -> list[ModelState]:
        """How the active versions fare, by name and version."""
        return sorted(map(self.state, self.active()), key=lambda item: (item.model.name, item.model.version))

    @property
    def worker_count(self) -> int:
        return sum(len(pool.replicas) for pool in self._supervisor.active_pools())

    def sandbox_layers(self) -> Sequence[tuple[str, bool, str]]:
        """(name, active, sentence) of each layer that confines models here."""
        return self._supervisor.sandbox_layers()

    def max_batch(self, model: ModelVersion) -> int:
        """The most rows that one run of this version takes."""
        return self._supervisor.max_batch(model)

    def statistics(self, model: str, version: str = "") -> list[VersionStatistics]:
        """Of one version, or of all versions of a model. Raises NotFoundError."""
        if version:
            return [self._read(self.catalogue.resolve(model, version, by_ordinal=True))]
        return [self._read(item) for item in self.catalogue.entry(parse_name(model)).versions]

    def statistics_of(self, model: ModelVersion) -> VersionStatistics:
        """Of one version that exists."""
        return self._read(model)

    def all_statistics(self, may_see: Callable[[ModelName], bool]) -> Iterator[VersionStatistics]:
        """Of the versions that exist, were called, and whose models `may_see` allows, by name and ordinal."""
        return (counters.read(name.v2, str(ordinal)) for name, ordinal, counters in self.counters(may_see))

    def counters(self, may_see: Callable[[ModelName], bool]) -> Iterator[tuple[ModelName, int, VersionCounters]]:
        """The same as they are kept: to be read, not changed."""
        for key in sorted(self._counters):
            if (counters := self._counters.get(key)) and may_see(key[0]):
                yield *key, counters

    def _read(self, model: ModelVersion) -> VersionStatistics:
        counters = self._counters.get((model.name, model.ordinal)) or VersionCounters()
        return counters.read(model.name.v2, str(model.ordinal))

    def logs(self, name: ModelName, version: str = "") -> list[str]:
        """The last lines that this version's workers wrote, oldest first. Raises NotFoundError."""
        pool = self._supervisor.existing_pool(self.catalogue.resolve(str(name), version))
        return list(pool.log) if pool else []

    async def drain(self) -> None:
        """Takes no more calls, and returns when those in flight are answered."""
        self.draining = True
        await self._supervisor.drained()
        # No event for each call, for the sake of what happens once.
        while self.remote is not None and self.remote.under_way:  # noqa: ASYNC110
            await asyncio.sleep(_DRAINED_S)

"""One Triton server (or any V2 server over gRPC) that the mesh knows by address, as a peer for the router: whether it
lives, what it has, and the calls that it is asked.

Runs in the gateway's event loop. A server is asked every second whether it lives, and every ten what it has. It is no
node: it has no key and gets no orders, and nothing can be copied from it.
"""

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec.structs import replace

from appliance.core.addresses import Address
from appliance.core.errors import (
    BadInputError,
    BusyError,
    DeadlineError,
    IngleError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    UnsupportedError,
    WorkerFailedError,
)
from appliance.core.names import ModelName, parse_name
from appliance.core.requests import Buffer
from appliance.gateway.grpc_library import grpc
from appliance.gateway.grpc_stubs import SERVICE, message_class, pb
from appliance.gateway.triton_messages import (
    cut,
    needs_reading,
    needs_writing,
    to_invoke,
    to_record,
    to_reply,
    to_request,
    to_writing,
)
from appliance.workers.translator import Translator
from federation.messages import PROTOCOL, Hello, Introduction, MeshFault, MeshInvoke, MeshReply, ModelState, Record
from federation.messages import model_key as key_of_version
from federation.peer import Peer, PeerStanding

POLL_S = 1.0
ANSWER_S = 0.75  # a server that does not say in this time that it lives is suspect,
SILENT_S = 3.0  # and after so long dead
INDEX_S = 10.0
INDEX_ANSWER_S = 5.0
LOOK_S = 0.1  # between two looks whether that is due
DESCRIBED_S = 300.0  # what a version takes and gives is asked again after so long, and after the server's death
MAX_MODELS = 2000  # of one server, with their versions
MAX_CALLS = 1000  # of this node's at one server
_ROUND_TRIPS = 8
_RECONNECT_MS = 250
_FAR = 0.1  # of a run time: what differs less is no news

_log = logging.getLogger("ingle.mesh")

_FAULTS: dict[Any, type[IngleError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: BadInputError,
    grpc.StatusCode.OUT_OF_RANGE: BadInputError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: BusyError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNAUTHENTICATED: UnavailableError,
    grpc.StatusCode.PERMISSION_DENIED: UnavailableError,
}
# Nothing was run, and another holder may take the call.
_ELSEWHERE = (NotFoundError, BusyError, UnavailableError)


def server_id(address: Address) -> str:
    """What the server is called between this node's parts, in the form of a node's id."""
    return hashlib.sha256(b"ingle-outside-1\0" + str(address).encode()).hexdigest()[:32]


class ServerEvents(Protocol):
    """Who hears of a server."""

    def on_answer(self, server_id: str, head: MeshReply | MeshFault, body: Sequence[Buffer]) -> None:
        """To an INVOKE."""

    def on_standing(self, server_id: str) -> None:
        """It stands otherwise than before."""

    def on_records(self, server_id: str, records: Sequence[Record]) -> None:
        """All that it has now."""


class _Told(NamedTuple):
    """What was summed up of a version's runs at the last look."""

    runs: int
    total_ns: int


class TritonServer:
    """start(), then invoke() and cancel(); close() at the end. `peer` is always current."""

    def __init__(
        self, address: Address, owner: str, events: ServerEvents, translator: Translator, *, max_body_bytes: int
    ) -> None:
        """`owner`: of its models' names here. `max_body_bytes`: the largest answer that is taken."""
        self.id = server_id(address)
        self.address = address
        self.owner = owner
        introduction = Introduction(self.id, f"triton://{address}", b"", "", b"", [address.host], 0, 0)
        self.peer = Peer(
            node_id=self.id,
            name=introduction.name,
            standing="joining",
            since_s=time.monotonic(),
            hello=Hello(PROTOCOL, "", introduction, 0, grpc=address.port),
            models={},
            holdings={},
            outside=True,
        )
        self._events = events
        self._translator = translator
        self._channel = grpc.aio.insecure_channel(
            str(address),
            options=(
                ("grpc.max_receive_message_length", max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
                ("grpc.min_reconnect_backoff_ms", _RECONNECT_MS),
                ("grpc.max_reconnect_backoff_ms", int(POLL_S * 1000)),
                ("grpc.enable_http_proxy", 0),
                ("grpc.use_local_subchannel_pool", 1),
            ),
        )
        self._infer = self._method("ModelInfer")
        self._live = self._method("ServerLive")
        self._round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self._heard_s = time.monotonic()
        self._index_s = float("-inf")
        self._runs: dict[str, _Told] = {}
        self._passed_over: set[str] = set()  # reasons that were logged
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._described: dict[tuple[str, str], Record] = {}  # by the server's own name and version
        self._described_s = 0.0

    def _method(self, name: str) -> Any:
        method = SERVICE.methods_by_name[name]
        return self._channel.unary_unary(
            f"/{SERVICE.full_name}/{name}",
            request_serializer=message_class(method.input_type).SerializeToString,
            response_deserializer=message_class(method.output_type).FromString,
        )

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._repeat(self._look, POLL_S)),
            loop.create_task(self._repeat(self._look_at_models, LOOK_S)),
        ]

    async def check(self, timeout_s: float) -> None:
        """Raises UnavailableError unless a V2 server answers there and lets its models be seen."""
        try:
            await self._live(pb.ServerLiveRequest(), timeout=timeout_s)
            await self._method("RepositoryIndex")(pb.RepositoryIndexRequest(ready=True), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                f"no Triton server answers at {self.address}: {_words(error)}; expected the address of its gRPC port, "
                "8001 unless it was told otherwise"
            ) from None

    async def close(self) -> None:
        """Nothing is said any more, of calls under way either."""
        tasks = [*self._calls.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._channel.close()

    # Calls.

    def invoke(self, asked: MeshInvoke, parts: Sequence[Buffer]) -> bool:
        """Has the server asked; on_answer() tells what comes of it. False where it is not to be asked now."""
        if self.peer.standing not in ("alive", "suspect") or len(self._calls) >= MAX_CALLS:
            return False
        self._calls[asked.call] = asyncio.get_running_loop().create_task(self._ask(asked, parts))
        return True

    def cancel(self, call: int) -> None:
        """Nobody waits for it any more."""
        if (task := self._calls.pop(call, None)) is not None:
            task.cancel()

    async def _ask(self, asked: MeshInvoke, parts: Sequence[Buffer]) -> None:
        began_s = time.monotonic()
        try:
            reply, body = await self._answered(asked, parts, began_s)
        except grpc.aio.AioRpcError as error:
            self._refused(asked.call, error)
        except IngleError as error:
            self._fault(asked.call, error)
        except Exception:
            _log.exception("a fault of ours in a call of %s", self.peer.name)
            self._fault(asked.call, IngleError("the node failed on this request, and has logged why"))
        else:
            if self._calls.pop(asked.call, None) is not None:
                self._events.on_answer(self.id, reply, body)

    async def _answered(
        self, asked: MeshInvoke, parts: Sequence[Buffer], began_s: float
    ) -> tuple[MeshReply, list[bytes]]:
        record = self.peer.holdings.get(key_of_version(asked.model, asked.version, asked.digest))
        if record is None:
            raise NotFoundError(f"{self.peer.name} does not have {asked.model}:{asked.version} any more")
        if needs_reading(asked):
            read, raw = await self._translator.read(to_invoke(asked), parts, record.signature)
            asked, parts = replace(asked, tensors=read.tensors), cut(read.tensors, raw)
        sent_s = time.monotonic()
        response = await self._infer(to_request(asked, parts), timeout=asked.deadline_s - (sent_s - began_s))
        run_s = max(0.0, time.monotonic() - sent_s - self.peer.rtt_s)
        if not needs_writing(asked):
            return to_reply(asked, response, run_s)
        written, content = await self._translator.write(*to_writing(asked, response), record.signature)
        reply = MeshReply(
            asked.call, written.tensors, written.text_size, 0, 0, int(run_s * 1e9), 0, 1, 1, total_s=run_s
        )
        return reply, [content]

    def _refused(self, call: int, error: Any) -> None:
        code = error.code()
        if code == grpc.StatusCode.UNAVAILABLE and self._channel.get_state() != grpc.ChannelConnectivity.READY:
            self._stand("dead", f"the connection ended: {_words(error)}")  # and with it all that it was asked
            return
        kind = _FAULTS.get(code, WorkerFailedError)
        if kind is BusyError and "larger than max" in (error.details() or ""):
            kind = TooLargeError
        if kind in (NotFoundError, UnavailableError):
            # It may have other models than were thought: that is looked at soon, and not for each call.
            self._index_s = min(self._index_s, time.monotonic() - INDEX_S + POLL_S)
        self._fault(call, kind(f"{self.peer.name}: {_words(error)}"))

    def _fault(self, call: int, error: IngleError) -> None:
        if self._calls.pop(call, None) is not None:
            fault = MeshFault(call, error.code, error.sentence, isinstance(error, _ELSEWHERE))
            self._events.on_answer(self.id, fault, ())

    # Whether it lives.

    async def _repeat(self, act: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            try:
                await act()
            except Exception:  # a server that answers nonsense must not be forgotten for it
                _log.exception("a fault of ours in what %s says", self.peer.name)
            await asyncio.sleep(pause_s)

    async def _look(self) -> None:
        asked_s = time.monotonic()
        try:
            answer = await self._live(pb.ServerLiveRequest(), timeout=ANSWER_S)
        except grpc.aio.AioRpcError as error:
            silent_s = time.monotonic() - self._heard_s
            is_late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            if is_late and silent_s < SILENT_S and self.peer.standing in ("alive", "suspect"):
                self._stand("suspect", "it does not answer")
            else:
                self._stand("dead", _words(error))
            return
        self._heard_s = time.monotonic()
        self._round_trips.append(self._heard_s - asked_s)
        self.peer.rtt_s = min(self._round_trips)
        self._stand("alive" if answer.live else "draining", "it answers")

    def _stand(self, standing: PeerStanding, why: str) -> None:
        peer = self.peer
        if standing == peer.standing:
            return
        _log.log(
            logging.INFO if standing == "alive" else logging.WARNING, "%s is %s: %s", peer.name, standing, why[:300]
        )
        peer.standing, peer.since_s = standing, time.monotonic()
        if standing == "dead":
            self._index_s = float("-inf")  # who comes back may have other models
            self._described.clear()
            for call in list(self._calls):
                self.cancel(call)
        self._events.on_standing(self.id)

    # What it has.

    async def _look_at_models(self) -> None:
        now_s = time.monotonic()
        if self.peer.standing != "alive" or now_s - self._index_s < INDEX_S:
            return
        self._index_s = now_s
        if now_s - self._described_s >= DESCRIBED_S:
            self._described_s = now_s
            self._described.clear()
        try:
            server = await self._method("ServerMetadata")(pb.ServerMetadataRequest(), timeout=INDEX_ANSWER_S)
            release = f"{server.name} {server.version}"[:40]
            self.peer.hello = replace(self.peer.hello, release=release)
            records = [record async for record in self._records()]
            await self._read_run_times(records)
        except grpc.aio.AioRpcError as error:
            _log.warning("%s does not say which models it has: %s", self.peer.name, _words(error))
            return
        self._events.on_records(self.id, records)

    async def _records(self) -> AsyncIterator[Record]:
        asked = pb.RepositoryIndexRequest(ready=True)
        index = await self._method("RepositoryIndex")(asked, timeout=INDEX_ANSWER_S)
        if len(index.models) > MAX_MODELS:
            self._pass_over("", f"of its {len(index.models)} models only {MAX_MODELS} are called")
        for row in index.models[:MAX_MODELS]:
            if row.state not in ("READY", ""):
                continue
            try:
                name = parse_name(f"{self.owner}/{row.name}")
                record = self._described.get((row.name, row.version)) or await self._record(name, row.version or "1")
                self._described[row.name, row.version] = record
                yield record
            except BadInputError as error:
                self._pass_over(row.name, error.sentence)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.UNAVAILABLE:
                    raise
                self._pass_over(row.name, _words(error))

    async def _record(self, name: ModelName, version: str) -> Record:
        about = pb.ModelMetadataRequest(name=name.name, version=version)
        metadata = await self._method("ModelMetadata")(about, timeout=INDEX_ANSWER_S)
        record = to_record(name, version, metadata, await self._config(name.name, version), time.time())
        key = key_of_version(record.name, record.version, record.digest)
        return self.peer.holdings.get(key, record)  # the same as before, with when it was first seen

    async def _config(self, model: str, version: str) -> Any:
        asked = pb.ModelConfigRequest(name=model, version=version)
        try:
            return (await self._method("ModelConfig")(asked, timeout=INDEX_ANSWER_S)).config
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
            return pb.ModelConfigResponse().config  # a V2 server without Triton's extension

    def _pass_over(self, model: str, reason: str) -> None:
        line = f"{model[:100]}: {reason}"
        if line not in self._passed_over and len(self._passed_over) < MAX_MODELS:
            self._passed_over.add(line)
            _log.warning("a model of %s is not called from here: %s", self.peer.name, line)

    async def _read_run_times(self, records: Sequence[Record]) -> None:
        """Takes the records for what it has, with what the server says of their runs since the last look."""
        try:
            told = await self._method("ModelStatistics")(pb.ModelStatisticsRequest(), timeout=INDEX_ANSWER_S)
            rows = told.model_stats
        except grpc.aio.AioRpcError:
            rows = ()  # a server without statistics: what its calls take is learned from them
        sums = {(row.name, row.version): row.inference_stats.compute_infer for row in rows}
        models: dict[str, ModelState] = {}
        runs: dict[str, _Told] = {}
        for record in records:
            key = key_of_version(record.name, record.version, record.digest)
            state = self.peer.models.get(key) or ModelState(replicas=1)
            if (total := sums.get((parse_name(record.name).name, str(record.ordinal)))) is not None:
                runs[key] = now = _Told(total.count, total.ns)
                state = _with_run_time(state, self._runs.get(key, _Told(0, 0)), now)
            models[key] = state
        self._runs = runs
        self.peer.models.clear()
        self.peer.models.update(models)
        self.peer.holdings.clear()
        self.peer.holdings.update(
            {key_of_version(record.name, record.version, record.digest): record for record in records}
        )


def _with_run_time(state: ModelState, before: _Told, now: _Told) -> ModelState:
    """With the mean of the runs between two looks; the same object where that is no news."""
    count, total_ns = now.runs - before.runs, now.total_ns - before.total_ns
    if count < 0:
        count, total_ns = now  # it counts anew
    if count <= 0 or total_ns < 0:
        return state
    run_s, known_s = total_ns / count / 1e9, state.run_s.get(1, 0.0)
    if abs(run_s - known_s) <= _FAR * known_s:
        return state
    return ModelState(replicas=1, run_s={1: run_s})


def _words(error: Any) -> str:
    return f"{error.code().name}: {(error.details() or '')[:300]}"

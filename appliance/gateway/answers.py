"""The shapes of the management's JSON: what is answered and what is asked, as structs.

Used by the gateway's management handlers; the OpenAPI document is made from the same structs, so that it cannot say
anything else. Holds no behaviour but the copying from what the catalogue and the data plane know.
"""

from typing import Annotated, Any, Literal

import msgspec

from appliance.core.models import ModelVersion
from appliance.core.requests import Seconds
from appliance.gateway import patterns
from appliance.gateway.patterns import whole
from appliance.gateway.shadow import ShadowReport

Scope = Annotated[
    str, msgspec.Meta(pattern=whole(patterns.SCOPE), max_length=300, examples=["call:*", "deploy:local/*"])
]


class ErrorAnswer(msgspec.Struct):
    """What was wrong, as a sentence for people and a word for programs."""

    error: str
    code: str


class ModelSummary(msgspec.Struct):
    """One model in a list. `version` is the default one; state, replicas and their memory are that version's, and
    `runs_on` are the execution providers that its workers' sessions got."""

    model: str
    version: str
    versions: list[str]
    aliases: dict[str, str]
    description: str
    tags: list[str]
    size_bytes: int
    created_s: float
    state: str
    replicas: int
    memory_bytes: int
    runs_on: list[str]


class ModelList(msgspec.Struct, omit_defaults=True):
    """`next`, where there are more: what to ask for with `after`."""

    models: list[ModelSummary]
    next: str = ""


class TensorDescription(msgspec.Struct):
    """One input or output. -1 in `shape`: any size. `given_as` says how a picture, a row or the like becomes an input;
    it is empty where numbers go in as they are."""

    name: str
    dtype: str
    shape: list[int]
    optional: bool
    description: str
    given_as: str = ""


class VersionSummary(msgspec.Struct):
    version: str
    ordinal: int
    digest: str
    size_bytes: int
    created_s: float
    source: str
    state: str


class WorkerDescription(msgspec.Struct):
    """A worker. `providers` is what its session really got; `from_graph`: it loaded a cached optimised graph;
    `device_bytes`: of a GPU's memory; `note`: why it does not run where the node was told to."""

    pid: int
    providers: list[str]
    in_flight: int
    load_s: float
    from_graph: bool
    memory_bytes: int
    threads: int
    calls: int
    device_bytes: int
    note: str


class Measured(msgspec.Struct):
    """What this box has measured of a version's artifact; 0: not yet. `run_s`: seconds of one run by its rows, rounded
    up to a power of two."""

    memory_bytes: int
    memory_loaded_bytes: int
    load_s: float
    cold_start_s: float
    cpu_s: float
    calls: int
    io_read_bytes: int
    gpu_bytes: int
    run_s: dict[str, float]
    arrivals_per_s: float
    worth: float


class ScaleDescription(msgspec.Struct, forbid_unknown_fields=True):
    """What is wished of a model's replicas; 0 leaves a thing to the node. `min_replicas` stay warm always."""

    # Whole numbers as JSON knows them: 2.0 is one.
    min_replicas: Annotated[float, msgspec.Meta(ge=0, le=1000, multiple_of=1)] = 0
    max_replicas: Annotated[float, msgspec.Meta(ge=0, le=1000, multiple_of=1)] = 0
    target_latency_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0


class ModelDescription(msgspec.Struct):
    """What one version of a model wants and gives, how to call it, and how it fares on this node."""

    model: str
    version: str
    ordinal: int
    digest: str
    size_bytes: int
    created_s: float
    default: str
    aliases: dict[str, str]
    versions: list[VersionSummary]
    description: str
    tags: list[str]
    licence: str
    inputs: list[TensorDescription]
    outputs: list[TensorDescription]
    labels: list[str]
    top_k: int
    accepts: list[str]
    example: dict[str, Any]
    curl: str
    batchable: bool
    batch_reason: str
    state: str
    reason: str
    workers: list[WorkerDescription]
    waiting: int
    measured: Measured
    scale: ScaleDescription
    loads_from: str


AskedVersion = Annotated[str, msgspec.Meta(max_length=80, pattern=whole(f"({patterns.ANY_VERSION})?"))]


class TrafficRequest(msgspec.Struct, forbid_unknown_fields=True):
    """How the calls that name no version are to be spread. Versions may be words such as `1.2`; they are resolved once.

    `canary` answers `canary_share` of them. `shadow` gets copies of `shadow_share` of them, compared and thrown away.
    A canary that fails more than `max_error_share` of its calls, or takes more than `max_latency_ratio` times as long
    as the default (0: not looked at), gets no more calls after `least_calls`. `return_to` becomes the default again
    where the default so exceeds them.
    """

    canary: AskedVersion = ""
    canary_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    shadow: AskedVersion = ""
    shadow_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    return_to: AskedVersion = ""
    max_error_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    max_latency_ratio: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    least_calls: Annotated[float, msgspec.Meta(ge=1, le=1e6, multiple_of=1)] = 50


class TallyDescription(msgspec.Struct):
    """A version's calls since the present wish; `failed` are those that the version is to blame for."""

    answered: int
    failed: int
    mean_s: float


class TrafficDescription(msgspec.Struct):
    """How calls are spread now. `ended` says why a version was taken back; `compared` is null without a shadow."""

    model: str
    default: str
    canary: str
    canary_share: float
    shadow: str
    shadow_share: float
    return_to: str
    max_error_share: float
    max_latency_ratio: float
    least_calls: int
    ended: str
    versions: dict[str, TallyDescription]
    compared: ShadowReport | None


class DeployAnswer(msgspec.Struct):
    """`created` is false where the very same version was already there and nothing was to do."""

    model: str
    version: str
    digest: str
    ordinal: int
    warnings: list[str]
    created: bool


class CopyProgress(msgspec.Struct):
    """A copy on its way to a node. `step`: waiting, fetching, checking, done or failed; of other nodes only what they
    fetch is known. `sources`: the nodes that it comes from."""

    node: str
    step: str
    done_bytes: int
    bytes_per_s: float
    sources: list[str]
    reason: str


class VersionCopies(msgspec.Struct):
    """Where a version's copies are, and what is wished of them: `replicas` of them (0: one for each node meant) `on`
    these nodes and tags (empty: any). `lacking`: wished copies that are not there yet."""

    model: str
    version: str
    digest: str
    size_bytes: int
    replicas: int
    on: list[str]
    nodes: list[str]
    lacking: int
    making: list[CopyProgress]


class CopyList(msgspec.Struct):
    copies: list[VersionCopies]


class DeletedVersions(msgspec.Struct, omit_defaults=True):
    """`deleted`: versions that are gone from every node in reach. `later`: those that nodes out of reach hold, with the
    nodes' names: they go once these are back. `unknown`: names of nodes out of reach of which it is not known here what
    they hold; that stays."""

    model: str
    deleted: list[str]
    later: dict[str, list[str]] = {}
    unknown: list[str] = []


class AliasRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The version an alias shall mean: `1.2.3`, `1.2`, `latest` or another alias, resolved once, now."""

    version: Annotated[
        str, msgspec.Meta(min_length=1, max_length=80, pattern=whole(patterns.ANY_VERSION), examples=["1.2"])
    ]


class AliasAnswer(msgspec.Struct):
    """What an alias means now. A rollback answers with the alias `default`."""

    model: str
    alias: str
    version: str


class DeletedAlias(msgspec.Struct):
    model: str
    alias: str


class LogLines(msgspec.Struct):
    """The last lines that a model's workers wrote, oldest first."""

    model: str
    lines: list[str]


Rate = Annotated[
    str,
    msgspec.Meta(
        pattern=whole(r"(([1-9][0-9]{0,8}(\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9])/(s|min|hour|day))?"),
        description="how often the key may call: 50/s, 10/min",
        examples=["50/s"],
    ),
]
# A whole number, in JSON Schema's eyes also where it is written 100.0.
Burst = Annotated[
    float,
    msgspec.Meta(
        ge=0, le=1_000_000, multiple_of=1, description="calls at once that the rate allows; 0: one second's worth"
    ),
]
Quota = Annotated[
    str,
    msgspec.Meta(
        pattern=whole(r"([1-9][0-9]{0,11}/(min|hour|day|month))?"),
        description="how much the key may call in a calendar window, in UTC: 100000/day",
        examples=["100000/day"],
    ),
]


class KeyRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A key to be made. A scope is `call`, `deploy` or `admin`, for `:*` (as without), `:owner/*` or `:owner/name`."""

    label: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=50)]
    rate: Rate = ""
    burst: Burst = 0
    quota: Quota = ""


class KeyLimits(msgspec.Struct, forbid_unknown_fields=True):
    """What a key is held to from now on; what is left out stays as it is. Empty and 0: no limit."""

    rate: Rate | msgspec.UnsetType = msgspec.UNSET
    burst: Burst | msgspec.UnsetType = msgspec.UNSET
    quota: Quota | msgspec.UnsetType = msgspec.UNSET


class KeyDescription(msgspec.Struct):
    """A key without its secret. `revoked_s` is null while it works. `used_calls` count against its quota now."""

    id: str
    label: str
    scopes: list[str]
    created_s: float
    revoked_s: float | None
    rate: str = ""
    burst: int = 0
    quota: str = ""
    used_calls: int = 0


class KeyList(msgspec.Struct):
    keys: list[KeyDescription]


class NewKey(msgspec.Struct):
    """A key just made. `key` is its secret, shown this once."""

    id: str
    label: str
    scopes: list[str]
    created_s: float
    key: str
    rate: str = ""
    burst: int = 0
    quota: str = ""


class SandboxLayer(msgspec.Struct):
    """One layer of what confines models, and whether it holds."""

    name: str
    active: bool
    detail: str


class NodeLoad(msgspec.Struct):
    """How busy a node says it is. `backlog_s`: seconds of work that wait or run there; `memory_free_bytes`: of what its
    models may use. What a box does not tell is null."""

    backlog_s: float
    in_flight: int
    memory_free_bytes: int
    device_free_bytes: int | None
    cpu_share: float
    power_w: float | None
    temperature_c: float | None


class NodeLink(msgspec.Struct):
    """The link from this node to a peer: its least round trip of late, and what was measured of its bandwidth. 0 where
    there was no measurement yet. `awaited_s`: for how long the peer has not come to this node's port for calls and
    copies, though it was asked to; 0 where it came, or was not asked."""

    rtt_s: float
    bytes_per_s: float
    awaited_s: float = 0.0


class WarmModel(msgspec.Struct):
    """A version that is loaded on a node. `backlog_s`: how long a call that came now would wait there; `run_s`: one run
    of one row, 0 where that was not measured."""

    model: str
    version: str
    replicas: int
    backlog_s: float
    run_s: float


class ProgramDescription(msgspec.Struct):
    """The signed one file that a node runs from, and gives to peers. What its signature proves is told: `version`,
    `built_s` (the time of its commit, in Unix seconds), `runtime` (`cpu` or `gpu`). `fault`: why this node cannot take
    it as an update, as the end of a sentence; nothing is proved then."""

    digest: str
    size_bytes: int
    version: str = ""
    built_s: int = 0
    runtime: str = ""
    fault: str = ""


class ProgramFetch(msgspec.Struct):
    """A peer's one file on its way into this node's data folder. `file`: where it lies, once it is `done`; `code` and
    `reason`: why it `failed`."""

    node: str
    version: str
    digest: str
    size_bytes: int
    step: Literal["fetching", "checking", "done", "failed"] = "fetching"
    done_bytes: int = 0
    bytes_per_s: float = 0.0
    file: str = ""
    code: str = ""
    reason: str = ""


class NodeDescription(msgspec.Struct):
    """A node of the mesh, as this node sees it. `sandbox` is null for those who may not administer it and for other
    nodes, and empty while the process that starts workers is down.

    `standing`: `joining` (no link to it yet), `alive`, `suspect` (it has not answered in time), `draining` or `dead`,
    since `standing_for_s`. `http`, `grpc` and `mesh`: where each is reached, empty where it is off or not known.
    `warm`: the first of the `warm_models` loaded versions that the caller may call, the busiest first.
    `outside`: it is no node, but a Triton server that was added by its address; its `load` is not known. `program`:
    null where it does not run from a signed one file. `engine_kind`: nodes of the same can use each other's engines of
    TensorRT, of which this one has some for `engines` models; empty where it shares none.
    """

    name: str
    state: Literal["ready", "not_ready"]
    this: bool
    version: str
    models: int
    workers: int
    device: str
    sandbox: list[SandboxLayer] | None
    node_id: str = ""
    standing: Literal["joining", "alive", "suspect", "draining", "dead"] = "alive"
    standing_for_s: float = 0.0
    addresses: list[str] = []
    http: str = ""
    grpc: str = ""
    mesh: str = ""
    tags: list[str] = []
    link: NodeLink | None = None
    load: NodeLoad | None = None
    warm_models: int = 0
    warm: list[WarmModel] = []
    outside: bool = False
    program: ProgramDescription | None = None
    engine_kind: str = ""
    engines: int = 0


class OtherNode(msgspec.Struct):
    """A node in sight that has another mesh's key; `address` is HOST:PORT of its mesh."""

    name: str
    node_id: str
    address: str


class OtherMeshInSight(msgspec.Struct):
    """A mesh that this node does not belong to, by the id of its key."""

    key_id: str
    nodes: list[OtherNode]


class NodeList(msgspec.Struct):
    """`key_id`: of the mesh's key, empty where the mesh is off. `provisional`: this node made the key itself and has
    met no other under it. `others`: meshes in sight that have other keys, for those who may administer the node."""

    nodes: list[NodeDescription]
    key_id: str = ""
    provisional: bool = False
    others: list[OtherMeshInSight] = []


class Memory(msgspec.Struct):
    """What warm models may use together, what they use, and what the gateway itself does."""

    budget_bytes: int
    used_bytes: int
    gateway_bytes: int


class SchedulerCounts(msgspec.Struct):
    """Workers started and ended since the node started, and models that wait for memory now."""

    started: int
    started_ahead: int
    evicted: int
    ended_idle: int
    waiting_for_memory: int


class ModelActivity(msgspec.Struct):
    """One version that has workers or calls. Latencies are of answered calls since the start.

    `durations` counts those calls by the bit length of their nanoseconds: the differences of two answers tell of the
    time between them.
    """

    model: str
    version: str
    state: str
    reason: str
    replicas: int
    in_flight: int
    waiting: int
    arrivals_per_s: float
    answered: int
    failed: int
    p50_s: float
    p99_s: float
    durations: list[int]
    run_s: float
    memory_bytes: int
    cpu_s: float
    cold_start_s: float
    worth: float
    providers: list[str]


class Activity(msgspec.Struct):
    """What a node does right now: the busiest models first."""

    node: str
    release: str
    uptime_s: float
    cores: int
    memory: Memory
    workers: SchedulerCounts
    models: list[ModelActivity]


class RestoreAnswer(msgspec.Struct):
    """What the node has now. `replaced`: versions it had before and has no more, or otherwise."""

    node: str  # whose backup it was
    created_s: float
    models: int
    artifacts: int
    replaced: int


class CallDescription(msgspec.Struct):
    """What became of one call. `status` is `ok` or an error's code; `route`: why it ran where it did, in seconds of
    each term for each node that could have answered it; empty where this node alone has the model."""

    id: str
    model: str
    version: str
    node: str
    status: str
    seconds: Seconds
    at_s: float
    error: str
    route: dict[str, Any]


class DrainAnswer(msgspec.Struct):
    """Every call that was in flight has been answered; new ones are refused."""

    node: str
    drained: bool


class Health(msgspec.Struct, omit_defaults=True):
    """`faults`, where there are any: what is wrong though the node serves, in a word each; `ingle doctor` says more."""

    status: Literal["live", "ready"]
    faults: list[str] = []


class LabelScore(msgspec.Struct):
    label: str
    score: float


class PlainAnswer(msgspec.Struct):
    """The answer to a plain call. `labels`, a list a row, is there where the model's manifest has labels."""

    model: str
    version: str
    outputs: dict[str, Any]
    node: str
    call: str
    seconds: Seconds
    labels: list[list[LabelScore]] | msgspec.UnsetType = msgspec.UNSET


def deploy_answer(version: ModelVersion, *, created: bool, warnings: tuple[str, ...]) -> DeployAnswer:
    """What a deploy answers."""
    return DeployAnswer(
        model=str(version.name),
        version=str(version.version),
        digest=version.digest,
        ordinal=version.ordinal,
        warnings=list(warnings),
        created=created,
    )

"""What a node's JSON says, in the client's own words.

Runs in whatever program uses the client. Fields that it does not know are passed over and all but the essential have
defaults, so that a client works with nodes older and newer than itself. A test holds them against the gateway's.
"""

from typing import Any

import msgspec


class Model(msgspec.Struct):
    """One model in a list. `version` is the default one; `state` is that version's."""

    model: str
    version: str
    versions: list[str] = []
    aliases: dict[str, str] = {}
    description: str = ""
    tags: list[str] = []
    size_bytes: int = 0
    created_s: float = 0.0
    state: str = ""
    replicas: int = 0
    memory_bytes: int = 0
    runs_on: list[str] = []


class Tensor(msgspec.Struct):
    """One input or output. -1 in `shape`: any size. `given_as`: how a picture, a row or the like becomes an input."""

    name: str
    dtype: str
    shape: list[int]
    optional: bool = False
    description: str = ""
    given_as: str = ""


class VersionRow(msgspec.Struct):
    version: str
    ordinal: int = 0
    digest: str = ""
    size_bytes: int = 0
    created_s: float = 0.0
    source: str = ""
    state: str = ""


class Worker(msgspec.Struct):
    pid: int
    providers: list[str] = []
    in_flight: int = 0
    load_s: float = 0.0
    from_graph: bool = False
    memory_bytes: int = 0
    threads: int = 0
    calls: int = 0
    device_bytes: int = 0
    note: str = ""


class Measured(msgspec.Struct):
    """What the box has measured of a version; 0: not yet."""

    memory_bytes: int = 0
    memory_loaded_bytes: int = 0
    load_s: float = 0.0
    cold_start_s: float = 0.0
    cpu_s: float = 0.0
    calls: int = 0
    io_read_bytes: int = 0
    gpu_bytes: int = 0
    run_s: dict[str, float] = {}
    arrivals_per_s: float = 0.0
    worth: float = 0.0


class Scale(msgspec.Struct):
    """What is wished of a model's replicas; 0 leaves a thing to the node."""

    min_replicas: int = 0
    max_replicas: int = 0
    target_latency_s: float = 0.0


class ModelDetails(msgspec.Struct):
    """One version of a model: what it wants and gives, how to call it, how it fares on the node."""

    model: str
    version: str
    ordinal: int = 0
    digest: str = ""
    size_bytes: int = 0
    created_s: float = 0.0
    default: str = ""
    aliases: dict[str, str] = {}
    versions: list[VersionRow] = []
    description: str = ""
    tags: list[str] = []
    licence: str = ""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    labels: list[str] = []
    top_k: int = 0
    accepts: list[str] = []
    example: dict[str, Any] = {}
    curl: str = ""
    batchable: bool = False
    batch_reason: str = ""
    state: str = ""
    reason: str = ""
    workers: list[Worker] = []
    waiting: int = 0
    measured: Measured = msgspec.field(default_factory=Measured)
    scale: Scale = msgspec.field(default_factory=Scale)
    loads_from: str = ""


class Deployed(msgspec.Struct):
    """`created` is false where this very version was there already."""

    model: str
    version: str
    digest: str = ""
    ordinal: int = 0
    warnings: list[str] = []
    created: bool = True


class CopyProgress(msgspec.Struct):
    """A copy on its way to a node; `sources`: the nodes that it comes from."""

    node: str
    step: str = ""
    done_bytes: int = 0
    bytes_per_s: float = 0.0
    sources: list[str] = []
    reason: str = ""


class VersionCopies(msgspec.Struct):
    """Where a version's copies are. `lacking`: wished copies that are not there yet."""

    model: str
    version: str
    digest: str = ""
    size_bytes: int = 0
    replicas: int = 0
    on: list[str] = []
    nodes: list[str] = []
    lacking: int = 0
    making: list[CopyProgress] = []


class Restored(msgspec.Struct):
    """What a node has after a restore. `replaced`: versions that it had before and has no more, or otherwise."""

    node: str
    created_s: float = 0.0
    models: int = 0
    artifacts: int = 0
    replaced: int = 0


class Deleted(msgspec.Struct):
    """`later`: versions that nodes out of reach hold, with the nodes' names: they go once these are back. `unknown`:
    names of nodes out of reach of which the asked one does not know what they hold; that stays."""

    model: str
    deleted: list[str] = []
    later: dict[str, list[str]] = {}
    unknown: list[str] = []


class Alias(msgspec.Struct):
    model: str
    alias: str
    version: str


class Label(msgspec.Struct):
    label: str
    score: float


class Seconds(msgspec.Struct):
    """Where a call's time went. `load` is 0 where the model was warm."""

    queue: float = 0.0
    load: float = 0.0
    run: float = 0.0
    total: float = 0.0


class Called(msgspec.Struct):
    """The answer to a plain call. `labels` has a list for each row, where the model has labels."""

    model: str
    version: str
    outputs: dict[str, Any]
    labels: list[list[Label]] = []
    node: str = ""
    call: str = ""
    seconds: Seconds = msgspec.field(default_factory=Seconds)


class CallRecord(msgspec.Struct):
    """What became of a call. `route`: the nodes that could have answered it, with the terms of their prices in seconds,
    and who was asked; empty where this node alone has the model, or was certain to be the quickest."""

    id: str
    model: str
    version: str
    node: str
    status: str
    seconds: Seconds
    at_s: float = 0.0
    error: str = ""
    route: dict[str, Any] = {}


class Key(msgspec.Struct):
    """A key. `key` is its secret, there only in the answer that made it; `revoked_s` is None while it works."""

    id: str
    label: str = ""
    scopes: list[str] = []
    created_s: float = 0.0
    revoked_s: float | None = None
    key: str = ""
    rate: str = ""
    burst: int = 0
    quota: str = ""
    used_calls: int = 0


class TrafficWish(msgspec.Struct):
    """How a model's calls without a version are to be spread; empty and 0 leave a thing out.

    `max_latency_ratio` is against the mean of the version beside it. `shadow_share` is of copies.
    """

    canary: str = ""
    canary_share: float = 0.0
    shadow: str = ""
    shadow_share: float = 1.0
    return_to: str = ""
    max_error_share: float = 0.0
    max_latency_ratio: float = 0.0
    least_calls: int = 50


class Tally(msgspec.Struct):
    """A version's calls since the wish was made; `failed` are those that the version is to blame for."""

    answered: int = 0
    failed: int = 0
    mean_s: float = 0.0


class ShadowReport(msgspec.Struct):
    """How a shadow's answers compare. Seconds are sums of runs over the calls that were compared."""

    same: int = 0
    close: int = 0
    different: int = 0
    failed: int = 0
    skipped: int = 0
    largest_difference: float = 0.0
    largest_relative_difference: float = 0.0
    run_s: float = 0.0
    own_run_s: float = 0.0
    last_failure: str = ""


class Traffic(TrafficWish, kw_only=True):
    """How calls are spread, and how the versions fare. `ended` says why a version was taken back."""

    model: str
    default: str = ""
    ended: str = ""
    versions: dict[str, Tally] = {}
    compared: ShadowReport | None = None


class NodeMemory(msgspec.Struct):
    budget_bytes: int = 0
    used_bytes: int = 0
    gateway_bytes: int = 0


class WorkerCounts(msgspec.Struct):
    """Workers since the node started, and models that wait for memory now."""

    started: int = 0
    started_ahead: int = 0
    evicted: int = 0
    ended_idle: int = 0
    waiting_for_memory: int = 0


class ModelActivity(msgspec.Struct):
    """A version that has workers or calls. `answered`, `failed`, `durations` and `cpu_s` only grow."""

    model: str
    version: str
    state: str = ""
    reason: str = ""
    replicas: int = 0
    in_flight: int = 0
    waiting: int = 0
    arrivals_per_s: float = 0.0
    answered: int = 0
    failed: int = 0
    p50_s: float = 0.0
    p99_s: float = 0.0
    durations: list[int] = []
    run_s: float = 0.0
    memory_bytes: int = 0
    cpu_s: float = 0.0
    cold_start_s: float = 0.0
    worth: float = 0.0
    providers: list[str] = []


class Activity(msgspec.Struct):
    """What a node does right now."""

    node: str
    release: str = ""
    uptime_s: float = 0.0
    cores: int = 0
    memory: NodeMemory = msgspec.field(default_factory=NodeMemory)
    workers: WorkerCounts = msgspec.field(default_factory=WorkerCounts)
    models: list[ModelActivity] = []


class Timed(msgspec.Struct):
    """How often something was timed, and the sum of its times."""

    count: int = 0
    ns: int = 0


class CallTimes(msgspec.Struct):
    """V2's `inference_stats`: whole calls, and the parts of them, since the start."""

    success: Timed = msgspec.field(default_factory=Timed)
    queue: Timed = msgspec.field(default_factory=Timed)
    compute_input: Timed = msgspec.field(default_factory=Timed)
    compute_infer: Timed = msgspec.field(default_factory=Timed)
    compute_output: Timed = msgspec.field(default_factory=Timed)


class Statistics(msgspec.Struct):
    """V2's statistics of one version. `inference_count` is rows, `execution_count` runs."""

    inference_count: int = 0
    execution_count: int = 0
    inference_stats: CallTimes = msgspec.field(default_factory=CallTimes)


class NodeLoad(msgspec.Struct):
    """How busy a node says it is. None: the box does not tell."""

    backlog_s: float = 0.0
    in_flight: int = 0
    memory_free_bytes: int = 0
    device_free_bytes: int | None = None
    cpu_share: float = 0.0
    power_w: float | None = None
    temperature_c: float | None = None


class NodeLink(msgspec.Struct):
    """The asked node's link to a peer; 0: not measured yet. `awaited_s`: for how long the peer has not come to the
    asked node's port for calls and copies, though it was asked to; 0: it came, or was not asked."""

    rtt_s: float = 0.0
    bytes_per_s: float = 0.0
    awaited_s: float = 0.0


class WarmModel(msgspec.Struct):
    model: str
    version: str = ""
    replicas: int = 0
    backlog_s: float = 0.0
    run_s: float = 0.0


class SandboxLayer(msgspec.Struct):
    name: str
    active: bool = False
    detail: str = ""


class Program(msgspec.Struct):
    """The signed one file that a node runs from, and gives to peers. `built_s`: the time of its commit in Unix seconds.
    `fault`: why the asked node cannot take it as an update, as the end of a sentence; nothing else is proved then."""

    digest: str
    size_bytes: int
    version: str = ""
    built_s: int = 0
    runtime: str = ""
    fault: str = ""


class ProgramFetch(msgspec.Struct):
    """A peer's one file on its way into the asked node's data folder: `fetching`, `checking`, `done` or `failed`."""

    node: str
    version: str
    digest: str
    size_bytes: int
    step: str = "fetching"
    done_bytes: int = 0
    bytes_per_s: float = 0.0
    file: str = ""
    code: str = ""
    reason: str = ""


class MeshNode(msgspec.Struct):
    """A node of the mesh, as the asked one sees it. `outside`: a Triton server that was added by its address.
    `program`: None where it does not run from a signed one file. `engine_kind`: nodes of the same share engines of
    TensorRT, which this one has for `engines` models."""

    name: str
    state: str = ""
    this: bool = False
    version: str = ""
    models: int = 0
    workers: int = 0
    device: str = ""
    sandbox: list[SandboxLayer] | None = None
    node_id: str = ""
    standing: str = "alive"
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
    program: Program | None = None
    engine_kind: str = ""
    engines: int = 0


class MeshServer(msgspec.Struct):
    """A Triton server that the mesh calls; `owner` of its models' names."""

    server: str
    owner: str = ""


class OtherNode(msgspec.Struct):
    """`address`: HOST:PORT of its mesh."""

    name: str
    node_id: str = ""
    address: str = ""


class OtherMesh(msgspec.Struct):
    """A mesh in sight that the asked node does not belong to."""

    key_id: str
    nodes: list[OtherNode] = []


class Nodes(msgspec.Struct):
    """The asked node first. `key_id`: of the mesh's key, empty where the mesh is off."""

    nodes: list[MeshNode]
    key_id: str = ""
    provisional: bool = False
    others: list[OtherMesh] = []


class Invitation(msgspec.Struct):
    """A code that lets one new node into the mesh. `code` is empty but where it was just made. `standing`: open,
    joined, expired, spent, withdrawn. `trouble`: why the new node must be told one of `addresses`."""

    label: str
    standing: str
    ends_in_s: float
    tries_left: int
    joined: str = ""
    notes: list[str] = []
    addresses: list[str] = []
    code: str = ""
    trouble: str = ""


class MeshMember(msgspec.Struct):
    """A node that was met in this mesh, and may be away."""

    node_id: str
    name: str


class MeshKeyState(msgspec.Struct):
    """A key that lets nodes in, by its id."""

    key_id: str
    current: bool


class Mesh(msgspec.Struct):
    """A node's mesh. `rotation`: `done`, or how far a new key is; `waits_for`: ids of nodes that have not taken it."""

    node_id: str
    name: str
    key_id: str
    provisional: bool = False
    keys: list[MeshKeyState] = []
    members: list[MeshMember] = []
    rotation: str = ""
    waits_for: list[str] = []
    revoked: int = 0


class JoinedMesh(msgspec.Struct):
    """The node that let this one in, and the mesh's key."""

    node_id: str
    name: str
    address: str
    key_id: str

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
    runs_on: list[str] = []


class Tensor(msgspec.Struct):
    """One input or output. -1 in `shape`: any size."""

    name: str
    dtype: str
    shape: list[int]
    optional: bool = False
    description: str = ""


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


class Restored(msgspec.Struct):
    """What a node has after a restore. `replaced`: versions that it had before and has no more, or otherwise."""

    node: str
    created_s: float = 0.0
    models: int = 0
    artifacts: int = 0
    replaced: int = 0


class Deleted(msgspec.Struct):
    model: str
    deleted: list[str] = []


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

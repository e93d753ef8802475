"""What the data plane tells of models and their workers, for those who show it: management, metrics, V2's index."""

import msgspec

from appliance.core.models import ModelVersion


class WorkerState(msgspec.Struct, frozen=True):
    """One worker process. `providers` is what its session really got."""

    pid: int
    providers: tuple[str, ...]
    in_flight: int
    load_s: float
    from_graph: bool = False  # it loaded a cached optimised graph


class ModelState(msgspec.Struct, frozen=True):
    """One version that was called since the start. `state`: asleep, starting, warm, set_aside or unloaded."""

    model: ModelVersion
    state: str
    reason: str
    workers: list[WorkerState]
    waiting: int
    loads_from: str = ""  # a phrase: what a worker of it loads


class IndexRow(msgspec.Struct, frozen=True):
    """One row of V2's repository index; `version` is the ordinal."""

    name: str
    version: str
    state: str
    reason: str


class DeployResult(msgspec.Struct, frozen=True):
    """What became of a deploy. `created` is False where the very same version was there already."""

    model: ModelVersion
    created: bool
    warnings: tuple[str, ...]

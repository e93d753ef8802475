"""What the data plane tells of models and their workers, for those who show it: management, metrics, V2's index."""

import msgspec

from appliance.core.models import ModelVersion
from appliance.core.profile import Profile


class WorkerState(msgspec.Struct, frozen=True):
    """One worker process. `providers` is what its session really got."""

    pid: int
    providers: tuple[str, ...]
    in_flight: int
    load_s: float
    from_graph: bool = False  # it loaded a cached optimised graph
    memory_bytes: int = 0  # its unique set size, or what it is reckoned to need until that is measured
    threads: int = 1
    calls: int = 0  # answered so far
    device_bytes: int = 0  # of a GPU's memory, as measured
    note: str = ""  # why it does not run where the node was told to


class ModelState(msgspec.Struct, frozen=True):
    """One version that was called since the start. `state`: asleep, starting, warm, set_aside,
    unloaded, unreachable or conflict."""

    model: ModelVersion
    state: str
    reason: str
    workers: list[WorkerState]
    waiting: int
    loads_from: str = ""  # a phrase: what a worker of it loads
    profile: Profile = Profile()
    arrivals_per_s: float = 0.0
    worth: float = 0.0  # seconds of cold start that its worker is expected to save, a gigabyte and hour


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

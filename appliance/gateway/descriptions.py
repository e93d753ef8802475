"""What is told of a model: the catalogue's entry, the worker's state and an example of use, as one answer.

Pure; used by the management handlers in the gateway.
"""

from collections.abc import Callable, Iterable, Sequence

from appliance.catalogue.index import ModelEntry
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.scale import Scale
from appliance.core.tensors import Signature, TensorSpec
from appliance.gateway.answers import (
    Measured,
    ModelDescription,
    ModelSummary,
    ScaleDescription,
    TensorDescription,
    VersionSummary,
    WorkerDescription,
)
from appliance.gateway.states import ModelState, WorkerState
from appliance.workers.plain.example import usage
from appliance.workers.plain.form_words import form_words


def summarise(entry: ModelEntry, state: str, workers: Sequence[WorkerState]) -> ModelSummary:
    """One line of a list; state and workers are the default version's."""
    default = entry.default
    return ModelSummary(
        model=str(entry.name),
        version=str(default.version),
        versions=[str(version.version) for version in entry.versions],
        aliases={alias: str(version) for alias, version in entry.aliases.items()},
        description=default.manifest.description,
        tags=list(default.manifest.tags),
        size_bytes=default.size_bytes,
        created_s=default.created_s,
        state=state,
        replicas=len(workers),
        memory_bytes=sum(worker.memory_bytes for worker in workers),
        runs_on=runs_on(workers),
    )


def runs_on(workers: Iterable[WorkerState]) -> list[str]:
    """The first provider that each worker's session really got, without repeats."""
    return sorted({worker.providers[0] for worker in workers if worker.providers})


def describe(
    entry: ModelEntry, version: ModelVersion, state_of: Callable[[ModelVersion], ModelState], scale: Scale, url: str
) -> ModelDescription:
    """All that is known of one version; `url` is the address it was asked at, which is where it is called."""
    manifest = version.manifest
    hints = usage(version.signature, manifest)
    state = state_of(version)
    output_words = {output.name: output.description for output in manifest.output}
    return ModelDescription(
        model=str(version.name),
        version=str(version.version),
        ordinal=version.ordinal,
        digest=version.digest,
        size_bytes=version.size_bytes,
        created_s=version.created_s,
        default=str(entry.default.version),
        aliases={alias: str(meant) for alias, meant in entry.aliases.items()},
        versions=[_version_summary(one, state_of(one)) for one in entry.versions],
        description=manifest.description,
        tags=list(manifest.tags),
        licence=manifest.licence,
        inputs=[_input(spec, version.signature, manifest) for spec in version.signature.inputs],
        outputs=[_tensor(spec, output_words.get(spec.name, "")) for spec in version.signature.outputs],
        labels=list(manifest.labels),
        top_k=manifest.top_k,
        accepts=hints["accepts"],
        example=hints["example"],
        curl=hints["curl"].replace("{url}", url),
        batchable=version.batchable,
        batch_reason=version.batch_reason,
        state=state.state,
        reason=state.reason,
        workers=[
            WorkerDescription(
                pid=worker.pid,
                providers=list(worker.providers),
                in_flight=worker.in_flight,
                load_s=worker.load_s,
                from_graph=worker.from_graph,
                memory_bytes=worker.memory_bytes,
                threads=worker.threads,
                calls=worker.calls,
                device_bytes=worker.device_bytes,
                note=worker.note,
            )
            for worker in state.workers
        ],
        waiting=state.waiting,
        loads_from=state.loads_from,
        measured=_measured(state),
        scale=scale_description(scale),
    )


def _measured(state: ModelState) -> Measured:
    profile = state.profile
    return Measured(
        memory_bytes=max(profile.uss_loaded_bytes, profile.uss_used_bytes),
        memory_loaded_bytes=profile.uss_loaded_bytes,
        load_s=profile.load_s,
        cold_start_s=profile.cold_start_s,
        cpu_s=profile.cpu_s,
        calls=profile.calls,
        io_read_bytes=profile.io_read_bytes,
        gpu_bytes=profile.gpu_bytes,
        run_s={str(rows): seconds for rows, seconds in sorted(profile.run_s.items())},
        arrivals_per_s=state.arrivals_per_s,
        worth=state.worth,
    )


def scale_description(scale: Scale) -> ScaleDescription:
    """What is wished of a model's replicas, as it is told."""
    return ScaleDescription(scale.min_replicas, scale.max_replicas, scale.target_latency_s)


def _version_summary(version: ModelVersion, state: ModelState) -> VersionSummary:
    return VersionSummary(
        version=str(version.version),
        ordinal=version.ordinal,
        digest=version.digest,
        size_bytes=version.size_bytes,
        created_s=version.created_s,
        source=version.source,
        state=state.state,
    )


def _input(spec: TensorSpec, signature: Signature, manifest: Manifest) -> TensorDescription:
    told = _tensor(spec, manifest.declaration(spec.name).description)
    told.given_as = form_words(spec, signature, manifest)
    return told


def _tensor(spec: TensorSpec, description: str) -> TensorDescription:
    return TensorDescription(spec.name, spec.dtype, list(spec.shape), spec.optional, description)

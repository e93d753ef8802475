"""What V2 says of a model: its metadata and its configuration, as dicts in the protocol's own words. Pure.

Shared by the REST and the gRPC front. Source: Open Inference Protocol, "Model Metadata"; Triton's model configuration.
"""

from collections.abc import Sequence
from typing import Any

from appliance.catalogue.index import ModelEntry
from appliance.core.models import ModelVersion
from appliance.core.release import VERSION
from appliance.core.tensors import DTYPES, TensorSpec
from appliance.observability.statistics import VersionStatistics

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "generate",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "statistics",
    "trace",
)


def _metadata(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.dtype, "shape": list(spec.shape)}


def v2_server_metadata(*, shared_memory: bool) -> dict[str, Any]:
    """The answer to GET /v2. Only extensions that work are named; `shared_memory`: whether that one is on."""
    extensions = sorted((*EXTENSIONS, "system_shared_memory")) if shared_memory else list(EXTENSIONS)
    return {"name": "ingle", "version": VERSION, "extensions": extensions}


def v2_metadata(entry: ModelEntry, version: ModelVersion, name: str) -> dict[str, Any]:
    """The answer to GET /v2/models/M. `name` as the caller wrote it; versions are ordinals, all that exist."""
    return {
        "name": name,
        "versions": [str(other.ordinal) for other in entry.versions],
        "platform": PLATFORM,
        "inputs": [_metadata(spec) for spec in version.signature.inputs if not spec.optional],
        "outputs": [_metadata(spec) for spec in version.signature.outputs if not spec.optional],
    }


def _config(specs: Sequence[TensorSpec], batched: bool) -> list[dict[str, Any]]:
    return [
        {
            "name": spec.name,
            "data_type": DTYPES[spec.dtype].config,
            "dims": [str(size) for size in (spec.shape[1:] if batched else spec.shape)],
        }
        for spec in specs
    ]


def v2_config(model: ModelVersion, max_batch: int) -> dict[str, Any]:
    """The answer to GET /v2/models/M/config. `max_batch` is how many rows a run takes; 1: no batching.

    Where the model batches, `dims` leave the batch axis out, as clients expect; int64 values are strings, as
    protobuf's JSON form has them.
    """
    batched = model.batchable and max_batch > 1
    config: dict[str, Any] = {
        "name": model.name.v2,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "default_model_filename": "model.onnx",
        "max_batch_size": max_batch if batched else 0,
        "input": _config([spec for spec in model.signature.inputs if not spec.optional], batched),
        "output": _config([spec for spec in model.signature.outputs if not spec.optional], batched),
        "instance_group": [{"name": model.name.v2, "kind": "KIND_CPU", "count": 1}],
        "version_policy": {"all": {}},
    }
    if model.manifest.state:
        config["sequence_batching"] = {}  # whoever calls it must say which sequence a call belongs to
    elif batched:
        config["dynamic_batching"] = {}
    return config


def v2_statistics(row: VersionStatistics) -> dict[str, Any]:
    """A row of the statistics extension, all members of which clients expect."""
    return {
        "name": row.name,
        "version": row.version,
        "last_inference": row.last_inference_ms,
        "inference_count": row.inference_count,
        "execution_count": row.execution_count,
        "inference_stats": row.inference_stats,
        "batch_stats": row.batch_stats,
        "memory_usage": [],
        "response_stats": {},
    }

"""What exists: a version of a model as the catalogue keeps it and every other part reads it."""

import msgspec

from appliance.core.manifest import Manifest
from appliance.core.names import ModelName
from appliance.core.tensors import Signature
from appliance.core.versions import Version

OUTSIDE = "triton"  # a version's source where it lies on a server that is no node: called there, and never copied


class ModelVersion(msgspec.Struct, frozen=True, gc=False):
    """One immutable version. `digest` names the artifact: a folder with `model.onnx` and what it needs."""

    name: ModelName
    version: Version
    ordinal: int
    digest: str
    folder: str  # absolute path of the artifact's folder on this node
    size_bytes: int
    signature: Signature
    manifest: Manifest
    batchable: bool  # rows of different calls may share a run: proved at deploy
    batch_reason: str  # why, or why not, as a sentence
    created_s: float  # Unix time
    source: str = "deploy"  # or "load": made by a V2 load with a file, which such a load may replace; or OUTSIDE

    @property
    def key(self) -> tuple[ModelName, Version, str]:
        """What tells this version's workers from any others', also after a load replaced it."""
        return (self.name, self.version, self.digest)

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"

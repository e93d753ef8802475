"""What the sandboxed check of a model found: the record that the workers make and the catalogue keeps."""

import msgspec

from appliance.core.tensors import Signature


class Inspection(msgspec.Struct, frozen=True):
    """A model that opened and ran. `batch_reason` says, as a sentence, why its rows may share a run or not."""

    signature: Signature
    batchable: bool
    batch_reason: str
    warnings: tuple[str, ...] = ()

"""What the gateway tells the zygote about the process it wants: written once, read in the fork.

Both the gateway and the zygote import this; neither numpy nor onnxruntime is known here.
"""

from typing import Literal

import msgspec

from appliance.core.manifest import Manifest


class CachedGraph(msgspec.Struct, frozen=True):
    """An optimised graph that may be loaded in place of the model: its folder, and each file with its exact size."""

    folder: str
    sizes: dict[str, int]


class WorkerSpec(msgspec.Struct, frozen=True):
    """One process to be forked. `folder` holds `model.onnx`; `data_bytes` 0 leaves memory unbounded. `graph` is loaded
    in place of the model where that succeeds. `output` is the folder that an optimisation writes to, each file of at
    most `file_bytes`, or in which a device's worker keeps TensorRT's engines; no other role writes. For a device's
    worker `folder` is that of all artifacts, and its models are named later; `tf32` lets its GPU compute FP32 with ten
    bits of mantissa. Who translates has neither folder nor model."""

    number: int
    role: Literal["serve", "inspect", "optimise", "device", "translate"]
    folder: str
    manifest: Manifest
    threads: int
    max_batch: int
    providers: tuple[str, ...]
    data_bytes: int
    graph: CachedGraph | None = None
    output: str = ""
    file_bytes: int = 0
    device_number: int = 0
    tf32: bool = False


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """The zygote's answer to a spec; the new process's pidfd travels with it."""

    number: int
    pid: int


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """A child was reaped. `status` is as waitpid's, `maximum_rss_bytes` as getrusage's."""

    number: int
    status: int
    maximum_rss_bytes: int
    cpu_s: float


class ForkFailed(msgspec.Struct, frozen=True, tag="failed"):
    number: int
    reason: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The zygote is up. `layers` are (name, active, detail) of its sandbox; `threads` must be 1."""

    runtime: str
    providers: tuple[str, ...]
    layers: tuple[tuple[str, bool, str], ...]
    threads: int


ZygoteWord = Forked | Exited | ForkFailed | Ready

encode = msgspec.msgpack.Encoder().encode
decode_word = msgspec.msgpack.Decoder(ZygoteWord).decode
decode_spec = msgspec.msgpack.Decoder(WorkerSpec).decode

"""A peer's messages as a Triton server (any V2 server over gRPC) understands them: INVOKE into ModelInferRequest,
ModelInferResponse into REPLY, and what it tells of its models into records. Pure; runs in the gateway.

Tensors are passed on as they are: their elements are neither read nor written here. Whoever needs that is told by
needs_reading() and needs_writing(), and has it done by workers/translator.py.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from msgspec.structs import replace

from appliance.core.errors import BadInputError, WorkerFailedError
from appliance.core.frames import AnswerForm, Encoding, Invoke, OutputWish, TensorHead
from appliance.core.manifest import Manifest
from appliance.core.models import OUTSIDE
from appliance.core.names import ModelName, parse_name
from appliance.core.requests import Buffer
from appliance.core.tensors import DTYPES, MAX_RANK, Signature, TensorSpec, check_shape, element_count
from appliance.core.versions import Version
from appliance.gateway.grpc_codec import typed_contents
from appliance.gateway.grpc_stubs import pb
from federation.messages import MeshInvoke, MeshReply, Record

MAX_TENSORS = 256  # of one model, in and out
MAX_VERSION = 999_999_999  # what a semantic version takes
_MAX_NAME_CHARS = 256

Tensor = tuple[str, list[int], bytes]  # dtype, shape and content


def needs_reading(asked: MeshInvoke) -> bool:
    """Whether inputs have to be made tensors first."""
    return any(tensor.encoding != Encoding.RAW for tensor in asked.tensors)


def needs_writing(asked: MeshInvoke) -> bool:
    """Whether the answer is more than words around raw tensors."""
    if asked.form != AnswerForm.V2_JSON:
        return asked.form != AnswerForm.TENSORS
    wishes = asked.outputs
    return not (asked.binary if wishes is None else all(wish.binary or wish.shared for wish in wishes))


def to_request(asked: MeshInvoke, parts: Sequence[Buffer]) -> Any:
    """The ModelInferRequest of a call whose tensors are RAW."""
    request = pb.ModelInferRequest(
        model_name=parse_name(asked.model).name, model_version=asked.version.partition(".")[0], id=asked.call_id
    )
    for tensor in asked.tensors:
        request.inputs.add(name=tensor.name, datatype=tensor.dtype, shape=tensor.shape)
    request.raw_input_contents.extend(part if isinstance(part, bytes) else bytes(part) for part in parts)
    for wish in asked.outputs or ():
        output = request.outputs.add(name=wish.name)
        if wish.class_count:
            output.parameters["classification"].int64_param = wish.class_count
    return request


def to_reply(asked: MeshInvoke, response: Any, run_s: float) -> tuple[MeshReply, list[bytes]]:
    """The answer as a peer would give it, with its body. Raises WorkerFailedError where the server's makes no sense,
    BadInputError where an output is larger than the place that its caller has for it."""
    outputs = read_outputs(response)
    wishes = [OutputWish(name, True) for name in outputs] if asked.outputs is None else asked.outputs
    heads: list[TensorHead] = []
    texts: list[bytes] = []
    body: list[bytes] = []
    last: list[bytes] = []  # what goes on to its caller's memory
    for wish in wishes:
        if wish.name not in outputs:
            raise WorkerFailedError(f"the server's answer lacks the output '{wish.name}', which was asked for")
        dtype, shape, data = outputs[wish.name]
        place = wish.shared
        if place is not None and len(data) > place.size_bytes:
            raise BadInputError(
                f"output '{wish.name}' has {len(data)} bytes, but its place in the shared memory region "
                f"'{place.region[:100]}' has {place.size_bytes}: make it larger"
            )
        (body if place is None else last).append(data)
        if asked.form == AnswerForm.TENSORS or place is not None:
            heads.append(TensorHead(wish.name, dtype, shape, Encoding.RAW, len(data), shared=place))
        if asked.form == AnswerForm.V2_JSON:
            about: dict[str, object] = {"name": wish.name, "datatype": dtype, "shape": shape}
            if place is None:
                about["parameters"] = {"binary_data_size": len(data)}
            texts.append(orjson.dumps(about))
    text = b"[" + b",".join(texts) + b"]" if asked.form == AnswerForm.V2_JSON else b""
    reply = MeshReply(asked.call, heads, len(text), 0, 0, int(run_s * 1e9), 0, 1, 1, total_s=run_s)
    return reply, [text, *body, *last]


def to_invoke(asked: MeshInvoke) -> Invoke:
    """The call as a worker would be asked it."""
    return Invoke(0, asked.form, asked.tensors, asked.outputs, asked.binary, asked.content_type)


def cut(heads: Sequence[TensorHead], body: bytes) -> list[bytes]:
    """Each tensor's part of a body."""
    parts = []
    position = 0
    for head in heads:
        parts.append(body[position : position + head.size_bytes])
        position += head.size_bytes
    return parts


def to_writing(asked: MeshInvoke, response: Any) -> tuple[Invoke, list[bytes]]:
    """What is to be written as the caller wants it, with the raw outputs. The server has classified already. Raises
    WorkerFailedError where its answer makes no sense."""
    outputs = read_outputs(response)
    for wish in asked.outputs or ():
        if wish.name not in outputs:
            raise WorkerFailedError(f"the server's answer lacks the output '{wish.name}', which was asked for")
    heads = [TensorHead(name, dtype, shape, Encoding.RAW, len(data)) for name, (dtype, shape, data) in outputs.items()]
    wishes = [replace(wish, class_count=0) for wish in asked.outputs] if asked.outputs is not None else None
    parts = [data for _, _, data in outputs.values()]
    return Invoke(0, asked.form, heads, wishes, asked.binary), parts


def read_outputs(response: Any) -> dict[str, Tensor]:
    """A response's outputs by name, checked. Raises WorkerFailedError where they make no sense."""
    raw = response.raw_output_contents
    if raw and len(raw) != len(response.outputs):
        raise WorkerFailedError(f"the server sent {len(response.outputs)} outputs with {len(raw)} contents")
    found: dict[str, Tensor] = {}
    for index, output in enumerate(response.outputs):
        name, dtype, shape = output.name, output.datatype, list(output.shape)
        try:
            check_shape(name, shape)
            data = raw[index] if raw else typed_contents(output)
        except BadInputError as error:
            raise WorkerFailedError(f"the server's answer cannot be read: {error.sentence}") from None
        if dtype not in DTYPES or (dtype != "BYTES" and len(data) != element_count(shape) * DTYPES[dtype].size_bytes):
            raise WorkerFailedError(f"the server sent {len(data)} bytes for '{name[:100]}', {dtype[:20]} of {shape}")
        found[name] = (dtype, shape, data)
    return found


def to_record(name: ModelName, version: str, metadata: Any, config: Any, created_s: float) -> Record:
    """One version of a server's model. Raises BadInputError with the reason where it cannot be called from here."""
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
    if not 0 < number <= MAX_VERSION:
        raise BadInputError(f"its version '{version[:40]}' is no number from 1 to {MAX_VERSION}")
    if config.HasField("sequence_batching"):
        raise BadInputError("it keeps state from call to call, and its calls could go to several servers")
    if config.model_transaction_policy.decoupled:
        raise BadInputError("it answers a call several times or not at all (decoupled)")
    optional = {tensor.name for tensor in config.input if tensor.optional}
    signature = Signature(_specs(metadata.inputs, optional), _specs(metadata.outputs, ()))
    size_bytes = 0  # none of it lies here, and the server does not tell
    return Record(
        str(name),
        str(Version(number, 0, 0)),
        number,
        _digest(name, number, signature),
        size_bytes,
        signature,
        Manifest(),
        False,
        "it lies on a Triton server, which makes batches of its own",
        created_s,
        OUTSIDE,
    )


def _specs(tensors: Sequence[Any], optional: Iterable[str]) -> tuple[TensorSpec, ...]:
    if not 0 < len(tensors) <= MAX_TENSORS:
        raise BadInputError(f"it has {len(tensors)} inputs or outputs: expected 1 to {MAX_TENSORS}")
    specs = []
    for tensor in tensors:
        if tensor.datatype not in DTYPES or not 0 < len(tensor.name) <= _MAX_NAME_CHARS:
            raise BadInputError(f"its tensor '{tensor.name[:100]}' is {tensor.datatype[:40]}, which is not known here")
        if len(tensor.shape) > MAX_RANK or min(tensor.shape, default=0) < -1:
            raise BadInputError(f"its tensor '{tensor.name[:100]}' has the shape {list(tensor.shape)[:20]}")
        specs.append(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape), (), tensor.name in optional))
    return tuple(specs)


def _digest(name: ModelName, number: int, signature: Signature) -> str:
    """Stands for content that cannot be seen: servers that were added under one owner, and tell the same of a version,
    are taken to have the same. No artifact has it: those are digests of lists of files, in another form."""
    told = [(tensor.name, tensor.dtype, tensor.shape, tensor.optional) for tensor in signature.inputs]
    given = [(tensor.name, tensor.dtype, tensor.shape) for tensor in signature.outputs]
    return hashlib.sha256(b"ingle-outside-1\0" + orjson.dumps([str(name), number, told, given])).hexdigest()

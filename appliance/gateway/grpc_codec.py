"""ModelInferRequest into a CallRequest. Pure; runs in the gateway, on the hot path of the gRPC front.

Tensors stay bytes: raw contents are handed on as they came, typed contents are packed into the same form, and what lies
in the caller's shared memory stays there. Whether a tensor fits the model is the data plane's to say.
"""

import struct
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from appliance.core.client_memory import MemorySpan
from appliance.core.errors import BadInputError
from appliance.core.frames import AnswerForm, Encoding, OutputWish, TensorHead
from appliance.core.requests import CallRequest, Part
from appliance.core.tensors import check_shape, element_count
from appliance.gateway.grpc_stubs import pb
from appliance.gateway.shared_memory import CallerMemory
from appliance.gateway.v2_parameters import NONE, read_parameters

# Where each dtype's elements are in InferTensorContents, and how one is packed.
_TYPED: dict[str, tuple[str, str]] = {
    "BOOL": ("bool_contents", "?"),
    "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "INT8": ("int_contents", "b"),
    "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
    "BYTES": ("bytes_contents", ""),
}
# Of these, protobuf's own form of the elements is RAW form too: one after another, little-endian.
_PACKED_ALIKE = {"BOOL": 1, "FP32": 4, "FP64": 8}
_LENGTH = struct.Struct("<I")
_RAW = int(Encoding.RAW)

_parse = pb.ModelInferRequest.FromString


def parse_infer(data: bytes) -> Any:
    """The ModelInferRequest in `data`. Raises BadInputError where it is none."""
    try:
        return _parse(data)
    except DecodeError as error:
        raise BadInputError(f"the request is no ModelInferRequest: {error}") from None


def to_call(message: Any, memory: CallerMemory) -> CallRequest:
    """The call that a ModelInferRequest asks for; its deadline and priority are set where its parameters give them.

    `memory` is what the caller may share with the node. Raises BadInputError where contents are missing, mixed or do
    not fit their dtype; CallerMemory.span() says what it raises.
    """
    inputs, raw = message.inputs, message.raw_input_contents
    parts: list[Part]
    if any(_is_shared(tensor) for tensor in inputs):
        parts = _parts_among_shared(inputs, list(raw), memory)
    else:
        parts = list(raw) if raw else [typed_contents(tensor) for tensor in inputs]
    if len(parts) != len(inputs):
        raise BadInputError(
            f"the request has {len(inputs)} inputs but {len(parts)} raw_input_contents: expected one for each, in order"
        )
    heads = []
    for tensor, part in zip(inputs, parts, strict=True):
        if raw and tensor.HasField("contents"):
            raise BadInputError(
                f"input '{tensor.name}' has contents, but the request also has raw_input_contents: use one or the other"
            )
        heads.append(TensorHead(tensor.name, tensor.datatype, list(tensor.shape), _RAW, len(part)))
    about = read_parameters(plain_parameters(message.parameters)) if message.parameters else NONE
    memory_outputs: dict[str, MemorySpan] = {}
    return CallRequest(
        message.model_name,
        message.model_version,
        AnswerForm.TENSORS,
        heads,
        parts,
        outputs=[_wish(output, memory, memory_outputs) for output in message.outputs] or None,
        binary=True,
        by_ordinal=True,
        deadline_s=about.deadline_s,
        priority=about.priority,
        sequence=about.sequence,
        memory_outputs=memory_outputs or None,
    )


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """V2's InferParameters as the values they hold; those that hold none are left out."""
    found = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found


def wants_final_mark(message: Any) -> bool:
    """Whether the caller of a stream asked to be told which answer is a request's last."""
    parameters = message.parameters
    name = "triton_enable_empty_final_response"
    return bool(parameters) and name in parameters and bool(parameters[name].bool_param)


def _is_shared(tensor: Any) -> bool:
    return bool(tensor.parameters) and "shared_memory_region" in tensor.parameters


def _parts_among_shared(inputs: Any, raw: list[bytes], memory: CallerMemory) -> list[Part]:
    """Each input's contents where some lie in shared memory: raw_input_contents has those of the others, in order."""
    parts: list[Part] = []
    for tensor in inputs:
        if not _is_shared(tensor):
            if raw:
                parts.append(raw.pop(0))
            else:
                parts.append(typed_contents(tensor))
        elif tensor.HasField("contents"):
            raise BadInputError(f"input '{tensor.name}' lies in shared memory, but has contents besides: send one")
        else:
            parts.append(memory.span(tensor.name, plain_parameters(tensor.parameters))[0])
    if raw:
        raise BadInputError(f"raw_input_contents has {len(raw)} more than there are inputs outside of shared memory")
    return parts


def _wish(output: Any, memory: CallerMemory, spans: dict[str, MemorySpan]) -> OutputWish:
    if not output.parameters:
        return OutputWish(output.name, True)
    classes = output.parameters["classification"].int64_param if "classification" in output.parameters else 0
    if classes < 0:
        raise BadInputError(f"output '{output.name}' asks for {classes} classes: expected 1 or more")
    if not _is_shared(output):
        return OutputWish(output.name, True, classes)
    spans[output.name], place = memory.span(output.name, plain_parameters(output.parameters))
    return OutputWish(output.name, True, classes, place)


def typed_contents(tensor: Any) -> bytes:
    """The RAW form of an input whose elements came in its typed contents."""
    name, dtype, shape = tensor.name, tensor.datatype, list(tensor.shape)
    check_shape(name, shape)
    if dtype not in _TYPED:
        raise BadInputError(
            f"input '{name}' is {dtype or 'of no datatype'}: typed contents carry {', '.join(_TYPED)}; "
            "FP16 and BF16 go in raw_input_contents"
        )
    field, code = _TYPED[dtype]
    contents = tensor.contents
    values = getattr(contents, field)
    if len(values) != element_count(shape):
        raise BadInputError(
            f"input '{name}' of type {dtype} and shape {shape} takes {element_count(shape)} elements in "
            f"contents.{field}, but {len(values)} came"
        )
    if dtype == "BYTES":
        return b"".join(piece for value in values for piece in (_LENGTH.pack(len(value)), value))
    if values and dtype in _PACKED_ALIKE and len(contents.ListFields()) == 1:
        # Element by element, a picture of floats would hold the event loop up for 20 ms.
        contents.DiscardUnknownFields()
        packed: bytes = contents.SerializeToString()
        return packed[-len(values) * _PACKED_ALIKE[dtype] :]
    try:
        return struct.pack(f"<{len(values)}{code}", *values)
    except struct.error as error:
        raise BadInputError(f"input '{name}' is {dtype}, but an element does not fit that type: {error}") from None

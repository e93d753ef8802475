"""A V2 REST inference request as a core call, and the beginning of its answer. Pure; runs in the gateway per call.

The tensors' data stay the bytes they came as: JSON lists as text, binary ones as slices of the body.
Sources: Open Inference Protocol, "Inference Request"; Triton's binary data, classification and schedule extensions.
"""

from typing import Any, NamedTuple

import msgspec

from appliance.core.client_memory import MemorySpan
from appliance.core.errors import BadInputError
from appliance.core.frames import AnswerForm, Encoding, OutputWish, TensorHead
from appliance.core.requests import Buffer, CallRequest, Part
from appliance.gateway.shared_memory import CallerMemory
from appliance.gateway.v2_parameters import NONE, read_parameters

HEADER_LENGTH = b"inference-header-content-length"


class InputTensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] | None = None


class RequestedOutput(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """The JSON part of a request. Unknown members are passed over, as the protocol asks."""

    inputs: list[InputTensor]
    id: str = ""
    outputs: list[RequestedOutput] | None = None
    parameters: dict[str, Any] | None = None


class AskedInference(NamedTuple):
    call: CallRequest
    id: str


_LENIENT_BYTES = 4 * 2**20
# Bound once: to look up an enum's member costs more than to use it.
_RAW, _JSON, _V2_JSON = int(Encoding.RAW), int(Encoding.JSON), AnswerForm.V2_JSON

_decode = msgspec.json.Decoder(InferRequest).decode
_quote = msgspec.json.Encoder().encode


def read_infer(
    body: Buffer, header_length: str | None, model: str, version: str, memory: CallerMemory
) -> AskedInference:
    """The call in a request's body. `header_length` is the header that says where binary data begin, or None;
    `memory` is what the caller may share with the node.

    Raises BadInputError for JSON that is none or lacks a member, and for sizes that do not add up; CallerMemory.span()
    says what it raises.
    """
    binary = memoryview(b"")
    text: Buffer = body
    if header_length is not None:
        size = (
            int(header_length)
            if header_length.isascii() and header_length.isdigit() and len(header_length) < 16
            else -1
        )
        if not 0 <= size <= len(body):
            raise BadInputError(
                f"Inference-Header-Content-Length is '{header_length[:40]}', but the body has {len(body)} bytes"
            )
        view = memoryview(body)
        text, binary = view[:size], view[size:]
    asked = _parsed(text)
    tensors: list[TensorHead] = []
    parts: list[Part] = []
    position = 0
    for tensor in asked.inputs:
        size_bytes = tensor.parameters.get("binary_data_size") if tensor.parameters else None
        if tensor.parameters and "shared_memory_region" in tensor.parameters:
            if size_bytes is not None or tensor.data:
                raise BadInputError(
                    f"input '{tensor.name[:100]}' lies in shared memory, but has data besides: send one"
                )
            part: Part = memory.span(tensor.name, tensor.parameters)[0]
            encoding = _RAW
        elif size_bytes is None:
            if not tensor.data:
                raise BadInputError(f"input '{tensor.name[:100]}' has neither data nor binary_data_size")
            part = bytes(tensor.data)
            encoding = _JSON
        else:
            if not isinstance(size_bytes, int) or isinstance(size_bytes, bool) or size_bytes < 0:
                raise BadInputError(f"input '{tensor.name[:100]}': binary_data_size must be a whole number of bytes")
            if position + size_bytes > len(binary):
                raise BadInputError(
                    f"input '{tensor.name[:100]}' claims {size_bytes} bytes of binary data, but only "
                    f"{len(binary) - position} are left in the body"
                )
            part = binary[position : position + size_bytes]
            position += size_bytes
            encoding = _RAW
        tensors.append(TensorHead(tensor.name, tensor.datatype, tensor.shape, encoding, len(part)))
        parts.append(part)
    if position != len(binary):
        raise BadInputError(f"the body has {len(binary) - position} bytes more than its inputs' binary_data_size say")
    parameters = asked.parameters or {}
    outputs = None
    default_binary = parameters.get("binary_data_output") is True
    memory_outputs: dict[str, MemorySpan] = {}
    if asked.outputs:
        outputs = [_wish(output, default_binary, memory, memory_outputs) for output in asked.outputs]
    about = read_parameters(parameters) if parameters else NONE
    return AskedInference(
        CallRequest(
            model,
            version,
            _V2_JSON,
            tensors,
            parts,
            outputs,
            default_binary,
            by_ordinal=True,
            deadline_s=about.deadline_s,
            priority=about.priority,
            sequence=about.sequence,
            memory_outputs=memory_outputs or None,
        ),
        asked.id,
    )


def _parsed(text: Buffer) -> InferRequest:
    try:
        return _decode(text)
    except msgspec.ValidationError as error:
        raise BadInputError(f"the request is not V2's: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _parsed_leniently(text, error)


def _parsed_leniently(text: Buffer, error: Exception) -> InferRequest:
    """JSON as Python and RapidJSON write it, with NaN and Infinity, which strict JSON does not have."""
    if len(text) > _LENIENT_BYTES:
        # Python's parser would hold the event loop up for as long as it takes.
        raise BadInputError(
            f"the request is no JSON: {error}; NaN and Infinity, which JSON does not have, are read in bodies of up to "
            f"{_LENIENT_BYTES} bytes only: send larger tensors in binary"
        ) from None
    import json

    try:
        value = json.loads(bytes(text))
        if isinstance(value, dict) and isinstance(value.get("inputs"), list):
            for tensor in value["inputs"]:
                if isinstance(tensor, dict) and "data" in tensor:
                    tensor["data"] = msgspec.Raw(json.dumps(tensor["data"]).encode())
        return msgspec.convert(value, InferRequest)
    except msgspec.ValidationError as wrong:
        raise BadInputError(f"the request is not V2's: {wrong}") from None
    except (ValueError, RecursionError):
        raise BadInputError(f"the request is no JSON: {error}") from None


def _wish(
    output: RequestedOutput, default_binary: bool, memory: CallerMemory, spans: dict[str, MemorySpan]
) -> OutputWish:
    parameters = output.parameters or {}
    count = parameters.get("classification", 0)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise BadInputError(f"output '{output.name[:100]}': classification must be a whole number")
    binary = parameters.get("binary_data", default_binary)
    if not isinstance(binary, bool):
        raise BadInputError(f"output '{output.name[:100]}': binary_data must be true or false")
    if "shared_memory_region" not in parameters:
        return OutputWish(output.name, binary, count)
    spans[output.name], place = memory.span(output.name, parameters)
    return OutputWish(output.name, binary, count, place)


def write_head(model: str, ordinal: int, request_id: str) -> bytes:
    """An answer's JSON up to where the worker's text of the outputs array goes; a closing brace comes after that."""
    asked_id = b',"id":' + _quote(request_id) if request_id else b""
    return b'{"model_name":%b,"model_version":"%d"%b,"outputs":' % (_quote(model), ordinal, asked_id)

"""A CallAnswer as the bytes of a ModelInferResponse or ModelStreamInferResponse. Pure; runs in the gateway.

On the hot path: what repeats from call to call (names, dtypes, shapes) is encoded once by protobuf and kept, and the
tensors are joined to it straight from the buffer they came in. Handing them to protobuf would copy each of them twice.
"""

from functools import lru_cache
from typing import Any

from appliance.core.frames import SharedPlace
from appliance.core.requests import Buffer, CallAnswer
from appliance.gateway.grpc_stubs import pb


def _tag(message: Any, field: str) -> int:
    """What precedes a length-delimited field on the wire: its number, and 2 for "a length follows"."""
    return int(message.DESCRIPTOR.fields_by_name[field].number) << 3 | 2


_ID = _tag(pb.ModelInferResponse, "id")
_OUTPUT = _tag(pb.ModelInferResponse, "outputs")
_RAW = _tag(pb.ModelInferResponse, "raw_output_contents")
_STREAMED = _tag(pb.ModelStreamInferResponse, "infer_response")

_final = pb.ModelInferResponse()
_final.parameters["triton_final_response"].bool_param = True
_FINAL_MARK: bytes = _final.SerializeToString()


@lru_cache(4096)
def _field_start(tag: int, size_bytes: int) -> bytes:
    """A field's tag and the length of what follows, as a varint."""
    out = bytearray((tag,))
    while size_bytes > 127:
        out.append(size_bytes & 127 | 128)
        size_bytes >>= 7
    out.append(size_bytes)
    return bytes(out)


@lru_cache(1024)
def _answer_start(model: str, ordinal: int) -> bytes:
    start: bytes = pb.ModelInferResponse(model_name=model, model_version=str(ordinal)).SerializeToString()
    return start


@lru_cache(4096)
def _output(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    tensor: bytes = pb.ModelInferResponse.InferOutputTensor(name=name, datatype=dtype, shape=shape).SerializeToString()
    return _field_start(_OUTPUT, len(tensor)) + tensor


def _shared_output(name: str, dtype: str, shape: tuple[int, ...], place: SharedPlace, size_bytes: int) -> bytes:
    message = pb.ModelInferResponse.InferOutputTensor(name=name, datatype=dtype, shape=shape)
    message.parameters["shared_memory_region"].string_param = place.region
    message.parameters["shared_memory_offset"].int64_param = place.offset
    message.parameters["shared_memory_byte_size"].int64_param = size_bytes
    tensor: bytes = message.SerializeToString()
    return _field_start(_OUTPUT, len(tensor)) + tensor


def _answer_parts(answer: CallAnswer, model: str, request_id: str) -> list[Buffer]:
    parts: list[Buffer] = [_answer_start(model, answer.ordinal)]
    if request_id:
        encoded = request_id.encode()
        parts.append(_field_start(_ID, len(encoded)) + encoded)
    body, begin = answer.body, 0
    # Fields may stand in any order: each output's tensor follows its description.
    for head in answer.tensors:
        if head.shared is not None:
            # Its place among the contents is kept, for clients find an output's by its number.
            parts.append(_shared_output(head.name, head.dtype, tuple(head.shape), head.shared, head.size_bytes))
            parts.append(_field_start(_RAW, 0))
            continue
        end = begin + head.size_bytes
        parts.append(_output(head.name, head.dtype, tuple(head.shape)))
        parts.append(_field_start(_RAW, head.size_bytes))
        parts.append(body[begin:end])
        begin = end
    return parts


def infer_response(answer: CallAnswer, model: str, request_id: str) -> bytes:
    """The ModelInferResponse of an answer in the form TENSORS, to a caller who called the model `model`."""
    return b"".join(_answer_parts(answer, model, request_id))


def stream_response(answer: CallAnswer, model: str, request_id: str, *, final_mark: bool) -> bytes:
    """As infer_response(), in the envelope of a stream. `final_mark`: say that no other answer follows."""
    parts = _answer_parts(answer, model, request_id)
    if final_mark:
        parts.append(_FINAL_MARK)
    return b"".join((_field_start(_STREAMED, sum(map(len, parts))), *parts))


def stream_error(sentence: str, request_id: str) -> bytes:
    """A refusal within a stream, which goes on."""
    message: bytes = pb.ModelStreamInferResponse(
        error_message=sentence, infer_response=pb.ModelInferResponse(id=request_id)
    ).SerializeToString()
    return message

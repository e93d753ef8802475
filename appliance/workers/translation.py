"""The process that reads and writes tensors' elements for models that are called elsewhere as raw tensors: JSON and
plain content into tensors, tensors into JSON and plain answers.

A fork of the zygote, confined as a worker is: what it reads is whatever callers send. It has no model.
"""

import socket

from appliance.core.errors import IngleError
from appliance.core.frames import (
    Answer,
    Encoding,
    Failure,
    Invoke,
    Kind,
    TensorHead,
    Translate,
    decode_translate,
    frame_start,
)
from appliance.core.manifest import Manifest
from appliance.core.tensors import TensorSpec
from appliance.workers import tensors
from appliance.workers.outputs import OutputWriter, Written
from appliance.workers.plain.content import tensors_from_content
from appliance.workers.stream import FrameStream

_MANIFEST = Manifest()  # whose model it is says nothing of labels or columns


def run_translation(sock: socket.socket) -> None:
    """Answers each TRANSLATE with ANSWER or FAILURE, in turn, until the gateway has gone."""
    stream = FrameStream(sock)
    while True:
        try:
            frames = stream.read(wait=True)
        except EOFError:
            return
        for frame in frames:
            sock.sendall(_answer(decode_translate(frame.head), frame.body))


def _answer(asked: Translate, body: memoryview) -> bytes:
    call = asked.invoke.call
    try:
        heads, text_size, parts, size = (
            outputs_written(asked.invoke, body) if asked.written else inputs_read(asked, body)
        )
        return b"".join((frame_start(Kind.ANSWER, Answer(call, heads, text_size), size), *parts))
    except IngleError as error:
        failure = Failure(call, error.code, error.sentence[:4000])
    except Exception as error:  # hostile content must cost its caller the call, and nobody else anything
        failure = Failure(
            call, IngleError.code, f"the content could not be read: {type(error).__name__}: {error}"[:4000]
        )
    return frame_start(Kind.FAILURE, failure, 0)


def inputs_read(asked: Translate, body: memoryview) -> Written:
    """A call's inputs as RAW tensors. Raises IngleError where the content does not fit the signature."""
    heads: list[TensorHead] = []
    parts: list[bytes | memoryview] = []
    position = 0
    dtypes = {spec.name: spec.dtype for spec in asked.signature.inputs}
    for tensor in asked.invoke.tensors:
        data = body[position : position + tensor.size_bytes]
        position += tensor.size_bytes
        if tensor.encoding == Encoding.CONTENT:
            content_type = asked.invoke.content_type
            for name, array in tensors_from_content(content_type, data, asked.signature, _MANIFEST).items():
                written = tensors.to_raw(dtypes[name], array)
                heads.append(TensorHead(name, dtypes[name], list(array.shape), Encoding.RAW, len(written)))
                parts.append(written)
            continue
        raw: bytes | memoryview = bytes(data)
        if tensor.encoding == Encoding.JSON:
            array = tensors.from_json(tensor.name, tensor.dtype, tensor.shape, data)
            raw = tensors.to_raw(tensor.dtype, array)
        heads.append(TensorHead(tensor.name, tensor.dtype, list(tensor.shape), Encoding.RAW, len(raw)))
        parts.append(raw)
    return heads, 0, parts, sum(map(len, parts))


def outputs_written(invoke: Invoke, body: memoryview) -> Written:
    """RAW outputs, which are the call's `tensors`, as its caller wants them. Raises IngleError."""
    position = 0
    arrays = []
    for tensor in invoke.tensors:
        data = body[position : position + tensor.size_bytes]
        position += tensor.size_bytes
        arrays.append(tensors.from_raw(tensor.name, tensor.dtype, tensor.shape, data))
    specs = [TensorSpec(tensor.name, tensor.dtype, tuple(tensor.shape)) for tensor in invoke.tensors]
    return OutputWriter(specs, _MANIFEST, memoryview(b"")).write(invoke, arrays, batched=False)

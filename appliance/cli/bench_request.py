"""One request for a model, to be sent over and over: a file's, the model's example, or made up from its signature.

Knows HTTP's and V2's forms and no socket; without numpy, so that `ingle bench` starts at once.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from appliance.client_answers import ModelDetails, Tensor
from appliance.client_tensors import Tensor as RawTensor
from appliance.core.errors import BadInputError
from appliance.core.tensors import DTYPES, element_count

MAX_BYTES = 64 * 1024 * 1024
_FREE_SIZE = 1  # of a made-up tensor's free dimensions
_FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}


class Request(NamedTuple):
    """`path` is behind the node's URL; `about` says in words what is sent."""

    path: str
    headers: dict[str, str]
    body: bytes
    about: str


class Given(NamedTuple):
    """A tensor to send: its values in one list."""

    name: str
    dtype: str
    shape: list[int]
    values: Sequence[Any]


def json_request(details: ModelDetails) -> Request:
    """A V2 call in JSON."""
    tensors, source = _tensors(details)
    inputs = [
        {"name": one.name, "datatype": one.dtype, "shape": one.shape, "data": list(one.values)} for one in tensors
    ]
    return _checked(
        Request(_v2_path(details), {"Content-Type": "application/json"}, orjson.dumps({"inputs": inputs}), source)
    )


def binary_request(details: ModelDetails) -> Request:
    """A V2 call whose tensors, and those of its answer, are binary."""
    tensors, source = _tensors(details)
    parts = [_packed(one) for one in tensors]
    head = orjson.dumps(
        {
            "inputs": [
                {
                    "name": one.name,
                    "datatype": one.dtype,
                    "shape": one.shape,
                    "parameters": {"binary_data_size": len(part)},
                }
                for one, part in zip(tensors, parts, strict=True)
            ],
            "parameters": {"binary_data_output": True},
        }
    )
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return _checked(Request(_v2_path(details), headers, head + b"".join(parts), source))


def raw_tensors(details: ModelDetails) -> tuple[dict[str, RawTensor], str]:
    """The tensors of a call by name, for the Python client, and where they are from."""
    tensors, source = _tensors(details)
    return {one.name: RawTensor(one.dtype, one.shape, _packed(one)) for one in tensors}, source


def plain_request(details: ModelDetails) -> Request:
    """A plain call with the model's own example. Raises BadInputError where that is a file, or only described."""
    content_type, body = (str(details.example.get(word, "")) for word in ("content_type", "body"))
    if not body or body.startswith("the bytes of ") or "nested lists of shape" in body:
        raise BadInputError(f"{details.model} has no example that could be sent: name a file of your own with --input")
    return _checked(
        Request(_plain_path(details), {"Content-Type": content_type}, body.encode(), f"its example, {content_type}")
    )


def file_request(details: ModelDetails, content: bytes, content_type: str) -> Request:
    """A file's content as it is: V2's JSON where it is that, else a plain call."""
    if content_type == "application/json" and is_v2(content):
        return Request(_v2_path(details), {"Content-Type": content_type}, content, "your file, a V2 call")
    return Request(_plain_path(details), {"Content-Type": content_type}, content, f"your file, {content_type}")


def is_v2(content: bytes) -> bool:
    """Whether this JSON is a V2 call rather than a plain one."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    inputs = value.get("inputs") if isinstance(value, dict) else None
    return isinstance(inputs, list) and all(isinstance(one, dict) and "datatype" in one for one in inputs)


def _v2_path(details: ModelDetails) -> str:
    return f"/v2/models/{details.model}/versions/{details.version}/infer"


def _plain_path(details: ModelDetails) -> str:
    return f"/v1/models/{details.model}:{details.version}"


def _checked(request: Request) -> Request:
    if len(request.body) > MAX_BYTES:
        raise BadInputError(f"one such request has {len(request.body)} bytes, more than the {MAX_BYTES} this sends")
    return request


def _tensors(details: ModelDetails) -> tuple[list[Given], str]:
    """What to send, and where it is from: the model's example where it is tensors, else made up."""
    needed = [tensor for tensor in details.inputs if not tensor.optional]
    example = details.example
    if example.get("content_type") == "application/json":
        found = _of_example(needed, str(example.get("body", "")))
        if found is not None:
            return found, "its example"
    return [_made_up(tensor) for tensor in needed], "made-up values"


def _of_example(needed: list[Tensor], body: str) -> list[Given] | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) and len(needed) == 1:
        value = {needed[0].name: value}
    if not isinstance(value, dict):
        return None
    found = []
    for tensor in needed:
        shape, flat = flattened(value.get(tensor.name))
        if len(shape) == len(tensor.shape) - 1:  # one row, as plain calls may give it
            shape = [1, *shape]
        whole = len(flat) == element_count(shape) and len(shape) == len(tensor.shape)
        if not whole or any(size not in (-1, side) for size, side in zip(tensor.shape, shape, strict=True)):
            return None
        kinds = (str,) if tensor.dtype == "BYTES" else (bool, int) if "INT" in tensor.dtype else (bool, int, float)
        if not all(isinstance(one, kinds) for one in flat):
            return None
        found.append(Given(tensor.name, tensor.dtype, shape, flat))
    return found


def flattened(value: Any) -> tuple[list[int], list[Any]]:
    """The shape and the values of nested lists; of ragged ones the values are not as many as the shape says."""
    shape, flat = [], [value]
    while flat and all(isinstance(one, list) for one in flat):
        shape.append(len(flat[0]))
        flat = [inner for one in flat for inner in one]
    return shape, flat


def _made_up(tensor: Tensor) -> Given:
    shape = [_FREE_SIZE if size < 0 else size for size in tensor.shape]
    count = element_count(shape)
    if count * max(1, DTYPES[tensor.dtype].size_bytes) > MAX_BYTES:
        raise BadInputError(f"input '{tensor.name}' has shape {shape}: more than this sends; name a file with --input")
    value: Any = {"BYTES": "text", "BOOL": True}.get(tensor.dtype, 0.5 if "INT" not in tensor.dtype else 1)
    return Given(tensor.name, tensor.dtype, shape, [value] * count)


def _packed(tensor: Given) -> bytes:
    if tensor.dtype == "BYTES":
        words = [str(value).encode() for value in tensor.values]
        return b"".join(struct.pack("<I", len(word)) + word for word in words)
    if tensor.dtype == "BF16":  # the upper half of an FP32
        whole = struct.pack(f"<{len(tensor.values)}f", *tensor.values)
        return b"".join(whole[start + 2 : start + 4] for start in range(0, len(whole), 4))
    return struct.pack(f"<{len(tensor.values)}{_FORMATS[tensor.dtype]}", *tensor.values)

"""What a model takes in a plain call, for people: content types, an example and a curl line.

Pure, no numpy: the gateway answers a GET on a model with it.
"""

import csv
import io
import json
from typing import Any

from appliance.core.errors import IngleError
from appliance.core.manifest import BytesInput, ColumnsInput, InputDeclaration, Manifest
from appliance.core.tensors import Signature, TensorSpec
from appliance.workers.plain.targets import Kind, is_column, narrowed, required_inputs, target

_FREE_SIZE = 1  # what stands in an example for a size that is free
_MAX_VALUES = 32  # an example with more numbers helps nobody
_TYPES = {
    Kind.IMAGE: ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif"),
    Kind.AUDIO: ("audio/wav",),
    Kind.TEXT: ("text/plain",),
    Kind.OTHER: ("application/octet-stream",),
}
_FILES = {
    "image/jpeg": "picture.jpg",
    "audio/wav": "recording.wav",
    "application/octet-stream": "FILE",
    "application/json": "values.json",
}


def usage(signature: Signature, manifest: Manifest) -> dict[str, Any]:
    """`accepts` (content types, the best first), `example` ({"content_type", "body"}: the body as text, or what file to
    send) and `curl` (one line, with {url} for the model's address)."""
    signature = narrowed(signature, manifest)
    accepts = accepted(signature, manifest)
    # A real sample beats a made-up table.
    content_type = "application/json" if manifest.sample is not None and accepts[0] == "text/csv" else accepts[0]
    body = _body(content_type, signature, manifest)
    return {
        "accepts": accepts,
        "example": {"content_type": content_type, "body": body},
        "curl": _curl(content_type, body),
    }


def accepted(signature: Signature, manifest: Manifest) -> list[str]:
    """The content types that the model takes, the best first."""
    kinds = [kind for kind in _TYPES if _fills(kind, signature, manifest)]
    if any(isinstance(declared, BytesInput) for declared in _declared(kinds, signature, manifest)):
        return ["application/octet-stream", "application/json"]
    types = [media_type for kind in kinds if kind is not Kind.OTHER for media_type in _TYPES[kind]]
    table = ["text/csv"] if _is_table(signature, manifest) else []
    if any(isinstance(manifest.declaration(spec.name), ColumnsInput) for spec in signature.inputs):
        return [*table, "application/json"]
    return [*types, "application/json", *([] if types else table)]


def _declared(kinds: list[Kind], signature: Signature, manifest: Manifest) -> list[InputDeclaration]:
    found = (target(kind, signature, manifest) for kind in kinds if kind is Kind.OTHER)
    return [one.declared for one in found if one is not None]


def _fills(kind: Kind, signature: Signature, manifest: Manifest) -> bool:
    try:
        return target(kind, signature, manifest) is not None
    except IngleError:
        return False


def _is_table(signature: Signature, manifest: Manifest) -> bool:
    required = required_inputs(signature)
    if len(required) == 1:
        return len(required[0].shape) <= 2
    return bool(required) and all(
        is_column(spec) or isinstance(manifest.declaration(spec.name), ColumnsInput) for spec in required
    )


def _body(content_type: str, signature: Signature, manifest: Manifest) -> str:
    if content_type == "text/csv":
        return _csv(signature, manifest)
    if content_type == "text/plain":
        return "A text."
    if content_type != "application/json":
        return f"the bytes of {_FILES[content_type]}"
    if manifest.sample is not None:
        return json.dumps(manifest.sample)
    required = required_inputs(signature)
    return json.dumps({spec.name: _value(spec) for spec in required})


def _value(spec: TensorSpec) -> Any:
    value: Any = {"BYTES": "text", "BOOL": True}.get(spec.dtype, 0.5 if spec.dtype.startswith(("FP", "BF")) else 1)
    count = 1
    for size in reversed(spec.shape):
        side = size if size >= 0 else _FREE_SIZE
        count *= side
        if count > _MAX_VALUES:
            return f"nested lists of shape {[one if one >= 0 else 'any' for one in spec.shape]}"
        value = [value] * side
    return value


def _csv(signature: Signature, manifest: Manifest) -> str:
    names: list[str] = []
    cells: list[str] = []
    for spec in required_inputs(signature):
        declared = manifest.declaration(spec.name)
        columns = declared.columns if isinstance(declared, ColumnsInput) else (spec.name,)
        names.extend(columns)
        cells.extend([{"BYTES": "text", "BOOL": "true"}.get(spec.dtype, "1")] * len(columns))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows((names, cells))
    return table.getvalue()


def _curl(content_type: str, body: str) -> str:
    start = f"curl {{url}} -H 'Authorization: Bearer KEY' -H 'Content-Type: {content_type}'"
    if content_type in _FILES and content_type != "application/json":
        return f"{start} --data-binary @{_FILES[content_type]}"
    if "nested lists of shape" in body:
        return f"{start} --data-binary @{_FILES[content_type]}"
    return f"{start} --data-binary {_quoted(body)}"


def _quoted(body: str) -> str:
    """The body as one word of a shell's line."""
    if "\n" not in body:
        return "'" + body.replace("'", "'\\''") + "'"
    return "$'" + body.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"

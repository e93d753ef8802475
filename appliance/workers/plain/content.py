"""A plain call's content as the model's tensors. Runs in a worker process, confined, for every body is hostile.

Owns the choice: by the content's type and the manifest, which input it fills and who turns it. The turning itself is
in the file of each kind.
"""

from typing import Any

from numpy.typing import NDArray

from appliance.core.errors import BadInputError
from appliance.core.manifest import AudioInput, BytesInput, ColumnsInput, ImageInput, Manifest, TextInput
from appliance.core.tensors import Signature
from appliance.workers.plain import audio, images, json_rows, raw_bytes, tables, targets, text
from appliance.workers.plain.targets import Kind, Target

Array = NDArray[Any]
Body = bytes | memoryview


def tensors_from_content(content_type: str, body: Body, signature: Signature, manifest: Manifest) -> dict[str, Array]:
    """The model's inputs, batch axis included: one row of a picture, text, recording or file, many of JSON or CSV.

    JSON for a model that takes a file's bytes is that file, unless it is an object whose members are the model's
    inputs. Raises BadInputError, UnsupportedError or TooLargeError, each with a sentence for the caller.
    """
    media_type, parameters = parsed_type(content_type)
    kind = targets.kind_of(media_type)
    if not signature.inputs:
        return {}
    signature = targets.narrowed(signature, manifest)
    if not len(body):
        raise BadInputError(f"the content is empty. {targets.takes(signature)}")
    if (
        targets.is_untyped(media_type)
        and bytes(body[:1]) in (b"[", b"{")
        and not targets.takes_any(signature, manifest)
    ):
        kind = Kind.JSON
    if kind is Kind.JSON:
        return _from_json(body, signature, manifest)
    target = targets.target(kind, signature, manifest)
    if (target is None and kind is Kind.CSV) or (target is not None and isinstance(target.declared, ColumnsInput)):
        return tables.tensors_from_csv(body, media_type, parameters, signature, manifest)
    if target is None:
        raise targets.not_taken(kind, media_type, signature, manifest)
    return {target.spec.name: _turned(target, body, parameters.get("charset", ""))}


def parsed_type(content_type: str) -> tuple[str, dict[str, str]]:
    """The media type in lower case, and its parameters by their names in lower case, without their quotes."""
    media_type, *rest = content_type.split(";")
    pairs = (parameter.partition("=") for parameter in rest)
    return media_type.strip().lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _from_json(body: Body, signature: Signature, manifest: Manifest) -> dict[str, Array]:
    file = targets.file_input(signature, manifest)
    if file is None:
        return json_rows.tensors_from_json(json_rows.parse(body), signature, manifest)
    try:
        found = json_rows.parse(body)
    except BadInputError:
        found = None
    if isinstance(found, dict) and file.spec.name in found and found.keys() <= {spec.name for spec in signature.inputs}:
        return json_rows.tensors_from_json(found, signature, manifest)
    return {file.spec.name: _turned(file, body, "")}


def _turned(target: Target, body: Body, charset: str) -> Array:
    spec, declared = target
    if isinstance(declared, ImageInput):
        return images.image_tensor(spec, declared, body)
    if isinstance(declared, AudioInput):
        return audio.audio_tensor(spec, declared, body)
    if isinstance(declared, TextInput):
        return text.text_tensor(spec, text.decoded(body, charset))
    assert isinstance(declared, BytesInput)
    return raw_bytes.bytes_tensor(spec, declared, body)

"""Which input a content is for, and how it is turned into it. Pure, no numpy: the gateway reads it for its examples.

A declaration decides. Where there is none, an input is taken for a picture or a text only if nothing else could be
meant; otherwise the sentence says how to declare it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from appliance.core.errors import BadInputError, UnsupportedError
from appliance.core.manifest import (
    AudioInput,
    BytesInput,
    ColumnsInput,
    ImageInput,
    InputDeclaration,
    Manifest,
    TensorInput,
    TextInput,
)
from appliance.core.tensors import Signature, TensorSpec


class Kind(StrEnum):
    """What a content is, by its type."""

    IMAGE = "a picture"
    AUDIO = "a recording"
    TEXT = "a text"
    CSV = "a table"
    JSON = "JSON"
    OTHER = "bytes"


class Target(NamedTuple):
    spec: TensorSpec
    declared: InputDeclaration


CHANNELS = (1, 3)
_UNTYPED = ("", "application/octet-stream", "application/x-www-form-urlencoded")
# What each kind of content may be turned into, best first. A declaration `bytes` takes any file.
_PREFERRED: dict[Kind, tuple[type, ...]] = {
    Kind.IMAGE: (ImageInput, BytesInput),
    Kind.AUDIO: (AudioInput, BytesInput),
    Kind.TEXT: (TextInput, BytesInput),
    Kind.CSV: (ColumnsInput, TextInput, BytesInput),
    Kind.JSON: (),
    Kind.OTHER: (BytesInput, ImageInput, AudioInput, TextInput),
}


def kind_of(media_type: str) -> Kind:
    """The kind of a content type without its parameters, lower case."""
    group, _, subtype = media_type.partition("/")
    if subtype == "json" or subtype.endswith("+json"):
        return Kind.JSON
    if media_type in ("text/csv", "application/csv", "text/tab-separated-values"):
        return Kind.CSV
    return {"image": Kind.IMAGE, "audio": Kind.AUDIO, "text": Kind.TEXT}.get(group, Kind.OTHER)


def is_untyped(media_type: str) -> bool:
    """Whether the type says nothing: none given, or what clients send by default."""
    return media_type in _UNTYPED


def required_inputs(signature: Signature) -> list[TensorSpec]:
    """The inputs that every call must give."""
    return [spec for spec in signature.inputs if not spec.optional]


def is_column(spec: TensorSpec) -> bool:
    """Whether a row has one value for this input: [n, 1], [n], or a single value."""
    return len(spec.shape) <= 2 and (spec.shape[1:] in ((), (1,))) and spec.shape[:1] in ((), (-1,), (1,))


def takes(signature: Signature) -> str:
    """A sentence that says what the model takes."""
    parts = []
    for spec in signature.inputs:
        shape = ", ".join(str(size) if size >= 0 else "any" for size in spec.shape)
        parts.append(f"'{spec.name}' ({spec.dtype} [{shape}]{', optional' if spec.optional else ''})")
    return f"It takes {', '.join(parts)}" if parts else "It takes no input"


def target(kind: Kind, signature: Signature, manifest: Manifest) -> Target | None:
    """The input that a content of this kind fills by a declaration or beyond doubt, or None.

    Raises BadInputError where the manifest declares several, or where other inputs would stay empty.
    """
    candidates = [Target(spec, manifest.declaration(spec.name)) for spec in signature.inputs]
    for wanted in _PREFERRED[kind]:
        found = [candidate for candidate in candidates if isinstance(candidate.declared, wanted)]
        if len(found) > 1 and wanted is not ColumnsInput:
            names = ", ".join(candidate.spec.name for candidate in found)
            raise BadInputError(
                f"this model takes several contents at once ({names}), and one came: send application/json "
                f"with a member for each input. {takes(signature)}"
            )
        if found:
            return _alone(found[0], kind, signature)
    required = required_inputs(signature)
    if len(required) != 1:
        return None
    guessed = guess(kind, required[0], manifest)
    return Target(required[0], guessed) if guessed else None


def narrowed(signature: Signature, manifest: Manifest) -> Signature:
    """The signature with the sizes that the manifest declares where the model leaves them free."""
    if not any(declared.shape for declared in manifest.input):
        return signature
    return Signature(tuple(_narrowed(spec, manifest.declaration(spec.name).shape) for spec in signature.inputs), ())


def _narrowed(spec: TensorSpec, sizes: Sequence[int]) -> TensorSpec:
    sizes = (-1,) * (len(spec.shape) - len(sizes)) + tuple(sizes)  # a shape without the batch axis is a row's
    if len(sizes) != len(spec.shape):
        return spec
    shape = tuple(size if own == -1 else own for own, size in zip(spec.shape, sizes, strict=True))
    return TensorSpec(spec.name, spec.dtype, shape, spec.dimension_names, spec.optional)


def takes_any(signature: Signature, manifest: Manifest) -> bool:
    """Whether content may be anything at all: a file's bytes or a text, which can begin as JSON does."""
    return any(isinstance(manifest.declaration(spec.name), BytesInput | TextInput) for spec in signature.inputs)


def file_input(signature: Signature, manifest: Manifest) -> Target | None:
    """The only required input where the manifest declares it a file's bytes: JSON may be such a file too."""
    required = required_inputs(signature)
    declared = manifest.declaration(required[0].name) if len(required) == 1 else None
    return Target(required[0], declared) if isinstance(declared, BytesInput) else None


def _alone(found: Target, kind: Kind, signature: Signature) -> Target:
    others = [spec.name for spec in required_inputs(signature) if spec.name != found.spec.name]
    if others and not isinstance(found.declared, ColumnsInput):
        raise BadInputError(
            f"this model takes {', '.join(others)} besides what {kind} gives: send application/json with a member "
            f"for each input. {takes(signature)}"
        )
    return found


def guess(kind: Kind, spec: TensorSpec, manifest: Manifest) -> InputDeclaration | None:
    """What the model's one required input is taken to be for a content of `kind`, where the manifest declares nothing
    of it; None where there is no telling."""
    if not isinstance(manifest.declaration(spec.name), TensorInput):
        return None
    if kind in (Kind.IMAGE, Kind.OTHER) and channels_of(spec.shape) and spec.dtype in ("FP16", "FP32", "FP64", "UINT8"):
        return ImageInput(name=spec.name, colour="L" if channels_of(spec.shape) == 1 else "RGB")
    if kind in (Kind.TEXT, Kind.OTHER) and spec.dtype == "BYTES" and all(size in (-1, 1) for size in spec.shape):
        return TextInput(name=spec.name)
    if kind is Kind.OTHER and spec.dtype == "UINT8" and spec.shape in ((-1,), (1, -1), (-1, -1)):
        return BytesInput(name=spec.name)
    return None


def channels_of(shape: Sequence[int]) -> int:
    """The number of channels if the shape is a picture's beyond doubt (rank 4, 1 or 3 in one of two places), or 0."""
    if len(shape) != 4 or (shape[1] in CHANNELS) == (shape[3] in CHANNELS):
        return 0
    return shape[1] if shape[1] in CHANNELS else shape[3]


def not_taken(kind: Kind, media_type: str, signature: Signature, manifest: Manifest) -> UnsupportedError:
    """What to answer to a content that no input takes."""
    declared = [type(manifest.declaration(spec.name)).__struct_config__.tag for spec in signature.inputs]
    said = [str(word) for word in declared if word != "tensor"]
    what = f"an input declared as {' and '.join(said)}" if said else "tensors"
    send = "text/csv or application/json" if "columns" in said else "application/json"
    return UnsupportedError(
        f"this model takes {what}, not {kind} ({media_type or 'no Content-Type was given'}). {takes(signature)}: "
        f"send {send} with those values{'' if said else _how_to_declare(kind, signature)}"
    )


_DECLARATIONS = {
    Kind.IMAGE: 'as = "image", size = [224, 224]',
    Kind.AUDIO: 'as = "audio", rate = 16000',
    Kind.TEXT: 'as = "text"',
    Kind.OTHER: 'as = "bytes"',
}


def _how_to_declare(kind: Kind, signature: Signature) -> str:
    """The manifest's lines that would make an input take this kind, where one could."""
    name = next((spec.name for spec in signature.inputs if _could_be(kind, spec)), None)
    if name is None or kind not in _DECLARATIONS:
        return ""
    return f', or declare in the manifest: [[input]] name = "{name}", {_DECLARATIONS[kind]}'


def _could_be(kind: Kind, spec: TensorSpec) -> bool:
    if kind is Kind.TEXT:
        return spec.dtype == "BYTES"
    if kind is Kind.OTHER:
        return bool(spec.shape) and "INT" in spec.dtype
    return len(spec.shape) >= (2 if kind is Kind.IMAGE else 1) and spec.dtype not in ("BYTES", "BOOL")

"""How what callers send becomes one input, in words for people: what the manifest declares or, of a picture, what is
taken where it declares nothing. Pure; the gateway tells it of a model."""

from appliance.core.manifest import (
    AudioInput,
    BytesInput,
    ColumnsInput,
    ImageInput,
    InputDeclaration,
    Manifest,
    TextInput,
)
from appliance.core.tensors import Signature, TensorSpec
from appliance.workers.plain.targets import Kind, guess, required_inputs

_COLUMNS = 20


def form_words(spec: TensorSpec, signature: Signature, manifest: Manifest) -> str:
    """Such as `picture: RGB, stretched; a value is 0-255`; empty for numbers that go in as they are."""
    if any(state.input == spec.name for state in manifest.state):
        return "the sequence's state, from call to call"
    alone = [one.name for one in required_inputs(signature)] == [spec.name]
    guessed = guess(Kind.IMAGE, spec, manifest) if alone else None
    declared = guessed or manifest.declaration(spec.name)
    words = _words(declared)
    return f"{words}, as nothing is declared" if guessed else words


def _words(declared: InputDeclaration) -> str:
    match declared:
        case ImageInput():
            resized = {"stretch": "stretched", "crop": "its middle", "pad": "with a border"}[declared.resize]
            return f"picture: {declared.colour}, {resized}; a value is {_value(declared)}"
        case ColumnsInput():
            more = f" and {len(declared.columns) - _COLUMNS} more" if len(declared.columns) > _COLUMNS else ""
            return f"columns: {', '.join(declared.columns[:_COLUMNS])}{more}"
        case AudioInput():
            return f"recording: {declared.rate} Hz, {declared.channels} channel{'s' * (declared.channels > 1)}"
        case TextInput():
            return "text"
        case BytesInput():
            return "file: its bytes"
        case _:
            return ""


def _value(declared: ImageInput) -> str:
    words = "0-255" if declared.scale == 1 else f"0-255 x {declared.scale:.6g}"
    if declared.mean:
        words += f" - ({', '.join(f'{mean:.6g}' for mean in declared.mean)})"
    if declared.std:
        words = f"({words})" if declared.mean else words
        words += f" / ({', '.join(f'{std:.6g}' for std in declared.std)})"
    return words

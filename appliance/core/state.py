"""Which tensors of a model are its state: outputs that a sequence's next call gets back as inputs. Pure."""

import msgspec

from appliance.core.errors import RefusedError
from appliance.core.manifest import Manifest
from appliance.core.tensors import Signature, TensorSpec

MAX_STATE_ELEMENTS = 2**24


def check_states(manifest: Manifest, signature: Signature) -> None:
    """Raises RefusedError where a declared state does not fit the model."""
    inputs = {spec.name: spec for spec in signature.inputs}
    outputs = {spec.name: spec for spec in signature.outputs}
    for state in manifest.state:
        if state.input not in inputs or state.output not in outputs:
            raise RefusedError(
                f"the manifest's state feeds output '{state.output}' back as input '{state.input}', but the model has "
                f"the inputs {', '.join(inputs)} and the outputs {', '.join(outputs)}"
            )
        taken, given = inputs.pop(state.input), outputs.pop(state.output)
        if taken.dtype != given.dtype or taken.dtype == "BYTES":
            raise RefusedError(
                f"the state '{state.input}' is {taken.dtype} and its output '{state.output}' is {given.dtype}: a state "
                "is numbers of one type"
            )
        if taken.shape and given.shape and not _alike(taken.shape, given.shape):
            raise RefusedError(
                f"the state '{state.input}' has shape {list(taken.shape)}, which its output '{state.output}' of shape "
                f"{list(given.shape)} can never have"
            )
        shape = initial_shape(taken, state.shape)
        elements = 1
        for size in shape:
            elements *= size
        if not _alike(taken.shape, shape) or min(shape, default=0) < 0 or elements > MAX_STATE_ELEMENTS:
            raise RefusedError(
                f"the state '{state.input}' of shape {list(taken.shape)} cannot begin as zeros of shape {list(shape)}"
            )
    if manifest.state and not inputs:
        raise RefusedError("every input of the model is declared as its state: one must be the caller's")


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def initial_shape(spec: TensorSpec, declared: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the zeros that a state begins with: as declared, else the input's with 1 for what is free."""
    return declared or tuple(1 if size < 0 else size for size in spec.shape)


def states_hidden(signature: Signature, manifest: Manifest) -> Signature:
    """The signature as callers need it: a state may be left out, and is not given unless it is asked for."""
    if not manifest.state:
        return signature
    inputs = {state.input for state in manifest.state}
    outputs = {state.output for state in manifest.state}
    return Signature(
        tuple(_optional(spec) if spec.name in inputs else spec for spec in signature.inputs),
        tuple(_optional(spec) if spec.name in outputs else spec for spec in signature.outputs),
    )


def _optional(spec: TensorSpec) -> TensorSpec:
    return msgspec.structs.replace(spec, optional=True)

"""Whether a call may go on: the tensors against what the model declares. Pure; runs in the gateway for every call.

What needs the tensors' bytes (the length of strings, the elements of JSON) is checked where they are read, in the
worker.
"""

from collections.abc import Sequence

from appliance.core.errors import BadInputError
from appliance.core.frames import Encoding, OutputWish, TensorHead
from appliance.core.tensors import DTYPES, Signature, TensorSpec, check_shape, element_count, shape_fits

_RAW = int(Encoding.RAW)
_MAX_REMEMBERED = 1024


class Admission:
    """The declared side of one model version, prepared once."""

    def __init__(self, signature: Signature) -> None:
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._required = frozenset(spec.name for spec in signature.inputs if not spec.optional)
        self._admitted: set[tuple[tuple[object, ...], ...]] = set()  # forms of calls that were found to be right
        self._outputs = frozenset(spec.name for spec in signature.outputs)

    def check(self, tensors: Sequence[TensorHead], outputs: Sequence[OutputWish] | None) -> None:
        """Raises BadInputError with what is wrong and what the model takes."""
        form = tuple(
            (t.name, t.dtype, t.encoding, t.size_bytes if t.encoding == _RAW else 0, *t.shape) for t in tensors
        )
        if form not in self._admitted:
            self._check_tensors(tensors)
            if len(self._admitted) >= _MAX_REMEMBERED:
                self._admitted.clear()
            self._admitted.add(form)
        if outputs:
            self.check_outputs(outputs)

    def _check_tensors(self, tensors: Sequence[TensorHead]) -> None:
        seen = set()
        for tensor in tensors:
            spec = self._inputs.get(tensor.name)
            if spec is None:
                raise BadInputError(f"the model has no input '{tensor.name[:100]}': it takes {_listed(self._inputs)}")
            _check_tensor(tensor, spec)
            seen.add(tensor.name)
        if len(seen) != len(tensors):
            raise BadInputError("an input is given twice")
        if not seen >= self._required:
            missing = ", ".join(f"'{name}'" for name in sorted(self._required - seen))
            raise BadInputError(f"the call lacks the input {missing}: the model takes {_listed(self._inputs)}")

    def check_outputs(self, outputs: Sequence[OutputWish]) -> None:
        """Raises BadInputError for an output that the model does not have, or that is asked for twice."""
        for wish in outputs:
            if wish.name not in self._outputs:
                raise BadInputError(
                    f"the model has no output '{wish.name[:100]}': it gives {', '.join(sorted(self._outputs))}"
                )
        if len({wish.name for wish in outputs}) != len(outputs):
            raise BadInputError("an output is asked for twice")


def _check_tensor(tensor: TensorHead, spec: TensorSpec) -> None:
    name, dtype, shape = tensor.name, tensor.dtype, tensor.shape
    if dtype != spec.dtype:
        known = "" if dtype in DTYPES else f" ('{dtype[:40]}' is no V2 data type)"
        raise BadInputError(f"input '{name}' is {spec.dtype}, but {dtype[:40]} came{known}")
    check_shape(name, shape)
    # onnxruntime tells a scalar and a tensor of unknown rank alike; the model itself judges those.
    if spec.shape and not shape_fits(spec.shape, shape):
        raise BadInputError(
            f"input '{name}' has shape {list(spec.shape)} (-1: any size), but {list(shape)} came"
            + (f": {_hint(spec, shape)}" if len(shape) + 1 == len(spec.shape) else "")
        )
    size_bytes = DTYPES[dtype].size_bytes
    if tensor.encoding == _RAW and size_bytes and tensor.size_bytes != element_count(shape) * size_bytes:
        raise BadInputError(
            f"input '{name}' of shape {list(shape)} and type {dtype} takes {element_count(shape) * size_bytes} bytes, "
            f"but {tensor.size_bytes} came"
        )


def _hint(spec: TensorSpec, shape: Sequence[int]) -> str:
    return f"is the batch axis missing? Try {[1, *shape]}" if shape_fits(spec.shape[1:], shape) else "a dimension lacks"


def _listed(inputs: dict[str, TensorSpec]) -> str:
    shown = [f"'{spec.name}' ({spec.dtype} {list(spec.shape)})" for spec in list(inputs.values())[:8]]
    return ", ".join(shown) + (f" and {len(inputs) - 8} more" if len(inputs) > 8 else "") if shown else "no input"

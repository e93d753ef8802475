"""Whether a manifest's inputs go with the model, told at the deploy and not at the first call.

Runs in the confined child that looks at a model.
"""

from appliance.core.errors import BadInputError, RefusedError
from appliance.core.manifest import AudioInput, BytesInput, ColumnsInput, ImageInput, Manifest, TextInput
from appliance.core.tensors import Signature, TensorSpec
from appliance.workers.plain import audio, picture_layout, raw_bytes, targets
from appliance.workers.plain.shapes import fitted_shape


def check_declarations(signature: Signature, manifest: Manifest) -> None:
    """Raises RefusedError with what does not fit: names, shapes, and each declaration's own parameters."""
    specs = {spec.name: spec for spec in targets.narrowed(signature, manifest).inputs}
    seen: set[str] = set()
    for declared in manifest.input:
        spec = specs.get(declared.name)
        if spec is None or declared.name in seen:
            raise RefusedError(
                f"the manifest declares input '{declared.name}' {'twice' if spec else 'that the model does not have'}: "
                f"{targets.takes(signature)}"
            )
        seen.add(declared.name)
        try:
            _check_shape(next(one for one in signature.inputs if one.name == declared.name), declared.shape)
            _check(spec, declared)
        except BadInputError as error:
            raise RefusedError(f"the manifest does not fit the model: {error.sentence}") from None


def _check_shape(spec: TensorSpec, sizes: tuple[int, ...]) -> None:
    """A declared shape may fix what the model leaves free, with or without the batch axis in front."""
    own = spec.shape[len(spec.shape) - len(sizes) :] if len(sizes) in (len(spec.shape), len(spec.shape) - 1) else None
    if sizes and (own is None or any(-1 not in pair and pair[0] != pair[1] for pair in zip(own, sizes, strict=True))):
        raise BadInputError(f"input '{spec.name}' is declared with shape {list(sizes)}, but is {list(spec.shape)}")


def _check(spec: TensorSpec, declared: object) -> None:
    if isinstance(declared, ImageInput):
        picture_layout.frame(spec, declared)
    elif isinstance(declared, AudioInput):
        audio.check(spec, declared)
    elif isinstance(declared, TextInput):
        if spec.dtype != "BYTES" or fitted_shape(spec.shape, ()) is None:
            raise BadInputError(
                f"input '{spec.name}' is declared as text, but is {spec.dtype} {list(spec.shape)}, not one string"
            )
    elif isinstance(declared, BytesInput):
        _check_bytes(spec, declared)
    elif isinstance(declared, ColumnsInput):
        _check_columns(spec, declared)


def _check_bytes(spec: TensorSpec, declared: BytesInput) -> None:
    if min(declared.head, declared.tail, declared.block) < 0 or max(declared.head, declared.tail) > 2**30:
        raise BadInputError(f"input '{spec.name}': head, tail and block are numbers of bytes from 0 to {2**30}")
    if spec.dtype != "BYTES":
        # A content of eight bytes where there is no window: any number would do to see dtype and rank.
        if declared.head or declared.tail:
            raw_bytes.bytes_tensor(spec, declared, bytes(8))
        elif spec.dtype == "BOOL" or not spec.shape:
            raise BadInputError(f"input '{spec.name}' is {spec.dtype} {list(spec.shape)}, which bytes cannot fill")


def _check_columns(spec: TensorSpec, declared: ColumnsInput) -> None:
    columns = declared.columns
    if not columns or len(set(columns)) != len(columns):
        raise BadInputError(f"input '{spec.name}': columns are names, at least one and each once")
    if fitted_shape(spec.shape, (1, len(columns))) is None and not _takes_several_rows_only(spec, len(columns)):
        raise BadInputError(
            f"input '{spec.name}' is declared with {len(columns)} columns, but its shape is {list(spec.shape)}"
        )


def _takes_several_rows_only(spec: TensorSpec, columns: int) -> bool:
    """Whether the model fixes the number of rows: [4, 3] takes four rows of three columns."""
    return bool(spec.shape) and spec.shape[0] > 0 and fitted_shape(spec.shape, (spec.shape[0], columns)) is not None

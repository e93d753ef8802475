"""What is done to ONNX models themselves, with the `onnx` package: reading, opsets, shapes, where large weights go.

In the process of a conversion alone. Other converters use it for what they made, too.
"""

from pathlib import Path
from typing import Any

import onnx
from onnx import shape_inference, version_converter

from appliance.core.errors import RefusedError

# Above this protobuf cannot hold the model in one message (its limit is 2 GiB), so weights go beside it.
INLINE_BYTES = 1_500_000_000
WEIGHTS = "model.onnx.data"


def load(source: Path) -> onnx.ModelProto:
    """The model with its external data. Raises RefusedError where it is no readable ONNX model."""
    try:
        return onnx.load(str(source))
    except Exception as error:  # protobuf's and onnx' own
        raise RefusedError(f"the file is no readable ONNX model: {_line(error)}") from None


def refuse_unknown(model: onnx.ModelProto) -> None:
    """Raises RefusedError where the file is newer than what is known here."""
    if model.ir_version > onnx.IR_VERSION:
        raise RefusedError(
            f"the file is of ONNX's format {model.ir_version} and the newest known here is {onnx.IR_VERSION}: write it "
            f"with an older one (model.ir_version = {onnx.IR_VERSION}, where it needs nothing newer), or update ingle"
        )
    known = onnx.defs.onnx_opset_version()
    if opset_of(model) > known:
        raise RefusedError(
            f"the model is of opset {opset_of(model)} and the newest known here is {known}: export it again with an "
            f"older one (opset_version={known} or below), or update ingle"
        )


def randomness(model: Path) -> tuple[str, ...]:
    """The operators of the file that draw random numbers."""
    loaded = onnx.load(str(model), load_external_data=False)
    kinds = {node.op_type for node in loaded.graph.node}
    kinds |= {node.op_type for function in loaded.functions for node in function.node}
    return tuple(sorted(kinds & _RANDOM))


_RANDOM = {
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial",
}  # fmt: skip


def opset_of(model: onnx.ModelProto) -> int:
    """Of the standard operators; 0 where the model imports none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def upgraded(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Raises RefusedError where the opset is older than the model's, or the converter cannot do it."""
    now = opset_of(model)
    if opset < now:
        raise RefusedError(f"the model is of opset {now} and {opset} is older: operators cannot be taken back")
    if opset == now:
        return model
    if opset > onnx.defs.onnx_opset_version():
        raise RefusedError(f"opset {opset} is not known here: the newest is {onnx.defs.onnx_opset_version()}")
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:  # RuntimeError with C++' words, or protobuf's
        raise RefusedError(f"the model cannot be taken from opset {now} to {opset}: {_line(error)}") from None


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes that follow from its inputs'; as it is where they cannot be inferred."""
    if model.ByteSize() > INLINE_BYTES:
        return model
    try:
        return shape_inference.infer_shapes(model)
    except Exception:  # a model may run that the inference does not understand
        return model


def external_if_large(model: onnx.ModelProto) -> dict[str, Any]:
    """Arguments of onnx.save_model() that put weights beside a model too large for one message."""
    if model.ByteSize() <= INLINE_BYTES:
        return {}
    return {"save_as_external_data": True, "all_tensors_to_one_file": True, "location": WEIGHTS}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]

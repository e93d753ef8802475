"""float16 and int8, on request: smaller models that answer a little differently. How differently the comparison says.

In the process of a conversion. Uses onnxruntime's own tools, which need the `onnx` package.
"""

import logging
from pathlib import Path
from typing import Literal

from appliance.core.errors import RefusedError

Precision = Literal["float16", "int8"]


def reduce(model: Path, word: Precision) -> None:
    """Replaces the model's file. Inputs and outputs stay as they are. Raises RefusedError where it cannot be done."""
    try:
        if word == "float16":
            _float16(model)
        else:
            _int8(model)
    except RefusedError:
        raise
    except Exception as error:  # the tools raise whatever occurs to them
        reason = " ".join(str(error).split())[:300]
        raise RefusedError(f"the model cannot be reduced to {word}: {type(error).__name__}: {reason}") from None


def _float16(model: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    from converters.half_precision import cast_to

    reduced = convert_float_to_float16(onnx.load(str(model)), keep_io_types=True, disable_shape_infer=False)
    half = onnx.TensorProto.FLOAT16
    if not any(tensor.data_type == half for tensor in reduced.graph.initializer) and half not in cast_to(reduced):
        raise RefusedError(
            "the model would be what it is with float16, as it has no numbers of single precision to compute with: "
            "convert it without --float16, or, where it computes in double, make it single precision first"
        )
    onnx.save(reduced, str(model))


def _int8(model: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantised = model.with_name("quantised.onnx")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of a preprocessing that dynamic quantisation does not need
    try:
        quantize_dynamic(str(model), str(quantised), weight_type=QuantType.QInt8)
    finally:
        logging.disable(before)
    kinds = {node.op_type for node in onnx.load(str(quantised), load_external_data=False).graph.node}
    if not any("Integer" in kind or "Linear" in kind or kind.startswith("Dynamic") for kind in kinds):
        quantised.unlink()
        raise RefusedError(
            "the model would be what it is with int8, as it has no weights of matrices or convolutions in single "
            "precision: convert it without --int8, or, where it computes in double, make it single precision first"
        )
    quantised.replace(model)

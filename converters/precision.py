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

    reduced = convert_float_to_float16(onnx.load(str(model)), keep_io_types=True, disable_shape_infer=False)
    onnx.save(reduced, str(model))


def _int8(model: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # of a preprocessing that dynamic quantisation does not need
    quantised = model.with_name("quantised.onnx")
    quantize_dynamic(str(model), str(quantised), weight_type=QuantType.QInt8)
    quantised.replace(model)

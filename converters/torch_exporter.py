"""What torch's exporter to ONNX computes and nobody reads, left out: half a second and more of each conversion.

In the process of a conversion alone. Goes by the inside of onnxscript as it is pinned; does nothing where that is
otherwise.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple


class Signature(NamedTuple):
    """All that is read of a translation's source."""

    domain: str


@contextlib.contextmanager
def without_sources() -> Iterator[None]:
    """While torch.onnx.export() runs, which lists all of onnxscript's translations first: of the sources of the traced
    ones, 450 and more, it has each parsed for its domain, which stands in its opset too."""
    from onnxscript._internal import values

    kind: Any = getattr(values, "TracedOnnxFunction", None)
    parsed = getattr(kind, "function_ir", None)
    if not isinstance(parsed, property):
        yield
        return
    kind.function_ir = property(lambda function: Signature(function.opset.domain))
    try:
        yield
    finally:
        kind.function_ir = parsed

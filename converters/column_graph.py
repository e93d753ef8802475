"""An ONNX graph over columns: values in double unless said, dtypes by V2's words, rows free; loops, too.

In the process of a conversion, for the readers of formats that have no library.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from appliance.core.tensors import DTYPES
from converters.graph import Graph

# The newer ones take trees in another form, which tools know less.
ML_OPSET = 3
OPSET = 19  # which compares texts


class ColumnGraph(Graph):
    """Operators are added in the order in which they run; each returns the name of what it made."""

    def __init__(self, prefix: str = "", *, opset: int = OPSET, ml_opset: int = ML_OPSET) -> None:
        """`prefix` of the names: a loop's body has others than what is around it."""
        super().__init__(prefix=prefix, opset=opset, ml_opset=ml_opset)

    def column(self, name: str, dtype: str, width: int = 1) -> str:
        """An input of `width` columns."""
        return self.input(name, _numpy(dtype), ["rows", width])

    def value(self, value: Any, dtype: str = "FP64") -> str:
        """A constant of numbers or texts."""
        return self.constant(np.asarray(value, _numpy(dtype)))

    def shaped(self, value: str, shape: Sequence[int]) -> str:
        return self.node("Reshape", value, self.value(list(shape), "INT64"))

    def to(self, value: str, dtype: str) -> str:
        return self.cast(value, _numpy(dtype))

    def give(self, name: str, value: str, dtype: str, width: int = 0) -> None:
        """Gives what was made under `name`: [rows], or [rows, width]."""
        self.output(name, value, _numpy(dtype), ["rows", width] if width else ["rows"])

    def loop(self, most: int, go_on: str, carried: Sequence[str], body: onnx.GraphProto) -> list[str]:
        """`most` turns at most, as long as the body's first output is true; what is carried, at the end."""
        names = [f"loop{len(self._nodes)}_{index}" for index, _ in enumerate(carried)]
        self._nodes.append(helper.make_node("Loop", [self.value(most, "INT64"), go_on, *carried], names, body=body))
        return names

    def name(self, value: str, name: str) -> None:
        """Gives a body's output its name."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))

    def body(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        """What was added, as the graph of a loop's turn."""
        return helper.make_graph(self._nodes, name, list(inputs), list(outputs), self._constants)


def _numpy(dtype: str) -> Any:
    return DTYPES[dtype].numpy

"""An ONNX graph being written, node by node, for converters that need no other library to write theirs.

In the process of a conversion alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from appliance.core.errors import RefusedError
from converters import onnx_model

OPSET, ML_OPSET, IR_VERSION = 18, 5, 10
MICROSOFT = "com.microsoft"  # the domain of operators that onnxruntime alone has

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")

_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(bool): TensorProto.BOOL,
    np.dtype(object): TensorProto.STRING,
}


class Graph:
    """Names of values are made up but for the inputs and outputs; nodes stand in the order in which they are added."""

    def __init__(self, *, prefix: str = "", opset: int = OPSET, ml_opset: int = ML_OPSET) -> None:
        """`prefix` of the names that are made up: a graph within another has names of its own."""
        prefix = f"{prefix}~"  # an input may be called v0, or c1
        self._prefix, self._opset, self.ml_opset = prefix, opset, ml_opset
        self._merged = 0
        self._foreign_opsets: dict[str, int] = {}
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._domains: set[str] = set()

    def input(self, name: str, dtype: Any, shape: list[str | int]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))
        return name

    def constant(self, array: NDArray[Any]) -> str:
        name = f"{self._prefix}c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The name of the operator's one output."""
        name = f"{self._prefix}v{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        self._domains.add(domain)
        return name

    def second(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The name of the operator's second output."""
        name = f"{self._prefix}v{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [f"{name}a", name], **attributes))
        return name

    def cast(self, value: str, dtype: Any) -> str:
        return self.node("Cast", value, to=_TYPES[np.dtype(dtype)])

    def output(self, name: str, value: str, dtype: Any, shape: list[str | int]) -> None:
        if any(entry.name == name for entry in self._inputs):
            raise RefusedError(f"a column is called '{name}', as the model's answer is: give the column another name")
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))

    def merge(self, model: onnx.ModelProto, inputs: Mapping[str, str]) -> dict[str, str]:
        """Adds all nodes of a model whose inputs are given by name; its outputs' values by name. Its opsets must be
        ones whose operators mean the same in this graph's."""
        prefix, self._merged = f"{self._prefix}m{self._merged}_", self._merged + 1
        flat = onnx.inliner.inline_local_functions(model) if len(model.functions) else model
        inner = compose.add_prefix(flat, prefix).graph
        self._nodes += [helper.make_node("Identity", [value], [prefix + name]) for name, value in inputs.items()]
        self._nodes += inner.node
        self._constants += inner.initializer
        self._foreign_opsets |= {
            entry.domain: entry.version for entry in flat.opset_import if entry.domain not in DOMAINS
        }
        return {value.name.removeprefix(prefix): value.name for value in inner.output}

    def has(self, *operators: str) -> bool:
        return any(node.op_type in operators for node in self._nodes)

    def _needed(self) -> tuple[list[Any], list[Any]]:
        """The nodes and constants of which an output is made."""
        needed, nodes = {output.name for output in self._outputs}, []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(_taken(node))
                nodes.append(node)
        return nodes[::-1], [constant for constant in self._constants if constant.name in needed]

    def save(self, path: Path) -> None:
        """Raises what onnx' checker raises where the graph is none."""
        nodes, constants = self._needed()
        graph = helper.make_graph(nodes, "converted", self._inputs, self._outputs, constants)
        domains = ({MICROSOFT: 1} if MICROSOFT in self._domains else {}) | self._foreign_opsets
        opsets = [helper.make_opsetid("", self._opset), helper.make_opsetid("ai.onnx.ml", self.ml_opset)]
        opsets += [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ingle")
        arguments = onnx_model.external_if_large(model)
        if not arguments:
            onnx.checker.check_model(model)
        onnx.save_model(model, str(path), **arguments)


def _taken(node: Any) -> list[str]:
    """The names of what the node takes, that of its bodies among them: what a loop takes from around it is no input."""
    inner = (attribute.g.node for attribute in node.attribute if attribute.HasField("g"))
    return [*node.input, *(name for nodes in inner for one in nodes for name in _taken(one))]

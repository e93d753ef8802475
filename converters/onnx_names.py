"""Other names for the inputs and outputs of an ONNX file. In the process of a conversion alone.

Exporters name what is inside as they like: names that somebody asked for are given at the end.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx


def rename(target: Path, names: dict[str, str]) -> None:
    """Values of these names get those; what had the new name is called NAME_inner. The file is left where there is
    nothing to do."""
    if not names:
        return
    model = onnx.load(str(target), load_external_data=False)
    graphs = list(graphs_of(model.graph))
    taken = {value for graph in graphs for node in graph.node for value in (*node.input, *node.output)}
    taken |= {entry.name for graph in graphs for entry in (*graph.input, *graph.initializer)}
    new = {name: f"{name}_inner" for name in set(names.values()) & taken if name not in names} | names
    for graph in graphs:
        for node in graph.node:
            node.input[:] = [new.get(value, value) for value in node.input]
            node.output[:] = [new.get(value, value) for value in node.output]
        for entry in (*graph.input, *graph.output, *graph.initializer):
            entry.name = new.get(entry.name, entry.name)
        del graph.value_info[:]
    onnx.save_model(model, str(target))


def graphs_of(graph: Any) -> Iterator[Any]:
    """The graph and all within it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in _HOLDING else ():
                yield from graphs_of(inner)


_HOLDING = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)

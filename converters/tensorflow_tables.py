"""TensorFlow's tables of words and numbers (Keras' StringLookup and IntegerLookup) as ONNX' LabelEncoder.

In the process of a conversion alone. tf2onnx itself knows tables between texts and whole numbers, and no others.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from converters.converter import Feed

ML = "ai.onnx.ml"
_KINDS = {"S": "strings", "O": "strings", "U": "strings", "i": "int64s", "f": "floats"}  # of numpy, and of LabelEncoder


def handlers(tables: Mapping[bytes, tuple[Any, Any]]) -> dict[str, tuple[Callable[..., None], list[Any]]]:
    """For tf2onnx' `custom_op_handlers`. `tables` are the keys and values of each, by its shared name."""

    def find(graph: Any, node: Any, *_: Any) -> None:
        _encode(graph, node, tables)

    return {"LookupTableFindV2": (find, [])}


def _encode(graph: Any, node: Any, tables: Mapping[bytes, tuple[Any, Any]]) -> None:
    table = node.inputs[0]
    while table.type == "Identity":
        table = table.inputs[0]
    name = table.get_attr_value("shared_name") if table.type.startswith(("HashTable", "MutableHashTable")) else None
    default = node.inputs[2]
    if name is None or name not in tables or not default.is_const():
        raise RefusedError("the model looks words up in a table that is filled elsewhere: save it once it is filled")
    keys, values = tables[name]
    kinds = [_KINDS[array.dtype.kind] for array in (keys, values)]
    otherwise = default.get_tensor_value()
    attributes = {
        f"keys_{kinds[0]}": keys.tolist(),
        f"values_{kinds[1]}": values.tolist(),
        f"default_{kinds[1].removesuffix('s')}": otherwise,
    }
    shape, dtype = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    given, outputs, called = node.input[1], node.output, node.name
    graph.remove_node(called)
    graph.make_node(
        "LabelEncoder",
        [given],
        domain=ML,
        name=called,
        outputs=outputs,
        attr=attributes,
        shapes=[shape],
        dtypes=[dtype],
    )
    if not graph.find_output_consumers(table.output[0]):
        graph.remove_node(table.name)


def with_keys(feed: Feed, tables: Mapping[bytes, tuple[Any, Any]], random: np.random.Generator) -> Feed:
    """Half of the texts and of the whole numbers become some that a table knows, so that all of it is reached."""
    keys: dict[str, list[Any]] = {"strings": [], "int64s": []}
    for known, _ in tables.values():
        if (kind := _KINDS[known.dtype.kind]) in keys:
            keys[kind] += [key.decode() if isinstance(key, bytes) else key for key in known.tolist()]
    made = {}
    for name, array in feed.items():
        known = keys.get(_KINDS.get(array.dtype.kind, ""), [])
        made[name] = array
        if known:
            drawn = np.empty(array.shape, array.dtype)
            drawn.reshape(-1)[:] = [known[index] for index in random.integers(0, len(known), array.size)]
            made[name] = np.where(random.random(array.shape) < 0.5, drawn, array)
    return made

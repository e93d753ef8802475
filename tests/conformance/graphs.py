"""Graphs in ONNX's own text form, made into cases."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import parser
from onnx_collection import Case

Array = NDArray[Any]
Feed = dict[str, Array]

HEAD = '<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 5, "com.microsoft" : 1, "here" : 1]>\n'


def graph(name: str, text: str, *feeds: Feed, head: str = HEAD) -> Case:
    """A case from a graph (and functions) in text form."""
    return case(name, parser.parse_model(head + text), *feeds)


def case(name: str, model: onnx.ModelProto, *feeds: Feed) -> Case:
    return Case(name, model.SerializeToString(), feeds, "own")


def floats(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

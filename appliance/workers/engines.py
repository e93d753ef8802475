"""TensorRT's engines as files: how they are called, and what a box must have in common with another's for its engines
to be of use there.

For the gateway and the worker of a device alike; pure but for remove_engines(). An engine is made for one model on one
kind of device, so each model has a folder of its own: onnxruntime names engines after the model's *file* and its nodes'
names, and every model's file is called model.onnx here, so that two models of one architecture would otherwise be run
with one another's weights.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# onnxruntime appends a hash, the subgraph's number, the precision and the GPU's compute capability. Without it the
# graph's own name, which may be anything, would be part of the file's.
PREFIX = "model"
_NAME = re.compile(rf"{PREFIX}_[0-9A-Za-z_+]{{1,120}}\.(engine|profile)", re.ASCII)
# Subgraphs that TensorRT takes of one model, an engine and a profile each.
MAX_FILES = 256


def is_engine_name(name: str) -> bool:
    """Whether onnxruntime calls an engine, or the range of shapes that one is made for, so: a plain file's name."""
    return _NAME.fullmatch(name) is not None


def engine_kind(facts: Mapping[str, str]) -> str:
    """One short word for all that an engine depends on but its model: nodes with the same word can use each other's."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:16]


def is_kind(word: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{16}", word, re.ASCII) is not None


def remove_engines(folder: Path) -> bool:
    """Removes a model's engines, so that they are built anew; whether there were any."""
    names = [path.name for path in folder.iterdir() if is_engine_name(path.name)] if folder.is_dir() else []
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()
    return bool(names)

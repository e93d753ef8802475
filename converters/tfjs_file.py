"""What TensorFlow.js writes: model.json and the shards of weights beside it, read as data. Pure but for reading files.

Runs no JavaScript and needs no TensorFlow. Nothing outside the model's folder is read, and no more than the files hold.
Source of the form: tensorflow/tfjs, tfjs-core/src/io/types.ts (ModelJSON, WeightsManifestConfig) and io_utils.ts.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import RefusedError

MAX_JSON_BYTES = 256 * 2**20
MAX_WEIGHT_BYTES = 8 * 2**30

_DTYPES = {"float32": np.float32, "int32": np.int32, "bool": np.bool_, "complex64": np.complex64}
_STORED = {"uint8": np.uint8, "uint16": np.uint16, "float16": np.float16}  # of quantised weights


class TfjsModel(NamedTuple):
    """`table` is model.json. `weights` are by their names, as numbers again where they were quantised; texts are
    arrays of bytes."""

    table: dict[str, Any]
    weights: dict[str, NDArray[Any]]

    @property
    def topology(self) -> dict[str, Any]:
        topology = self.table.get("modelTopology")
        return topology if isinstance(topology, dict) else {}


def read(path: Path) -> TfjsModel:
    """`path` names the JSON, or the folder with a model.json in it. Raises RefusedError where either is broken."""
    file = path / "model.json" if path.is_dir() else path
    if file.stat().st_size > MAX_JSON_BYTES:
        raise RefusedError(f"{file.name} has more than {MAX_JSON_BYTES} bytes: its weights belong beside it")
    try:
        table = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise RefusedError(f"{file.name} is no whole JSON: it was cut short or changed, so get it again") from None
    if not isinstance(table, dict):
        raise RefusedError(f"{file.name} is no model of TensorFlow.js: expected an object with 'modelTopology'")
    groups = table.get("weightsManifest", [])
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise RefusedError(f"{file.name} has a 'weightsManifest' that is no list of groups")
    weights: dict[str, NDArray[Any]] = {}
    for group in groups:
        weights |= _group(group, file.parent)
    return TfjsModel(table, weights)


def _group(group: dict[str, Any], folder: Path) -> dict[str, NDArray[Any]]:
    paths, entries = group.get("paths"), group.get("weights")
    if not isinstance(paths, list) or not isinstance(entries, list):
        raise RefusedError("a group of weights has no list of 'paths' or of 'weights'")
    files = [_shard(name, folder) for name in paths]
    if sum(file.stat().st_size for file in files) > MAX_WEIGHT_BYTES:
        raise RefusedError(f"a group of weights has more than {MAX_WEIGHT_BYTES} bytes")
    data = b"".join(file.read_bytes() for file in files)
    found: dict[str, NDArray[Any]] = {}
    at = 0
    for entry in entries:
        name, array, at = _weight(entry, data, at)
        found[name] = array
    if at != len(data):
        names = ", ".join(map(str, paths[:4]))
        raise RefusedError(f"the weights' shards ({names}) have {len(data)} bytes, and model.json tells of {at}")
    return found


def _shard(name: Any, folder: Path) -> Path:
    """A file of the folder itself. A link out of it, or a name that climbs, is none."""
    if not isinstance(name, str) or not name or "://" in name or "\0" in name:
        raise RefusedError(f"a shard is called {str(name)[:80]!r}: expected a file's name beside model.json")
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise RefusedError(f"the shard {name[:80]!r} lies outside the model's folder, and is not read")
    if not file.is_file():
        raise RefusedError(f"the shard {name[:80]!r} is not there: it belongs beside model.json")
    return file


def _weight(entry: Any, data: bytes, at: int) -> tuple[str, NDArray[Any], int]:
    """Name, value and where the next begins."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RefusedError("a weight in model.json has no name")
    name, word, shape = entry["name"], entry.get("dtype"), entry.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 32:
        raise RefusedError(f"the weight '{name[:80]}' has no shape of whole numbers")
    count = math.prod(shape)
    if word == "string":
        texts, at = _texts(name, count, data, at)
        return name, texts.reshape(shape), at
    if word not in _DTYPES:
        raise RefusedError(
            f"the weight '{name[:80]}' is of {str(word)[:20]!r}: expected {', '.join(_DTYPES)} or string"
        )
    quantised = entry.get("quantization")
    stored: Any = _DTYPES[word]
    if isinstance(quantised, dict):
        if quantised.get("dtype") not in _STORED:
            raise RefusedError(f"the weight '{name[:80]}' is quantised to {str(quantised.get('dtype'))[:20]!r}")
        stored = _STORED[quantised["dtype"]]
    size = count * np.dtype(stored).itemsize
    if at + size > len(data):
        raise RefusedError(f"the weight '{name[:80]}' ends beyond its shards: they are cut short, or model.json lies")
    array: NDArray[Any] = np.frombuffer(data, stored, count, at).reshape(shape)
    if isinstance(quantised, dict):
        array = _numbers(name, array, quantised, _DTYPES[word])
    return name, array, at + size


def _numbers(name: str, array: NDArray[Any], quantised: dict[str, Any], dtype: Any) -> NDArray[Any]:
    """As TensorFlow.js does it: in double, then rounded to what the weight is."""
    if quantised["dtype"] == "float16":
        return array.astype(dtype)
    scale, least = quantised.get("scale"), quantised.get("min")
    if not isinstance(scale, int | float) or not isinstance(least, int | float):
        raise RefusedError(f"the weight '{name[:80]}' is quantised without a scale and a least value")
    wide = array.astype(np.float64) * scale + least
    return (np.floor(wide + 0.5) if dtype is np.int32 else wide).astype(dtype)


def _texts(name: str, count: int, data: bytes, at: int) -> tuple[NDArray[Any], int]:
    """Each with its length in four bytes before it."""
    if count > len(data):
        raise RefusedError(f"the weight '{name[:80]}' ends beyond its shards: they are cut short, or model.json lies")
    texts = np.empty(count, object)
    for index in range(count):
        size = int.from_bytes(data[at : at + 4], "little")
        if at + 4 + size > len(data):
            raise RefusedError(f"the weight '{name[:80]}' ends beyond its shards: they are cut short, or changed")
        texts[index] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return texts, at

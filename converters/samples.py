"""The rows that the user gives for a comparison: a CSV, NPZ or Parquet file, an image or a folder of them, as feeds.

In the process of a conversion. Columns go to inputs by name: an input whose declaration lists `columns` takes those, an
input of that very name takes one, and one input alone takes all columns in order.
"""

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import BadInputError, RefusedError
from appliance.core.manifest import ColumnsInput, ImageInput, Manifest, manifest_from_table
from appliance.core.tensors import DTYPES, Signature, TensorSpec
from converters.converter import Feed

MAX_ROWS = 4096
MAX_BYTES = 512 * 2**20
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")

Columns = dict[str, list[Any]]


def read_sample(path: Path, signature: Signature, manifest: dict[str, Any]) -> list[Feed]:
    """What the file holds, as the model takes it; at most MAX_ROWS rows. Raises RefusedError where it does not fit."""
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise RefusedError(f"the sample is larger than {MAX_BYTES} bytes: some hundred rows are enough")
    with path.open("rb") if path.is_file() else _no_head() as file:
        head = file.read(8)
    declared = manifest_from_table(manifest)
    try:
        if path.is_dir() or path.suffix.lower() in _PICTURES:
            return _pictures(path, signature, declared)
        if head.startswith((b"PK", b"\x93NUMPY")):
            return [_arrays(path, signature)]
        columns = _parquet(path) if head.startswith(b"PAR1") else _csv(path)
        return [_feed(columns, signature, declared)]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, BadInputError) as error:
        raise RefusedError(f"the sample {path.name} does not fit the model: {error}") from None


def _no_head() -> Any:
    import io

    return io.BytesIO()


def _arrays(path: Path, signature: Signature) -> Feed:
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        named = dict(loaded.items()) if hasattr(loaded, "items") else {signature.inputs[0].name: loaded}
    if len(signature.inputs) == 1 and len(named) == 1:
        named = {signature.inputs[0].name: next(iter(named.values()))}
    missing = [spec.name for spec in signature.inputs if spec.name not in named]
    if missing:
        raise RefusedError(f"the sample has no array named {', '.join(missing)}; it has {', '.join(named)}")
    return {spec.name: _cast(named[spec.name][:MAX_ROWS], spec) for spec in signature.inputs}


def _csv(path: Path) -> Columns:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = [row for _, row in zip(range(MAX_ROWS), reader, strict=False)]
    if header and all(_is_number(cell) for cell in header):
        rows, header = [header, *rows], [str(index) for index in range(len(header))]
    if not rows or any(len(row) != len(header) for row in rows):
        raise RefusedError("the sample is no table: every row must have as many cells as the header")
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}


def _parquet(path: Path) -> Columns:
    try:
        from pyarrow import parquet
    except ImportError:
        raise RefusedError("a Parquet sample takes pyarrow: pip install pyarrow, or give a CSV") from None
    table = parquet.read_table(path).slice(0, MAX_ROWS)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _feed(columns: Columns, signature: Signature, manifest: Manifest) -> Feed:
    feed = {}
    for spec in signature.inputs:
        declared = manifest.declaration(spec.name)
        if isinstance(declared, ColumnsInput):
            wanted = list(declared.columns)
        elif spec.name in columns:
            wanted = [spec.name]
        elif len(signature.inputs) == 1:
            wanted = list(columns)
        else:
            wanted = [spec.name]
        if missing := [name for name in wanted if name not in columns]:
            raise RefusedError(f"the sample has no column {', '.join(missing[:5])}; it has {', '.join(columns)}")
        feed[spec.name] = _column_tensor([columns[name] for name in wanted], spec)
    return feed


def _column_tensor(columns: list[list[Any]], spec: TensorSpec) -> NDArray[Any]:
    rows = len(columns[0])
    table = np.empty((rows, len(columns)), object)
    for index, column in enumerate(columns):
        table[:, index] = column
    if spec.dtype == "BYTES":
        texts = np.empty(table.shape, object)
        texts.reshape(-1)[:] = ["" if cell is None else str(cell) for cell in table.ravel()]
        return texts.reshape(rows) if len(spec.shape) == 1 else texts
    numbers = np.array([np.nan if cell in ("", None) else float(cell) for cell in table.ravel()])
    shape = (rows, *spec.shape[1:]) if spec.shape and min(spec.shape[1:], default=1) > 0 else table.shape
    numbers = numbers.reshape(rows) if len(spec.shape) == 1 else numbers.reshape(shape)
    return numbers.astype(DTYPES[spec.dtype].numpy)


def _cast(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    if spec.dtype == "BYTES":
        return array.astype(str).astype(object)
    return array.astype(DTYPES[spec.dtype].numpy)


def _pictures(path: Path, signature: Signature, manifest: Manifest) -> list[Feed]:
    from converters.pictures import picture_tensor

    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURES) if path.is_dir() else [path]
    if not files or len(signature.inputs) != 1:
        raise RefusedError("pictures are a sample for a model with one input, and the folder must have some")
    spec = signature.inputs[0]
    declared = manifest.declaration(spec.name)
    if not isinstance(declared, ImageInput):
        declared = ImageInput(name=spec.name)
    return [{spec.name: picture_tensor(file, spec, declared)} for file in files[:64]]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

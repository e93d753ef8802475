"""CSV content as tensors: rows of cells, by the header's names or by position. Runs in a worker process.

With declared columns the header may have them in any order, among others that are left out. Where every input is one
column, the header's names are the inputs'. Without a header the columns are taken by position.
"""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from appliance.core.errors import BadInputError
from appliance.core.manifest import ColumnsInput, Manifest
from appliance.core.tensors import Signature, TensorSpec
from appliance.workers.plain import values
from appliance.workers.plain.targets import is_column, required_inputs, takes
from appliance.workers.plain.text import decoded

Array = NDArray[Any]
Row = list[str]


class Columns(NamedTuple):
    """What one input wants of a table: its columns by name, in its order; empty: all columns by position."""

    spec: TensorSpec
    names: tuple[str, ...]
    missing: float | None


def tensors_from_csv(
    body: bytes | memoryview, media_type: str, parameters: dict[str, str], signature: Signature, manifest: Manifest
) -> dict[str, Array]:
    """The inputs' tensors from a table. The type's `header=present|absent` is honoured. Raises BadInputError."""
    delimiter = "\t" if media_type.endswith("tab-separated-values") else ","
    rows, lines = _rows(decoded(body, parameters.get("charset", "")), delimiter)
    wanted = _wanted(signature, manifest)
    optional = {one.spec.name for one in wanted if one.spec.optional}
    header = _header(rows, wanted, parameters.get("header", "").lower(), optional)
    if header is not None:
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise BadInputError("the table has a header but no rows: send at least one row of values")
    _check_widths(rows, lines, header)
    places = _places(header, wanted, optional, len(rows[0]))
    tensors = {}
    for one in wanted:
        if one.spec.name not in places:
            continue
        chosen = places[one.spec.name]
        cells = [_cell(one, row[place], lines[number]) for number, row in enumerate(rows) for place in chosen]
        tensors[one.spec.name] = values.shaped(one.spec, values.elements(one.spec, cells), (len(rows), len(chosen)))
    return tensors


def _rows(text: str, delimiter: str) -> tuple[list[Row], list[int]]:
    """The rows that are not blank, and the line each ends on."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row) or len(row) > 1:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise BadInputError(f"the table cannot be read at line {reader.line_num}: {error}") from None
    if not rows:
        raise BadInputError("the table is empty: send at least one row of values")
    return rows, lines


def _wanted(signature: Signature, manifest: Manifest) -> list[Columns]:
    """What each input wants. Raises BadInputError where a table cannot say which cells are whose."""
    required = required_inputs(signature)
    wanted = []
    for spec in signature.inputs:
        declared = manifest.declaration(spec.name)
        if isinstance(declared, ColumnsInput):
            wanted.append(Columns(spec, declared.columns, declared.empty_cell))
        elif len(required) == 1 and not spec.optional:
            wanted.append(Columns(spec, (spec.name,) if is_column(spec) else (), None))
        elif is_column(spec):
            wanted.append(Columns(spec, (spec.name,), None))
        elif not spec.optional:
            raise BadInputError(
                f"a table does not tell which of its columns are for input '{spec.name}': declare them in the manifest "
                f'([[input]] name = "{spec.name}", as = "columns", columns = [...]), or send application/json. '
                f"{takes(signature)}"
            )
    return wanted


def _header(rows: Sequence[Row], wanted: Sequence[Columns], said: str, optional: set[str]) -> list[str] | None:
    """The first row's names if it is a header, else None."""
    first = [cell.strip() for cell in rows[0]]
    if said == "absent":
        return None
    if said == "present":
        return first
    names = {name for one in wanted if one.spec.name not in optional for name in one.names}
    if names and names <= set(first):
        return first
    if any(name in first for name in names):
        return first  # some are there: _places says which are not
    numeric = [one.spec for one in wanted if one.spec.dtype != "BYTES"]
    # Where all cells are numbers, a first row without a single number can only be a header.
    if len(numeric) == len(wanted) and not any(_is_value(cell) for cell in first):
        return first
    return None


def _is_value(cell: str) -> bool:
    if not cell or cell.lower() in ("true", "false"):
        return True
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _check_widths(rows: Sequence[Row], lines: Sequence[int], header: list[str] | None) -> None:
    width = len(header) if header is not None else len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise BadInputError(
                f"line {line} of the table has {len(row)} cells, but the {'header' if header else 'first row'} "
                f"has {width}"
            )


def _places(
    header: list[str] | None, wanted: Sequence[Columns], optional: set[str], width: int
) -> dict[str, list[int]]:
    """The columns of each input, in its order."""
    if header is None:
        return _places_by_position(wanted, optional, width)
    by_position = len(wanted) == 1 and (not wanted[0].names or wanted[0].names == (wanted[0].spec.name,))
    if by_position and (not wanted[0].names or (width == 1 and wanted[0].names[0] not in header)):
        return {wanted[0].spec.name: list(range(width))}
    places = {}
    for one in wanted:
        absent = [name for name in one.names if name not in header]
        if absent and one.spec.name in optional:
            continue
        if absent:
            raise BadInputError(
                f"the table has no column {', '.join(absent[:20])}: its header has {', '.join(header[:50])[:500]}"
            )
        for name in one.names:
            if header.count(name) > 1:
                raise BadInputError(
                    f"the table has the column {name} more than once: which one is meant cannot be told"
                )
        places[one.spec.name] = [header.index(name) for name in one.names]
    return places


def _places_by_position(wanted: Sequence[Columns], optional: set[str], width: int) -> dict[str, list[int]]:
    taken = [one for one in wanted if one.spec.name not in optional]
    if len(taken) == 1 and (not taken[0].names or taken[0].names == (taken[0].spec.name,)):
        return {taken[0].spec.name: list(range(width))}
    names = [name for one in taken for name in one.names]
    if len(names) != width:
        raise BadInputError(
            f"the table has {width} columns and no header, but the model takes {len(names)}: "
            f"{', '.join(names[:50])[:500]}; "
            "send a header row with these names, or these columns in this order"
        )
    places, start = {}, 0
    for one in taken:
        places[one.spec.name] = list(range(start, start + len(one.names)))
        start += len(one.names)
    return places


def _number(cell: str) -> int | float:
    """A cell's number. Raises ValueError; `1_000`, which only Python reads so, is none."""
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    try:
        return int(cell) if len(cell) <= 20 else float(cell)
    except ValueError:
        return float(cell)


def _boolean(cell: str) -> bool | int | float:
    return {"true": True, "false": False}[cell.lower()] if cell.lower() in ("true", "false") else _number(cell)


_READERS: dict[str, Callable[[str], Any]] = {"BOOL": _boolean}


def _cell(one: Columns, cell: str, line: int) -> Any:
    if one.spec.dtype == "BYTES":
        return cell
    cell = cell.strip()
    if not cell:
        if one.missing is None:
            raise BadInputError(
                f"line {line} of the table has an empty cell for input '{one.spec.name}': fill it in, or say in the "
                'manifest what stands for it ([[input]] as = "columns" has `missing`)'
            )
        return one.missing
    try:
        return _READERS.get(one.spec.dtype, _number)(cell)
    except ValueError:
        raise BadInputError(
            f"line {line} of the table: input '{one.spec.name}' is {one.spec.dtype}, but the cell holds {cell!r:.60}"
        ) from None

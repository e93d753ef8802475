"""JSON content as tensors: a row, rows, records or named inputs. Runs in a worker process.

1.5, [1, 2], [[1, 2], [3, 4]]         the only input's value, row or rows
{"a": ..., "b": ...}                  inputs by name, or the columns that the manifest declares, one row or lists
[{"a": ..., "b": ...}, ...]           the same, a record for each row
[[1, "x"], [2, "y"]]                  where every input is one column: rows by position
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from numpy.typing import NDArray

from appliance.core.errors import BadInputError
from appliance.core.manifest import ColumnsInput, Manifest
from appliance.core.tensors import Signature, TensorSpec
from appliance.workers.plain import values
from appliance.workers.plain.targets import is_column, required_inputs, takes

Array = NDArray[Any]


def parse(body: bytes | memoryview) -> Any:
    """The JSON value, with the tokens NaN, Infinity and -Infinity taken for numbers. Raises BadInputError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = str(error)
    try:
        return json.loads(bytes(body), parse_float=_finite)
    except RecursionError:
        raise BadInputError("the content is no JSON that is taken here: it is nested too deep") from None
    except ValueError:
        raise BadInputError(f"the content is no JSON: {reason}") from None


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("beyond a float's range")
    return number


def tensors_from_json(found: Any, signature: Signature, manifest: Manifest) -> dict[str, Array]:
    """The inputs' tensors from a parsed value. Raises BadInputError."""
    if isinstance(found, dict):
        return _from_record(found, signature, manifest)
    if isinstance(found, list) and found and all(type(row) is dict for row in found):
        return _from_records(found, signature, manifest)
    required = required_inputs(signature)
    if len(required) == 1:
        spec = required[0]
        return {spec.name: values.tensor(spec, found, _missing(spec, manifest))}
    if len(required) > 1 and all(map(is_column, required)) and isinstance(found, list) and found:
        return _from_positions(found, required)
    raise BadInputError(
        f"this model takes several inputs: send a JSON object with a member for each. {takes(signature)}"
    )


def _from_positions(found: list[Any], required: Sequence[TensorSpec]) -> dict[str, Array]:
    rows = found if all(type(row) is list for row in found) else [found]
    for number, row in enumerate(rows, 1):
        if len(row) != len(required):
            raise BadInputError(
                f"row {number} has {len(row)} values, but the model takes {len(required)}, in this order: "
                f"{', '.join(spec.name for spec in required)}"
            )
    return {
        spec.name: values.tensor(spec, list(column))
        for spec, column in zip(required, zip(*rows, strict=True), strict=True)
    }


def _from_record(record: Mapping[str, Any], signature: Signature, manifest: Manifest) -> dict[str, Array]:
    _check_members(record, signature, manifest)
    tensors = {}
    for spec in signature.inputs:
        declared = manifest.declaration(spec.name)
        if spec.name in record and not _is_own_column(spec, declared):
            tensors[spec.name] = values.tensor(spec, record[spec.name], _missing(spec, manifest))
        elif isinstance(declared, ColumnsInput) and (spec.name in record or _has_columns(record, declared)):
            tensors[spec.name] = values.tensor(spec, _columns(record, declared), declared.empty_cell)
        elif not spec.optional:
            raise _missing_member(spec, declared, record, signature)
    return tensors


def _from_records(records: Sequence[Mapping[str, Any]], signature: Signature, manifest: Manifest) -> dict[str, Array]:
    tensors = {}
    for record in records:
        _check_members(record, signature, manifest)
    for spec in signature.inputs:
        declared = manifest.declaration(spec.name)
        by_column = isinstance(declared, ColumnsInput) and (
            _is_own_column(spec, declared) or not any(spec.name in record for record in records)
        )
        if spec.optional and not any(spec.name in record or by_column for record in records):
            continue
        rows = []
        for record in records:
            if isinstance(declared, ColumnsInput) and by_column and _has_columns(record, declared):
                rows.append([record[column] for column in declared.columns])
            elif spec.name in record and not by_column:
                rows.append(record[spec.name])
            else:
                raise _missing_member(spec, declared, record, signature)
        tensors[spec.name] = values.tensor(spec, rows, _missing(spec, manifest))
    return tensors


def _columns(record: Mapping[str, Any], declared: ColumnsInput) -> list[Any]:
    """One row, or the rows of members that are lists, as data frames write them."""
    columns = [record[column] for column in declared.columns]
    if all(type(column) is list for column in columns) and len(set(map(len, columns))) == 1:
        return [list(row) for row in zip(*columns, strict=True)]
    return columns


def _is_own_column(spec: TensorSpec, declared: object) -> bool:
    return isinstance(declared, ColumnsInput) and spec.name in declared.columns


def _has_columns(record: Mapping[str, Any], declared: ColumnsInput) -> bool:
    return all(column in record for column in declared.columns)


def _missing(spec: TensorSpec, manifest: Manifest) -> float | None:
    declared = manifest.declaration(spec.name)
    return declared.empty_cell if isinstance(declared, ColumnsInput) else None


def _check_members(record: Mapping[str, Any], signature: Signature, manifest: Manifest) -> None:
    """Members beyond the declared columns are left out, as a table's other columns are; else a strange name is a
    mistake."""
    if any(isinstance(manifest.declaration(spec.name), ColumnsInput) for spec in signature.inputs):
        return
    names = {spec.name for spec in signature.inputs}
    for member in record:
        if member not in names:
            raise BadInputError(f"the model has no input '{member[:100]}'. {takes(signature)}")


def _missing_member(
    spec: TensorSpec, declared: object, record: Mapping[str, Any], signature: Signature
) -> BadInputError:
    if isinstance(declared, ColumnsInput):
        absent = [column for column in declared.columns if column not in record]
        return BadInputError(f"the content has no value for {', '.join(absent[:20])}: every declared column is needed")
    return BadInputError(f"the content has no member '{spec.name}'. {takes(signature)}")

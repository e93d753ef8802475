"""Paddle's inference models on disk: which file is the program, which its parameters, and what paddle2onnx cannot read
of a program, put right in a copy.

In the process of a conversion alone; the files are anyone's.
"""

import json
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

from appliance.core.errors import RefusedError

MAX_PROGRAM_BYTES = 512 * 2**20
_MAX_LEVELS = 64
_MAX_DESCRIPTION_BYTES = 4096
# By VarType.Type of framework.proto: bool, int16 to 64, float16 to 64, uint8, int8, bfloat16, complex, float8.
_ELEMENT_BYTES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16, 32: 1, 33: 1}
_SUFFIX = {"paddle-pir": ".json", "paddle-legacy": ".pdmodel"}


class Files(NamedTuple):
    """`parameters` is None of a program without any."""

    program: Path
    parameters: Path | None


def files_of(source: Path, word: str) -> Files:
    """The model's files, of its folder or of its program's path. Raises RefusedError where one is missing, leads out of
    the folder by a link, or several models lie there."""
    folder = source if source.is_dir() else source.parent
    program = _program(source, word) if source.is_dir() else source
    parameters = next((path for path in _parameters(program) if path.exists()), None)
    for path in filter(None, (program, parameters)):
        if folder.resolve() not in path.resolve().parents:
            raise RefusedError(f"{path.name} is a link that leads out of its folder: give a folder that holds the file")
        if not path.is_file():
            raise RefusedError(f"{path.name} is no file")
    if program.stat().st_size > MAX_PROGRAM_BYTES:
        raise RefusedError(f"{program.name} is larger than {MAX_PROGRAM_BYTES} bytes, more than a program can be")
    return Files(program, parameters)


def _program(folder: Path, word: str) -> Path:
    found = sorted(folder.glob(f"*{_SUFFIX[word]}"))
    if word == "paddle-pir":
        found = [path for path in found if path.with_suffix(".pdiparams").exists()]
    elif (folder / "__model__").exists():
        found.append(folder / "__model__")
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:8]) or "none"
        raise RefusedError(
            f"the folder should hold one program of Paddle, and has {names}: give the program's own file"
        )
    return found[0]


def _parameters(program: Path) -> tuple[Path, ...]:
    if program.name == "__model__":
        return (program.with_name("__params__"), program.with_name("params"))
    return (program.with_suffix(".pdiparams"),)


def check_parameters(path: Path) -> None:
    """Raises RefusedError unless the file is one tensor after the other to its very end: Paddle itself takes what was
    cut short, and leaves the rest of the last tensor as memory has it.

    The form is that of SerializeToStream in paddle/phi/core/framework/dense_tensor_serialize.cc.
    """
    damaged = RefusedError(f"{path.name} is damaged: its tensors do not end where the file does; copy it anew")
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            try:
                _, levels = struct.unpack("<IQ", file.read(12))
                for _ in range(min(levels, _MAX_LEVELS)):
                    file.seek(struct.unpack("<Q", file.read(8))[0], os.SEEK_CUR)
                _, length = struct.unpack("<Ii", file.read(8))
                if levels > _MAX_LEVELS or not 0 < length <= _MAX_DESCRIPTION_BYTES:
                    raise damaged
                data_bytes = _data_bytes(file.read(length))
                if file.tell() + data_bytes > size:
                    raise damaged
                file.seek(data_bytes, os.SEEK_CUR)
            except (struct.error, IndexError, KeyError, OverflowError, OSError):
                raise damaged from None


def _data_bytes(description: bytes) -> int:
    """Of VarType.TensorDesc: field 1 the dtype, field 2 each size."""
    at, dtype, count = 0, -1, 1
    while at < len(description):
        field, at = _varint(description, at)
        if field == 8:
            dtype, at = _varint(description, at)
        elif field == 16:
            size, at = _varint(description, at)
            count *= size
        elif field == 18:  # the sizes packed into one field
            length, at = _varint(description, at)
            end = at + length
            while at < end:
                size, at = _varint(description, at)
                count *= size
        else:
            raise KeyError(field)
    return count * _ELEMENT_BYTES[dtype]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            break
    return value, at


def repaired(program: Path, target: Path) -> bool:
    """Writes the program to `target` as paddle2onnx reads it; whether anything had to be changed.

    Paddle 3.3 keeps some numbers in double, such as the scales of resizing and the epsilon of group normalisation,
    which paddle2onnx 2.1 takes for 0 or for nothing. Raises RefusedError where the file is no program.
    """
    try:
        table = json.loads(program.read_bytes())
        blocks = [block for region in table["program"]["regions"] for block in region["blocks"]]
        changed = [_single(attribute) for block in blocks for op in block["ops"] for attribute in _numbers(op)]
        target.write_text(json.dumps(table, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RefusedError(
            f"{program.name} is no readable program of Paddle ({type(error).__name__}): it was cut short or changed"
        ) from None
    return any(changed)


def _numbers(op: dict[str, Any]) -> list[dict[str, Any]]:
    """The attributes of an operator that may be doubles and must not: the `scale` of one that resizes, and all that are
    one number but the `value` that fills a tensor. Parameters have a plain list there."""
    named = [attribute for attribute in op["A"] if isinstance(attribute, dict)]
    lists = ("scale",) if str(op["#"]).endswith("_interp") else ()
    return [
        attribute["AT"]
        for attribute in named
        if (attribute["N"] in lists if attribute["AT"]["#"] == "0.a_array" else attribute["N"] != "value")
    ]


def _single(attribute: dict[str, Any]) -> bool:
    items = attribute["D"] if attribute["#"] == "0.a_array" else [attribute]
    doubles = [item for item in items if item["#"] == "0.a_f64"]
    for item in doubles:
        item["#"] = "0.a_f32"
    return bool(doubles)

"""What a conversion left in its folder, made ready to be packed: the manifest as TOML, with what its owner adds.

Runs in the command line's process.
"""

from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from converters.conversion_files import MANIFEST, MODEL, RECORD, TABLE, VECTORS


def finish(folder: Path, owner: dict[str, Any]) -> dict[str, Path]:
    """Writes `manifest.toml` and returns the bundle's members by their path in it. What the owner's manifest says goes
    before what the converter found, key by key; inputs and outputs by their names."""
    found = msgspec.json.decode((folder / TABLE).read_bytes(), type=dict[str, Any])
    (folder / TABLE).unlink()
    table = merged(found, owner)
    if table:
        (folder / MANIFEST).write_text(tomli_w.dumps(table), encoding="utf-8")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    first = [name for name in (MODEL, MANIFEST, RECORD, VECTORS) if name in names]
    return {name: folder / name for name in (*first, *(name for name in names if name not in first))}


def merged(found: dict[str, Any], owner: dict[str, Any]) -> dict[str, Any]:
    """Both tables as one."""
    table = {**found, **owner}
    for key in ("input", "output"):
        said = {row.get("name"): row for row in owner.get(key, ())}
        rows = [{**row, **said.pop(row.get("name"), {})} for row in found.get(key, ())]
        if rows or said:
            table[key] = [*rows, *said.values()]
    return table

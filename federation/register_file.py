"""The mesh's registers, kept over a restart in the data folder. Used by the gateway's process, one thread at a time.

Knows nothing of what they mean: what stands and what is forgotten is decided elsewhere (registers.py).
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from appliance.core.database import Database
from federation.messages import Register, Stamp

FILE_NAME = "mesh.sqlite"
_MIGRATIONS = (
    """CREATE TABLE registers (
        kind TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL,
        ms INTEGER NOT NULL, counter INTEGER NOT NULL, node_id TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (kind, name, key)
    ) WITHOUT ROWID""",
)


class RegisterFile:
    """read() at the start, write() ever after, close() at the end. Raises as Database does."""

    def __init__(self, folder: Path) -> None:
        self._database = Database(folder / FILE_NAME, _MIGRATIONS)

    def read(self) -> list[Register]:
        """All that are kept."""
        rows = self._database.rows("SELECT kind, name, key, ms, counter, node_id, value FROM registers")
        return [
            Register(str(kind), str(name), str(key), Stamp(int(str(ms)), int(str(counter)), str(node_id)), str(value))
            for kind, name, key, ms, counter, node_id, value in rows
        ]

    def write(self, registers: Iterable[Register], gone: Iterable[tuple[str, str, str]]) -> None:
        """Keeps these in place of those with the same kind, name and key, and forgets others; on the disk when it
        returns."""
        with self._database.transaction():
            for register in registers:
                kind, name, key, stamp, value = msgspec.structs.astuple(register)
                row = (kind, name, key, stamp.ms, stamp.counter, stamp.node_id, value)
                self._database.rows("INSERT OR REPLACE INTO registers VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            for key in gone:
                self._database.rows("DELETE FROM registers WHERE kind = ? AND name = ? AND key = ?", key)

    def close(self) -> None:
        """Lets the file go."""
        self._database.close()

"""What can still be read of a damaged database, copied into a good one.

Runs in the gateway process, at a start that found damage. The damaged file is read and never written. A page that
cannot be read costs the rows on it and no others: ranges of rows are halved until what is left of them is what fails.
"""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from appliance.core.database import Database, remove_database

MAX_FAULTS = 10_000  # ranges that may fail in one table before the rest of it is given up
_MOST_ROWS_IN_A_PAGE = 400
_log = logging.getLogger("ingle.salvage")


def salvage(damaged: Path, target: Path, migrations: Sequence[str]) -> int:
    """Writes to `target`, anew, every row of `damaged` that can be read; how many. Rows may refer to rows that are
    lost: the caller knows what those mean. Raises IngleError where `target` cannot be written."""
    remove_database(target)
    good = Database(target, migrations)
    kept = 0
    try:
        names = [str(name) for (name,) in good.rows(_TABLES)]
        with closing(sqlite3.connect(damaged, isolation_level=None)) as source:
            good.rows("PRAGMA foreign_keys = OFF")
            for table in names:
                columns = [str(row[1]) for row in good.rows(f"PRAGMA table_info({table})")]
                with good.transaction():
                    kept += _copy(source, good, table, columns)
    finally:
        good.close()
    return kept


_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


def _copy(source: sqlite3.Connection, good: Database, table: str, columns: Sequence[str]) -> int:
    try:
        there = {str(row[1]) for row in source.execute(f"PRAGMA table_info({table})")}
    except sqlite3.Error as error:
        _log.error("nothing of %s can be read: %s", table, error)
        return 0
    shared = [column for column in columns if column in there]
    kept = 0
    marks = ", ".join("?" * len(shared))
    for row in _readable(source, table, ", ".join(shared)) if shared else ():
        good.rows(f"INSERT OR IGNORE INTO {table} ({', '.join(shared)}) VALUES ({marks})", row)
        kept += 1
    return kept


def _readable(source: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[object, ...]]:
    """The rows that can be read, by row id."""
    faults = 0
    query = f"SELECT {columns} FROM {table} WHERE rowid BETWEEN ? AND ?"
    ranges = [(0, _last_row(source, table))]
    while ranges and faults < MAX_FAULTS:
        first, last = ranges.pop()
        try:
            rows = source.execute(query, (first, last)).fetchall()
        except sqlite3.Error:
            faults += 1
            if first < last:
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]
            continue
        yield from rows
    if faults:
        _log.error("some rows of %s cannot be read", table)


def _last_row(source: sqlite3.Connection, table: str) -> int:
    try:
        (last,) = source.execute(f"SELECT max(rowid) FROM {table}").fetchone()
        return int(last or 0)
    except sqlite3.Error:
        pass
    try:
        (pages,) = source.execute("PRAGMA page_count").fetchone()
        return int(pages) * _MOST_ROWS_IN_A_PAGE
    except sqlite3.Error:
        return 0

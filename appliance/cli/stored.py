"""What `ingle doctor` finds in the data folder: whether the databases are whole and, asked for, every artifact.

Reads beside a node that may be running, and changes nothing.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from appliance.catalogue.artifacts import artifact_path, is_intact
from appliance.catalogue.catalogue import CATALOGUE_FILE
from appliance.cli.examination import Finding
from appliance.security.keys import KEYS_FILE

_ABOUT = {CATALOGUE_FILE: "catalogue", KEYS_FILE: "keys"}


def examine_stored(folder: Path, *, verify: bool) -> Iterator[Finding]:
    """Nothing where no node has been. With `verify` every byte of every artifact is read."""
    for name, about in _ABOUT.items():
        if (folder / name).exists():
            yield _database(folder / name, about)
    for kept in sorted(folder.glob("*.damaged-*")):
        if not kept.name.endswith("-wal"):
            yield Finding("data folder", "warn", f"{kept} was damaged and is kept: remove it when it is of no use")
    if verify and (folder / CATALOGUE_FILE).exists():
        yield from _artifacts(folder)


def _database(file: Path, about: str) -> Finding:
    try:
        with _opened(file) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict == "ok":
        return Finding(about, "ok", f"{file} is whole")
    words = " ".join(str(verdict).split())
    return Finding(
        about,
        "fail",
        f"{file} is damaged ({words}): a node serves what it can read and changes nothing; restore a backup, or back "
        "up what it can read and restore that",
    )


def _artifacts(folder: Path) -> Iterator[Finding]:
    whole = 0
    try:
        with _opened(folder / CATALOGUE_FILE) as connection:
            for digest, files in connection.execute("SELECT digest, files FROM artifact").fetchall():
                if is_intact(artifact_path(folder / "artifacts", digest), json.loads(files)):
                    whole += 1
                    continue
                rows = connection.execute("SELECT owner, name, version FROM version WHERE digest = ?", (digest,))
                names = ", ".join(f"{owner}/{name}:{version}" for owner, name, version in rows.fetchmany(8))
                sentence = f"{digest[:12]} is not what was deployed, so {names} may not load or answer wrongly"
                yield Finding("artifact", "fail", f"{sentence}: deploy the same file again, which puts it right")
    except (sqlite3.Error, ValueError) as error:
        yield Finding("artifacts", "fail", f"the catalogue does not say what they must be ({error})")
        return
    yield Finding("artifacts", "ok", f"{whole} are what was deployed, to the bit")


def _opened(file: Path) -> "closing[sqlite3.Connection]":
    return closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True))

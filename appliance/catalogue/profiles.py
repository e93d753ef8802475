"""What was measured of models, kept over a restart: a database file of its own, whose loss is no loss.

Runs in the gateway process; every method waits for the disk, so an event loop calls them through a thread. Knows
nothing of what a measurement means. A file that is damaged, or of another form, is begun anew.
"""

import logging
import threading
from collections.abc import Mapping, Set
from pathlib import Path

import msgspec

from appliance.core.database import DamagedError, Database, LaterSchemaError, remove_database
from appliance.core.errors import IngleError
from appliance.core.profile import Profile, ProfileKey

PROFILES_FILE = "profiles.sqlite"
_MIGRATIONS = (
    """
    CREATE TABLE profile (digest TEXT NOT NULL, runtime TEXT NOT NULL, profile TEXT NOT NULL,
        PRIMARY KEY (digest, runtime)) WITHOUT ROWID
    """,
)
_log = logging.getLogger("ingle.profiles")


class Profiles:
    """May be used from several threads. No method raises for a fault of the disk: it is logged, and what could not be
    kept is measured again."""

    def __init__(self, folder: Path) -> None:
        """Opens what `folder` holds, or begins there."""
        self._path = folder.absolute() / PROFILES_FILE
        self._lock = threading.Lock()
        self._database = self._opened()

    def all(self) -> dict[ProfileKey, Profile]:
        """Everything that is kept; a row in a form that this version cannot read is passed over."""
        with self._lock:
            if self._database is None:
                return {}
            try:
                rows = self._database.rows("SELECT digest, runtime, profile FROM profile")
            except IngleError as error:
                self._failed(error)
                return {}
        found = {}
        for digest, runtime, text in rows:
            try:
                found[ProfileKey(str(digest), str(runtime))] = msgspec.json.decode(str(text), type=Profile)
            except msgspec.MsgspecError:
                continue
        return found

    def put(self, profiles: Mapping[ProfileKey, Profile], living: Set[str]) -> None:
        """Keeps these, over what was kept under their keys, and forgets all whose digest is not in `living`: one
        transaction."""
        texts = {key: msgspec.json.encode(profile).decode() for key, profile in profiles.items()}
        with self._lock:
            if self._database is None:
                self._database = self._opened()  # what kept it from being opened may be over
            if self._database is None:
                return
            try:
                with self._database.transaction():
                    for (digest, runtime), text in texts.items():
                        self._database.rows("INSERT OR REPLACE INTO profile VALUES (?, ?, ?)", (digest, runtime, text))
                    kept = {str(digest) for (digest,) in self._database.rows("SELECT DISTINCT digest FROM profile")}
                    for digest in kept - living:
                        self._database.rows("DELETE FROM profile WHERE digest = ?", (digest,))
            except IngleError as error:
                self._failed(error)

    def close(self) -> None:
        """Ends the use of the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _opened(self) -> Database | None:
        try:
            try:
                return Database(self._path, _MIGRATIONS)
            except (DamagedError, LaterSchemaError) as error:
                _log.warning("measurements begin anew: %s", error.sentence)
                remove_database(self._path)
                return Database(self._path, _MIGRATIONS)
        except IngleError as error:
            _log.warning("measurements are not kept at the moment: %s", error.sentence)
        return None

    def _failed(self, error: IngleError) -> None:
        _log.warning("measurements were not kept: %s", error.sentence)
        if isinstance(error, DamagedError) and self._database is not None:
            self._database.close()
            self._database = self._opened()

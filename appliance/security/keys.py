"""Keys: made once, shown once, kept as hashes, looked up at each call, revoked for good.

Runs in the gateway process. What is used of quotas is counted in memory and saved now and then. Knows no protocol but
for the words that may stand before a key in a header.
A key holds 149 bits of chance, so one round of sha256 keeps it as safe as a slow hash would, and costs nothing.
"""

import hashlib
import logging
import re
import secrets
import string
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import msgspec

from appliance.core.database import DamagedError, Database, keep_damaged
from appliance.core.durable import disk_faults, sync_folder, write_durably
from appliance.core.errors import BadInputError, ConflictError, NotFoundError, UnauthenticatedError
from appliance.core.salvage import salvage
from appliance.security.limits import Limits, Meter, Used
from appliance.security.scopes import KEY_HINT, Principal, parse_scopes

MAX_REMEMBERED = 1024
MAX_HEADER_CHARACTERS = 256
MAX_LABEL_CHARACTERS = 80

_log = logging.getLogger("ingle.keys")
_ALPHABET = string.digits + string.ascii_letters
_SECRET = re.compile(r"sim[0-9A-Za-z]{25}")
KEYS_FILE = "keys.sqlite"
_READABLE_FILE = "keys-readable.sqlite"
_MIGRATIONS = (
    """
    CREATE TABLE key (id TEXT PRIMARY KEY, label TEXT NOT NULL, scopes TEXT NOT NULL, hash TEXT NOT NULL UNIQUE,
        created_s REAL NOT NULL, revoked_s REAL)
    """,
    """
    ALTER TABLE key ADD COLUMN rate TEXT NOT NULL DEFAULT '';
    ALTER TABLE key ADD COLUMN burst INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE key ADD COLUMN quota TEXT NOT NULL DEFAULT '';
    ALTER TABLE key ADD COLUMN used_window_s INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE key ADD COLUMN used_calls INTEGER NOT NULL DEFAULT 0
    """,
    """
    ALTER TABLE key ADD COLUMN taken INTEGER NOT NULL DEFAULT 0
    """,
)
_SHARED = "id, label, scopes, hash, created_s, revoked_s, rate, burst, quota"
_COLUMNS = "id, label, scopes, created_s, revoked_s, rate, burst, quota, used_window_s, used_calls"


class KeyRecord(msgspec.Struct, frozen=True):
    """A key without its secret. Times are Unix seconds; `revoked_s` is None while the key is good. `used_calls` count
    against its quota, in the window that it is now."""

    id: str
    label: str
    scopes: tuple[str, ...]
    created_s: float
    revoked_s: float | None = None
    limits: Limits = Limits()
    used_calls: int = 0


class SharedKey(msgspec.Struct, frozen=True):
    """A key as nodes of one mesh tell each other of it: the hash of its secret, and all but what was used of its quota,
    which each node counts for itself. `revoked_s` 0: it is good."""

    id: str
    label: str
    scopes: tuple[str, ...]
    hash: str
    created_s: float
    revoked_s: float = 0.0
    rate: str = ""
    burst: int = 0
    quota: str = ""


class _Known:
    """The good keys at one moment, with the headers that were met since: a revoked key takes its memory with it."""

    def __init__(self, principals: dict[str, Principal]) -> None:
        self.by_hash = principals
        self.by_header: dict[str, Principal] = {}


class KeyRing:
    """authenticate() reads memory alone, from any thread; what writes waits for the disk.

    Raises IngleError where the database is damaged, UnavailableError where another process holds it.
    """

    def __init__(self, folder: Path, *, node_name: str = "") -> None:
        """Opens `folder`'s keys. The first time, an admin key is made and written to `admin_key_file`, for its owner's
        eyes alone; its label says of which node it is, since all of a mesh list it."""
        folder = folder.absolute()
        self.admin_key_file = folder / "admin.key"
        self.first_key: str | None = None  # the admin key, where it was made just now
        self.on_change: Callable[[], None] = _unheard  # called when keys were made, changed or revoked, in any thread
        self._lock = threading.RLock()
        self._file = folder / KEYS_FILE
        self.fault = ""  # what was found to be wrong at the start, as a sentence
        self._database = self._opened()
        self._known = _Known({})
        self._meters: dict[str, Meter] = {}  # by key id, of the keys that have limits
        self._saved: dict[str, Used] = {}
        try:
            self._refresh()
            if not any(principal.allows("admin", None) for principal in self._known.by_hash.values()):
                self.first_key = self._make_first(f"admin of {node_name}" if node_name else "admin")
        except BaseException:
            self._database.close()
            raise

    def _opened(self) -> Database:
        """The database; of a damaged one the keys that can be read, revoked ones too, the rest being unknown."""
        try:
            return Database(self._file, _MIGRATIONS)
        except DamagedError as error:
            readable = self._file.with_name(_READABLE_FILE)
            rows = salvage(self._file, readable, _MIGRATIONS)
            kept = keep_damaged(self._file)
            self.fault = (
                f"{error.what}: {rows} keys could be read and stay as they were, others must be made "
                f"anew; the damaged file is kept as {kept.name}, the admin key is in {self.admin_key_file}"
            )
            _log.error("%s", self.fault)
            with disk_faults(self._file.parent):
                if not _has_admin(readable):
                    # The key in this file may have been revoked, in a row that is lost: it must not open the door.
                    self.admin_key_file.unlink(missing_ok=True)
                for journal in ("-wal", "-shm"):
                    Path(f"{self._file}{journal}").unlink(missing_ok=True)
                readable.rename(self._file)
                sync_folder(self._file.parent)
            return Database(self._file, _MIGRATIONS)

    def create(self, label: str, scopes: Sequence[str], limits: Limits = Limits()) -> tuple[KeyRecord, str]:  # noqa: B008
        """A new key and its secret, which cannot be had again. Raises BadInputError for a wrong scope, label or
        limit."""
        return self._insert(label, _new_secret(), scopes, limits)

    def limit(self, key_id: str, changes: Mapping[str, object]) -> KeyRecord:
        """Changes fields of a key's limits, at once; what is used of its quota stays used. Raises NotFoundError,
        BadInputError."""
        with self._lock:
            limits = msgspec.structs.replace(self._find(key_id).limits, **changes).check()
            with self._database.transaction():
                self._database.rows(
                    "UPDATE key SET rate = ?, burst = ?, quota = ? WHERE id = ?",
                    (limits.rate, limits.burst, limits.quota, key_id),
                )
            self._refresh()
            self.on_change()
            return self._find(key_id)

    def save_usage(self) -> None:
        """Writes what was used of quotas since this was last called: what is not written is forgotten at a kill."""
        changed = {key_id: meter.used for key_id, meter in self._meters.items() if meter.limits.quota}
        changed = {key_id: used for key_id, used in changed.items() if self._saved.get(key_id) != used}
        if not changed:
            return
        with self._lock:
            with self._database.transaction():
                for key_id, used in changed.items():
                    self._database.rows(
                        "UPDATE key SET used_window_s = ?, used_calls = ? WHERE id = ?", (*used, key_id)
                    )
            self._saved.update(changed)

    def list(self) -> list[KeyRecord]:
        """All keys, revoked ones too, oldest first."""
        with self._lock:
            rows = self._database.rows(f"SELECT {_COLUMNS} FROM key ORDER BY created_s, id")
            meters = self._meters
        records = [_record(row)[0] for row in rows]
        now_s = time.time()
        return [
            msgspec.structs.replace(record, used_calls=meters[record.id].used_calls(now_s))
            if record.id in meters
            else record
            for record in records
        ]

    def _find(self, key_id: str) -> KeyRecord:
        record = next((record for record in self.list() if record.id == key_id), None)
        if record is None:
            raise NotFoundError(f"there is no key '{key_id[:80]}'; `ingle keys list` shows those there are")
        return record

    def revoke(self, key_id: str) -> KeyRecord:
        """Makes a key useless at once; twice is once. Raises NotFoundError, and ConflictError for the last key that may
        administer the node: nobody could make another."""
        with self._lock:
            record = self._find(key_id)
            if record.revoked_s is None:
                remaining = [p for p in self._known.by_hash.values() if p.key_id != key_id]
                if not any(principal.allows("admin", None) for principal in remaining):
                    raise ConflictError(
                        f"'{record.label}' is the last key that may administer this node: make another first"
                    )
                with self._database.transaction():
                    self._database.rows("UPDATE key SET revoked_s = ? WHERE id = ?", (time.time(), key_id))
                self._refresh()
                self.on_change()
            return self._find(key_id)

    def shared(self) -> Sequence[SharedKey]:
        """All keys as other nodes of the mesh are told of them."""
        with self._lock:
            rows = self._database.rows(f"SELECT {_SHARED} FROM key ORDER BY created_s, id")
        return [_shared(row) for row in rows]

    def take(self, key: SharedKey) -> bool:
        """Another node of the mesh made, changed or revoked a key: here it is so too. A revoked key stays revoked.
        False where that was known; nobody hears of it either way. Raises BadInputError where no node can have made
        it, UnavailableError where the disk does not take it: one that was revoked lets nobody in all the same."""
        scopes = tuple(map(str, parse_scopes(key.scopes)))
        limits = Limits(key.rate, key.burst, key.quota).check()
        with self._lock:
            found = self._database.rows(f"SELECT {_SHARED} FROM key WHERE id = ? OR hash = ?", (key.id, key.hash))
            before = _shared(found[0]) if found else None
            if before is not None and (before.id, before.hash) != (key.id, key.hash):
                raise BadInputError(f"the key '{key.id[:80]}' is another key here")
            revoked_s = before.revoked_s if before is not None and before.revoked_s else key.revoked_s
            after = msgspec.structs.replace(key, scopes=scopes, revoked_s=revoked_s)
            if after == before:
                return False
            if after.revoked_s:
                self._end(after.id)  # at once, whatever the disk says
            with self._database.transaction():
                self._database.rows(
                    f"INSERT INTO key ({_SHARED}, taken) VALUES (?,?,?,?,?,?,?,?,?,1) ON CONFLICT (id) DO UPDATE SET "
                    "label = excluded.label, scopes = excluded.scopes, revoked_s = excluded.revoked_s, "
                    "rate = excluded.rate, burst = excluded.burst, quota = excluded.quota",
                    (
                        after.id,
                        after.label,
                        msgspec.json.encode(scopes).decode(),
                        after.hash,
                        after.created_s,
                        after.revoked_s or None,
                        limits.rate,
                        limits.burst,
                        limits.quota,
                    ),
                )
            self._refresh()
        return True

    def _end(self, key_id: str) -> None:
        by_hash = self._known.by_hash
        self._known = _Known({hash_: known for hash_, known in by_hash.items() if known.key_id != key_id})

    def drop_taken(self) -> int:
        """This node has left its mesh: keys that came from other nodes are good here no more. How many they were."""
        with self._lock:
            with self._database.transaction():
                gone = self._database.rows("DELETE FROM key WHERE taken = 1 RETURNING id")
            self._refresh()
        return len(gone)

    def authenticate(self, header: str | None) -> Principal:
        """Who an Authorization header stands for: `Bearer KEY`, `Simple KEY` or the bare key. Raises
        UnauthenticatedError, which says what to send, for a missing, malformed, unknown or revoked one."""
        known = self._known
        principal = known.by_header.get(header) if header else None
        return principal or self._look_up(known, header)

    def copy_to(self, target: Path) -> None:
        """Writes the keys' records, which hold hashes and no secrets, to a new file."""
        self.save_usage()
        with self._lock:
            self._database.copy_to(target)

    def carry_over(self, folder: Path) -> None:
        """Lets this node's admin key, where it is good, be good in `folder`'s database too, which another node may have
        made: whoever owns this box must not be locked out of it."""
        secret = self._read_key_file()
        mine = self._known.by_hash.get(_hash(secret)) if secret else None
        other = KeyRing(folder)
        try:
            if secret and mine and mine.allows("admin", None) and not other._has(secret):
                other._insert("admin of this box, kept when a backup was restored", secret, ["admin"], Limits())
        finally:
            other.close()
            other.admin_key_file.unlink(missing_ok=True)  # one that was made there is nobody's

    def exchange(self, act: Callable[[], object]) -> None:
        """Lets the database go, has `act` replace its file, and goes on with the keys that are there then."""
        with self._lock:
            self._database.close()
            try:
                act()
            finally:
                self._database = Database(self._file, _MIGRATIONS)
                self._refresh()

    def close(self) -> None:
        """Saves what was used of quotas and ends the use of the database; authenticate() goes on from memory."""
        with self._lock:
            try:
                self.save_usage()
            finally:
                self._database.close()

    def _look_up(self, known: _Known, header: str | None) -> Principal:
        if not header:
            raise UnauthenticatedError(f"no key was given: {KEY_HINT}")
        secret = header.strip()
        if (word := secret[:7].lower()) in ("bearer ", "simple "):
            secret = secret[len(word) :].strip()
        if len(header) > MAX_HEADER_CHARACTERS or not _SECRET.fullmatch(secret):
            raise UnauthenticatedError(f"the Authorization header holds no key of this node: {KEY_HINT}")
        principal = known.by_hash.get(_hash(secret))
        if principal is None:
            raise UnauthenticatedError(f"the key is not known here, or was revoked: {KEY_HINT}")
        if len(known.by_header) >= MAX_REMEMBERED:
            known.by_header.clear()
        known.by_header[header] = principal
        return principal

    def _has(self, secret: str) -> bool:
        return bool(self._database.rows("SELECT 1 FROM key WHERE hash = ?", (_hash(secret),)))

    def _make_first(self, label: str) -> str:
        # The file comes first: a start that is cut short between the two finds its key there and takes it in.
        secret = self._read_key_file() or _new_secret()
        with disk_faults(self.admin_key_file.parent):
            write_durably(self.admin_key_file, f"{secret}\n".encode(), mode=0o600)
        self._insert(f"{label}, made at the first start"[:MAX_LABEL_CHARACTERS], secret, ["admin"], Limits())
        return secret

    def _read_key_file(self) -> str | None:
        try:
            if self.admin_key_file.stat().st_mode & 0o077:
                return None  # others could read it
            text = self.admin_key_file.read_text("ascii").strip()
        except (OSError, ValueError):
            return None
        return text if _SECRET.fullmatch(text) else None

    def _insert(self, label: str, secret: str, scopes: Sequence[str], limits: Limits) -> tuple[KeyRecord, str]:
        if not label.isprintable() or len(label) > MAX_LABEL_CHARACTERS:
            raise BadInputError(f"a key's label is at most {MAX_LABEL_CHARACTERS} printable characters")
        texts = tuple(map(str, parse_scopes(scopes)))
        record = KeyRecord(secrets.token_hex(4), label, texts, time.time(), limits=limits.check())
        with self._lock:
            with self._database.transaction():
                self._database.rows(
                    "INSERT INTO key (id, label, scopes, hash, created_s, rate, burst, quota) VALUES (?,?,?,?,?,?,?,?)",
                    (
                        record.id,
                        label,
                        msgspec.json.encode(texts).decode(),
                        _hash(secret),
                        record.created_s,
                        limits.rate,
                        limits.burst,
                        limits.quota,
                    ),
                )
            self._refresh()
        self.on_change()
        return record, secret

    def _refresh(self) -> None:
        principals = {}
        meters = {}
        for *columns, key_hash in self._database.rows(f"SELECT {_COLUMNS}, hash FROM key WHERE revoked_s IS NULL"):
            record, used = _record(columns)
            meter = self._meters.get(record.id)
            if not record.limits:
                meter = None
            elif meter is None or meter.limits != record.limits:
                meter = Meter(record.limits, meter.used if meter else used)
            if meter is not None:
                meters[record.id] = meter
            principals[str(key_hash)] = Principal(record.id, record.label, parse_scopes(record.scopes), meter)
        self._meters, self._known = meters, _Known(principals)


def _record(row: Sequence[object]) -> tuple[KeyRecord, Used]:
    """The key, and what was used of its quota when that was last written."""
    key_id, label, scopes, created_s, revoked_s, rate, burst, quota, *used = row
    texts = msgspec.json.decode(str(scopes), type=tuple[str, ...])
    record = KeyRecord(
        str(key_id),
        str(label),
        texts,
        cast(float, created_s),
        cast("float | None", revoked_s),
        Limits(str(rate), cast(int, burst), str(quota)),
    )
    return record, Used(*cast("list[int]", used))


def _shared(row: Sequence[object]) -> SharedKey:
    key_id, label, scopes, key_hash, created_s, revoked_s, rate, burst, quota = row
    return SharedKey(
        str(key_id),
        str(label),
        msgspec.json.decode(str(scopes), type=tuple[str, ...]),
        str(key_hash),
        cast(float, created_s),
        cast("float | None", revoked_s) or 0.0,
        str(rate),
        cast(int, burst),
        str(quota),
    )


def _unheard() -> None:
    """The node is in no mesh."""


def _has_admin(file: Path) -> bool:
    """Whether a key in this database, which nobody has open, may administer the node."""
    database = Database(file, _MIGRATIONS)
    try:
        rows = database.rows("SELECT scopes FROM key WHERE revoked_s IS NULL")
    finally:
        database.close()
    return any("admin:*" in str(scopes) for (scopes,) in rows)


def _new_secret() -> str:
    return "sim" + "".join(secrets.choice(_ALPHABET) for _ in range(25))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

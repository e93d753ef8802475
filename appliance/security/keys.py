"""Keys: made once, shown once, kept as hashes, looked up at each call, revoked for good.

Runs in the gateway process. Knows no protocol but for the words that may stand before a key in a header.
A key holds 149 bits of chance, so one round of sha256 keeps it as safe as a slow hash would, and costs nothing.
"""

import hashlib
import re
import secrets
import string
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec

from appliance.core.database import Database
from appliance.core.durable import disk_faults, write_durably
from appliance.core.errors import BadInputError, ConflictError, NotFoundError, UnauthenticatedError
from appliance.security.scopes import KEY_HINT, Principal, parse_scopes

MAX_REMEMBERED = 1024
MAX_HEADER_CHARACTERS = 256
MAX_LABEL_CHARACTERS = 80

_ALPHABET = string.digits + string.ascii_letters
_SECRET = re.compile(r"sim[0-9A-Za-z]{25}")
_MIGRATIONS = (
    """
    CREATE TABLE key (id TEXT PRIMARY KEY, label TEXT NOT NULL, scopes TEXT NOT NULL, hash TEXT NOT NULL UNIQUE,
        created_s REAL NOT NULL, revoked_s REAL)
    """,
)


class KeyRecord(msgspec.Struct, frozen=True):
    """A key without its secret. Times are Unix seconds; `revoked_s` is None while the key is good."""

    id: str
    label: str
    scopes: tuple[str, ...]
    created_s: float
    revoked_s: float | None = None


class _Known:
    """The good keys at one moment, with the headers that were met since: a revoked key takes its memory with it."""

    def __init__(self, principals: dict[str, Principal]) -> None:
        self.by_hash = principals
        self.by_header: dict[str, Principal] = {}


class KeyRing:
    """authenticate() reads memory alone, from any thread; what writes waits for the disk.

    Raises IngleError where the database is damaged, UnavailableError where another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        """Opens `folder`'s keys. The first time, an admin key is made and written to `admin_key_file`, for its owner's
        eyes alone."""
        folder = folder.absolute()
        self.admin_key_file = folder / "admin.key"
        self.first_key: str | None = None  # the admin key, where it was made just now
        self._lock = threading.RLock()
        self._database = Database(folder / "keys.sqlite", _MIGRATIONS)
        self._known = _Known({})
        try:
            if not self._database.rows("SELECT 1 FROM key LIMIT 1"):
                self.first_key = self._make_first()
            self._refresh()
        except BaseException:
            self._database.close()
            raise

    def create(self, label: str, scopes: Sequence[str]) -> tuple[KeyRecord, str]:
        """A new key and its secret, which cannot be had again. Raises BadInputError for a wrong scope or label."""
        return self._insert(label, _new_secret(), scopes)

    def list(self) -> list[KeyRecord]:
        """All keys, revoked ones too, oldest first."""
        with self._lock:
            rows = self._database.rows("SELECT id, label, scopes, created_s, revoked_s FROM key ORDER BY created_s, id")
        return [_record(row) for row in rows]

    def revoke(self, key_id: str) -> KeyRecord:
        """Makes a key useless at once; twice is once. Raises NotFoundError, and ConflictError for the last key that may
        administer the node: nobody could make another."""
        with self._lock:
            record = next((record for record in self.list() if record.id == key_id), None)
            if record is None:
                raise NotFoundError(f"there is no key '{key_id[:80]}'; `ingle keys` lists those there are")
            if record.revoked_s is None:
                remaining = [p for p in self._known.by_hash.values() if p.key_id != key_id]
                if not any(principal.allows("admin", None) for principal in remaining):
                    raise ConflictError(
                        f"'{record.label}' is the last key that may administer this node: make another first"
                    )
                with self._database.transaction():
                    self._database.rows("UPDATE key SET revoked_s = ? WHERE id = ?", (time.time(), key_id))
                self._refresh()
            return next(record for record in self.list() if record.id == key_id)

    def authenticate(self, header: str | None) -> Principal:
        """Who an Authorization header stands for: `Bearer KEY`, `Simple KEY` or the bare key. Raises
        UnauthenticatedError, which says what to send, for a missing, malformed, unknown or revoked one."""
        known = self._known
        principal = known.by_header.get(header) if header else None
        return principal or self._look_up(known, header)

    def close(self) -> None:
        """Ends the use of the database; authenticate() goes on from memory."""
        with self._lock:
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

    def _make_first(self) -> str:
        # The file comes first: a start that is cut short between the two finds its key there and takes it in.
        secret = self._read_key_file() or _new_secret()
        with disk_faults(self.admin_key_file.parent):
            write_durably(self.admin_key_file, f"{secret}\n".encode(), mode=0o600)
        self._insert("admin, made at the first start", secret, ["admin"])
        return secret

    def _read_key_file(self) -> str | None:
        try:
            if self.admin_key_file.stat().st_mode & 0o077:
                return None  # others could read it
            text = self.admin_key_file.read_text("ascii").strip()
        except (OSError, ValueError):
            return None
        return text if _SECRET.fullmatch(text) else None

    def _insert(self, label: str, secret: str, scopes: Sequence[str]) -> tuple[KeyRecord, str]:
        if not label.isprintable() or len(label) > MAX_LABEL_CHARACTERS:
            raise BadInputError(f"a key's label is at most {MAX_LABEL_CHARACTERS} printable characters")
        texts = tuple(map(str, parse_scopes(scopes)))
        record = KeyRecord(secrets.token_hex(4), label, texts, time.time())
        with self._lock:
            with self._database.transaction():
                self._database.rows(
                    "INSERT INTO key VALUES (?, ?, ?, ?, ?, NULL)",
                    (record.id, label, msgspec.json.encode(texts).decode(), _hash(secret), record.created_s),
                )
            self._refresh()
        return record, secret

    def _refresh(self) -> None:
        rows = self._database.rows(
            "SELECT id, label, scopes, created_s, revoked_s, hash FROM key WHERE revoked_s IS NULL"
        )
        principals = {}
        for row in rows:
            record = _record(row[:5])
            principals[str(row[5])] = Principal(record.id, record.label, parse_scopes(record.scopes))
        self._known = _Known(principals)


def _record(row: tuple[object, ...]) -> KeyRecord:
    key_id, label, scopes, created_s, revoked_s = row
    texts = msgspec.json.decode(str(scopes), type=tuple[str, ...])
    return KeyRecord(str(key_id), str(label), texts, cast(float, created_s), cast("float | None", revoked_s))


def _new_secret() -> str:
    return "sim" + "".join(secrets.choice(_ALPHABET) for _ in range(25))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

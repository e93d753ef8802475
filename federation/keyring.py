"""The keys of the mesh that this node belongs to, and whom it has thrown out: kept in the data folder, mode 0600.

Used by the gateway's process; the command line opens it only while no node runs. Several keys are held while one takes
another's place: any of them lets a node in, the current one makes what this node shows. A retired key lets in only who
was a member, for AWAY_S more: nodes that were away while the key was changed (key_rotation.py). Whoever changed the
keys last decides for all (`stamp_ms`); the revoked are only ever added to.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from appliance.core.durable import write_durably
from appliance.core.errors import BadInputError, BusyError, ConflictError, ForbiddenError, IngleError, NotFoundError
from federation.messages import Keys

KEYRING_FILE = "mesh.keys"
SECRET_BYTES = 32
MAX_KEYS = 16
MAX_REVOKED = 4096
MAX_RETIRED = 16
AWAY_S = 30 * 24 * 3600.0
# A stamp is taken from a peer up to the first, and so far above the own: whatever one told, there is room above.
_MAX_TOLD_STAMP_MS, _STAMP_STEP_MS = 2**53, 2**20
_MAX_STAMP_MS = 2**62


class MeshKey(msgspec.Struct, frozen=True):
    """32 random bytes that the nodes of a mesh share. The id is a digest and tells nothing of them."""

    secret: bytes
    id: str

    def __repr__(self) -> str:
        return f"MeshKey({self.id})"  # never the secret


def mesh_key(secret: bytes) -> MeshKey:
    """The key with these 32 bytes."""
    return MeshKey(secret, hashlib.sha256(b"ingle-mesh-key-id" + secret).hexdigest()[:16])


def parse_mesh_key(text: str) -> MeshKey:
    """The key written as 64 hexadecimal digits. Raises BadInputError, whose sentence does not repeat the text."""
    digits = text.strip()
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        secret = b""
    if len(digits) != 2 * SECRET_BYTES or len(secret) != SECRET_BYTES:
        raise BadInputError(
            f"what is given as the mesh key has {len(digits)} characters: expected {2 * SECRET_BYTES} hexadecimal "
            "digits and nothing else"
        )
    return mesh_key(secret)


class _Stored(msgspec.Struct):
    """The file, as JSON. The newest key is the first."""

    keys: list[str]
    current: str
    provisional: bool = False
    revoked: list[str] = []
    stamp_ms: int = 0
    retired: list[tuple[str, float]] = []


class Keyring:
    """Changes hold at once, in memory, and call each of `listeners`; save() writes them down.

    `provisional`: the key was made by this node itself, and no other node has been met under it.
    """

    def __init__(self, folder: Path, *, given: str = "") -> None:
        """Opens the ring in a data folder; where there is none, makes a key: a provisional mesh of one.

        `given`: the key that the owner named, 64 hexadecimal digits; where the ring never had it, it takes the place of
        all others. Raises BadInputError where it is none, IngleError where the file is damaged.
        """
        self.folder = folder
        self._file = folder / KEYRING_FILE
        self._writing = threading.Lock()
        self.listeners: list[Callable[[], None]] = []
        key = parse_mesh_key(given) if given.strip() else None
        if self._file.exists():
            self._take(_read(self._file))
            if key is not None and key.id not in self._keys and key.id not in self._retired:
                self.replace(key)
        else:
            made = key or mesh_key(secrets.token_bytes(SECRET_BYTES))
            self._take(_Stored([made.secret.hex()], made.id, provisional=key is None))
        self.save()

    def _take(self, stored: _Stored) -> None:
        self._keys = {key.id: key for key in map(parse_mesh_key, stored.keys)}
        self._current_id = stored.current
        self._revoked = {bytes.fromhex(key) for key in stored.revoked}
        self._retired = _retired(stored.retired)
        self._stamp_ms = stored.stamp_ms
        self.provisional = stored.provisional

    # Reading.

    @property
    def current(self) -> MeshKey:
        """The key whose credentials this node shows."""
        return self._keys[self._current_id]

    @property
    def keys(self) -> list[MeshKey]:
        """All that let any node in, the newest first."""
        return list(self._keys.values())

    def get(self, key_id: str) -> MeshKey | None:
        """The key with this id, or None; a retired one is none."""
        return self._keys.get(key_id)

    def get_retired(self, key_id: str, now_s: float) -> MeshKey | None:
        """The key with this id that lets in only who was a member, or None. `now_s` in Unix time."""
        key, until_s = self._retired.get(key_id, (None, 0.0))
        return key if now_s < until_s else None

    def is_revoked(self, public_key: bytes) -> bool:
        """Whether the node with this public key was thrown out."""
        return public_key in self._revoked

    @property
    def revoked_count(self) -> int:
        """How many nodes were thrown out."""
        return len(self._revoked)

    # Changing.

    def replace(self, key: MeshKey) -> None:
        """Joins another mesh: its key is the only one, and whom the old mesh threw out is forgotten."""
        # Stamp 0: whatever that mesh says of its keys is newer.
        self._take(_Stored([key.secret.hex()], key.id))
        self._changed()

    def adopt(self, told: Keys) -> None:
        """Joins another mesh by what a member of it told: its ring takes this one's place. Raises BadInputError where
        it makes no sense: nothing has changed then."""
        _check(told)
        self._take(_Stored(told.keys, told.current, False, told.revoked, told.stamp_ms, told.retired))
        self._changed()

    def leave(self) -> None:
        """Leaves the mesh: a new key, a provisional mesh of one."""
        made = mesh_key(secrets.token_bytes(SECRET_BYTES))
        self._take(_Stored([made.secret.hex()], made.id, provisional=True))
        self._changed()

    def settle(self) -> None:
        """Another node belongs to this mesh now: it is provisional no more."""
        if self.provisional:
            self.provisional = False
            self._changed()

    def add(self, key: MeshKey) -> None:
        """Lets nodes in that hold this key too. Raises BusyError where MAX_KEYS are held."""
        if key.id in self._keys:
            return
        if len(self._keys) >= MAX_KEYS:
            raise BusyError(f"this mesh holds {MAX_KEYS} keys already: retire one of them first")
        self._keys = {key.id: key, **self._keys}
        self._stamp()

    def make_current(self, key_id: str) -> None:
        """Shows credentials of this key from now on. Raises NotFoundError."""
        self._known(key_id)
        self._current_id = key_id
        self._stamp()

    def retire(self, key_id: str) -> None:
        """Lets no stranger in with this key any more. Raises NotFoundError, ConflictError for the current one."""
        self._known(key_id)
        if key_id == self._current_id:
            raise ConflictError(f"{key_id} is the key that nodes show: make another one current first")
        self._retired[key_id] = (self._keys.pop(key_id), time.time() + AWAY_S)
        while len(self._retired) > MAX_RETIRED:
            del self._retired[next(iter(self._retired))]
        self._stamp()

    def prepare(self) -> MeshKey:
        """A new key that lets nodes in and is not shown yet. Raises BusyError."""
        key = mesh_key(secrets.token_bytes(SECRET_BYTES))
        self.add(key)
        return key

    def rotate_at_once(self) -> MeshKey:
        """A new key, which is current, and all others are retired: whoever has been thrown out has them."""
        made = mesh_key(secrets.token_bytes(SECRET_BYTES))
        old = list(self._keys)
        self._keys = {made.id: made, **self._keys}
        self._current_id = made.id
        for key_id in old:
            self.retire(key_id)
        return made

    def rotate(self) -> MeshKey:
        """A new key, which is current; the others still let nodes in until they are retired. Raises BusyError."""
        key = self.prepare()
        self.make_current(key.id)
        return key

    def revoke(self, public_keys: Iterable[bytes]) -> None:
        """Throws nodes out, for good. Whoever has been a member knows the key: rotate it too, or he comes back as
        someone else. Raises BusyError past MAX_REVOKED."""
        revoked = self._revoked.union(public_keys)
        if len(revoked) > MAX_REVOKED:
            raise BusyError(f"{MAX_REVOKED} nodes have been revoked: make a new mesh, with a key of its own")
        if revoked != self._revoked:
            self._revoked = revoked
            self._changed()

    def _known(self, key_id: str) -> None:
        if key_id not in self._keys:
            raise NotFoundError(f"this mesh has no key {key_id[:64]!r}: it has {', '.join(self._keys)}")

    def _stamp(self) -> None:
        self._stamp_ms = max(self._stamp_ms + 1, int(time.time() * 1000))
        self._changed()

    def _changed(self) -> None:
        for listener in self.listeners:
            listener()

    # What nodes tell each other of it.

    def message(self) -> Keys:
        """All of it, for a node that is trusted."""
        revoked = sorted(key.hex() for key in self._revoked)
        retired = [(key.secret.hex(), until_s) for key, until_s in self._retired.values()]
        return Keys([key.secret.hex() for key in self.keys], self._current_id, revoked, self._stamp_ms, retired)

    def merge(self, told: Keys) -> bool:
        """Takes what a trusted node says: its keys where they were changed later, its revoked in any case. Whether
        that changed anything here. Raises BadInputError where it makes no sense."""
        keys, told_revoked = _check(told, max(_MAX_TOLD_STAMP_MS, self._stamp_ms + _STAMP_STEP_MS))
        revoked = self._revoked | told_revoked
        before = (self._keys, self._current_id, self._revoked)
        # Of two that were changed in one millisecond, all nodes must take the same.
        if (told.stamp_ms, told.current, sorted(keys)) > (self._stamp_ms, self._current_id, sorted(self._keys)):
            self._keys, self._current_id, self._stamp_ms = keys, told.current, told.stamp_ms
            self._retired = _retired(told.retired)
        if len(revoked) <= MAX_REVOKED:
            self._revoked = revoked
        if (self._keys, self._current_id, self._revoked) == before:
            return False
        self._changed()
        return True

    # On disk.

    def content(self) -> bytes:
        """What save() writes: for whoever must not wait for the disk, and hands it to write() in a thread."""
        told = self.message()
        stored = _Stored(told.keys, told.current, self.provisional, told.revoked, told.stamp_ms, told.retired)
        return msgspec.json.format(msgspec.json.encode(stored)) + b"\n"

    @staticmethod
    def content_of(told: Keys) -> bytes:
        """What save() would write after adopt(told). Raises BadInputError where it makes no sense."""
        _check(told)
        stored = _Stored(told.keys, told.current, False, told.revoked, told.stamp_ms, told.retired)
        return msgspec.json.format(msgspec.json.encode(stored)) + b"\n"

    @staticmethod
    def ids_of(told: Keys) -> list[str]:
        """The ids of the keys that a node says it holds. Raises BadInputError."""
        return [parse_mesh_key(secret).id for secret in told.keys]

    @staticmethod
    def hash_of(told: Keys) -> bytes:
        """Equal for two rings of which neither has anything to tell the other. Raises BadInputError."""
        ids = sorted(Keyring.ids_of(told))
        compared = msgspec.msgpack.encode((told.stamp_ms, told.current, ids, sorted(told.revoked)))
        return hashlib.sha256(compared).digest()

    def write(self, content: bytes) -> None:
        """Puts what content() gave on the disk; in any thread. Raises OSError."""
        with self._writing:
            write_durably(self._file, content)

    def save(self) -> None:
        """Returns when all of it is on the disk. Raises OSError."""
        self.write(self.content())


def read_current(folder: Path) -> MeshKey:
    """The current key of the ring in this data folder, beside a node that may be running. Raises NotFoundError where
    there is none yet, ForbiddenError where its file is another user's, IngleError where it is damaged."""
    file = folder / KEYRING_FILE
    try:
        stored = _read(file)
    except FileNotFoundError:
        raise NotFoundError(f"there is no mesh key in {folder} yet: a node makes one at its first start") from None
    except PermissionError:
        raise ForbiddenError(f"{file} is another user's: ask as the user that the node runs as") from None
    return next(key for key in map(parse_mesh_key, stored.keys) if key.id == stored.current)


def _retired(told: Iterable[tuple[str, float]]) -> dict[str, tuple[MeshKey, float]]:
    return {key.id: (key, until_s) for key, until_s in ((parse_mesh_key(secret), until_s) for secret, until_s in told)}


def _check(told: Keys, max_stamp_ms: int = _MAX_STAMP_MS) -> tuple[dict[str, MeshKey], set[bytes]]:
    """The keys by id and the revoked of a ring. Raises BadInputError where it makes no sense."""
    if max(len(told.keys) / MAX_KEYS, len(told.revoked) / MAX_REVOKED, len(told.retired) / MAX_RETIRED) > 1:
        raise BadInputError(f"a node's keyring is too large: {len(told.keys)} keys, {len(told.revoked)} revoked")
    keys = {key.id: key for key in map(parse_mesh_key, told.keys)}
    _retired(told.retired)
    times_are_some = all(0 <= until_s < _MAX_TOLD_STAMP_MS for _, until_s in told.retired)  # false for NaN
    if told.current not in keys or told.stamp_ms > max_stamp_ms or not times_are_some:
        raise BadInputError(
            "a node's keyring makes no sense: it lacks the key that it names as current, or a time in it is none"
        )
    try:
        return keys, {bytes.fromhex(key) for key in told.revoked}
    except ValueError:
        raise BadInputError("a node names a public key that is none") from None


def _read(file: Path) -> _Stored:
    try:
        stored = msgspec.json.decode(file.read_bytes(), type=_Stored)
        _check(Keys(stored.keys, stored.current, stored.revoked, stored.stamp_ms, stored.retired))
    except (msgspec.MsgspecError, ValueError, BadInputError):
        raise IngleError(
            f"{file} is damaged: bring it back from a backup, or delete it and join the mesh again"
        ) from None
    return stored

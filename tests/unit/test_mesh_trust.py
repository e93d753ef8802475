"""Who is believed: identities, the keyring, and credentials."""

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from appliance.core.errors import BadInputError, BusyError, ConflictError, IngleError, NotFoundError
from federation.credentials import introduce, why_distrusted
from federation.identity import IDENTITY_FILE, Identity, load_identity, new_identity, node_id_of
from federation.keyring import AWAY_S, KEYRING_FILE, MAX_KEYS, Keyring, MeshKey, mesh_key
from federation.messages import Introduction, Keys


def shown(identity: Identity, keyring: Keyring) -> Introduction:
    return introduce(identity, keyring, name="one", addresses=["127.0.0.1"], mesh_port=8004, bulk_port=8005)


def some_key() -> MeshKey:
    return mesh_key(secrets.token_bytes(32))


def test_a_node_is_the_same_after_a_restart(tmp_path: Path) -> None:
    first = load_identity(tmp_path)
    assert load_identity(tmp_path) == first
    assert first.node_id == node_id_of(first.public_key)
    assert (tmp_path / IDENTITY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "00", "g" * 64, "00" * 33, "\x00"])
def test_a_damaged_identity_is_said_and_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / IDENTITY_FILE).write_text(content)
    with pytest.raises(IngleError, match="damaged"):
        load_identity(tmp_path)
    assert (tmp_path / IDENTITY_FILE).read_text() == content


def test_no_secret_is_in_what_is_printed(tmp_path: Path) -> None:
    identity, key = new_identity(), some_key()
    for secret in (identity.secret_key, key.secret):
        assert secret.hex() not in f"{identity!r} {key!r}"
        assert repr(secret) not in f"{identity!r} {key!r}"


def test_a_first_node_makes_a_provisional_mesh_of_one_and_keeps_it(tmp_path: Path) -> None:
    first = Keyring(tmp_path)
    assert first.provisional
    assert (tmp_path / KEYRING_FILE).stat().st_mode & 0o777 == 0o600
    again = Keyring(tmp_path)
    assert again.provisional
    assert again.current == first.current


def test_a_key_that_the_owner_gives_takes_the_place_of_all_others(tmp_path: Path) -> None:
    Keyring(tmp_path).revoke([b"r" * 32])
    given = some_key()
    ring = Keyring(tmp_path, given=f" {given.secret.hex()}\n")
    assert ring.keys == [given]
    assert not ring.provisional
    assert Keyring(tmp_path).keys == [given]


def test_a_given_key_that_is_held_already_undoes_no_rotation(tmp_path: Path) -> None:
    given = some_key()
    ring = Keyring(tmp_path, given=given.secret.hex())
    newer = ring.rotate()
    ring.save()
    again = Keyring(tmp_path, given=given.secret.hex())
    assert again.current == newer
    assert again.keys == [newer, given]


@pytest.mark.parametrize("given", ["0" * 63, "0" * 65, "0" * 66, "x" * 64, "0 " * 32, "é" * 64])
def test_a_mesh_key_that_is_none_is_refused_and_not_repeated(tmp_path: Path, given: str) -> None:
    with pytest.raises(BadInputError, match="64 hexadecimal digits") as caught:
        Keyring(tmp_path, given=given)
    assert given not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"keys": [], "current": ""}',
        b'{"keys": ["00"], "current": "x"}',
        b'{"keys": ["' + b"0" * 64 + b'"], "current": "x"}',
    ],
)
def test_a_damaged_keyring_is_said_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEYRING_FILE).write_bytes(content)
    with pytest.raises(IngleError, match="damaged"):
        Keyring(tmp_path)
    assert (tmp_path / KEYRING_FILE).read_bytes() == content


def test_a_rotation_lets_both_keys_in_until_the_old_one_is_retired(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    old, old_shown = ring.current, shown(new_identity(), ring)
    new = ring.rotate()
    assert ring.keys == [new, old]
    assert shown(new_identity(), ring).key_id == new.id
    assert why_distrusted(old_shown, ring) == ""
    ring.retire(old.id)
    assert ring.keys == [new]
    assert "never met here" in why_distrusted(old_shown, ring)
    with pytest.raises(ConflictError):
        ring.retire(new.id)
    with pytest.raises(NotFoundError):
        ring.make_current(old.id)


def test_a_retired_key_lets_in_only_who_was_a_member_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, away, revoked = Keyring(tmp_path), new_identity(), new_identity()
    old, shows_old, also_shows_old = ring.current, shown(away, ring), shown(revoked, ring)
    ring.rotate()
    ring.retire(old.id)
    ring.revoke([revoked.public_key])
    assert why_distrusted(shows_old, ring, lambda key: key == away.public_key) == ""
    assert "revoked" in why_distrusted(also_shows_old, ring, lambda _: True)
    forged = msgspec.structs.replace(shows_old, credential=bytes(32))
    assert "forged" in why_distrusted(forged, ring, lambda _: True)
    ring.save()
    after_s = time.time() + AWAY_S + 1
    monkeypatch.setattr("federation.credentials.time.time", lambda: after_s)
    assert "another mesh" in why_distrusted(shows_old, Keyring(tmp_path), lambda _: True)


def test_who_was_away_is_shown_a_credential_of_the_key_that_it_knows(tmp_path: Path) -> None:
    for name in ("one", "away"):
        (tmp_path / name).mkdir()
    away_ring = Keyring(tmp_path / "away")
    ring = Keyring(tmp_path / "one", given=away_ring.current.secret.hex())
    ring.rotate()
    ring.retire(away_ring.current.id)
    this, away = new_identity(), shown(new_identity(), away_ring)
    places = {"name": "one", "addresses": ["127.0.0.1"], "mesh_port": 8004, "bulk_port": 8005}
    assert "another mesh" in why_distrusted(introduce(this, ring, **places), away_ring)  # type: ignore[arg-type]
    assert why_distrusted(introduce(this, ring, **places, to=away), away_ring) == ""  # type: ignore[arg-type]
    assert away_ring.merge(ring.message())
    assert why_distrusted(introduce(this, ring, **places), away_ring) == ""  # type: ignore[arg-type]


def test_a_given_key_that_was_retired_undoes_no_rotation(tmp_path: Path) -> None:
    given = some_key()
    ring = Keyring(tmp_path, given=given.secret.hex())
    newer = ring.rotate()
    ring.retire(given.id)
    ring.save()
    assert Keyring(tmp_path, given=given.secret.hex()).keys == [newer]


def test_who_joins_takes_a_ring_as_it_is_told_and_who_leaves_is_alone(tmp_path: Path) -> None:
    for name in ("mesh", "new"):
        (tmp_path / name).mkdir()
    mesh, new = Keyring(tmp_path / "mesh"), Keyring(tmp_path / "new")
    mesh.rotate()
    mesh.revoke([b"r" * 32])
    new.revoke([b"s" * 32])
    new.adopt(mesh.message())
    assert new.message() == mesh.message()
    assert not new.provisional
    with pytest.raises(BadInputError):
        new.adopt(Keys([], ""))
    assert new.message() == mesh.message()
    new.leave()
    assert new.provisional
    assert [key.id for key in new.keys] == [new.current.id]
    assert not new.is_revoked(b"r" * 32)
    assert new.current not in mesh.keys


def test_the_keyring_is_bounded(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    for _ in range(MAX_KEYS - 1):
        ring.add(some_key())
    with pytest.raises(BusyError):
        ring.add(some_key())


def test_rings_that_tell_each_other_become_alike(tmp_path: Path) -> None:
    given = some_key().secret.hex()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = Keyring(tmp_path / "one", given=given), Keyring(tmp_path / "other", given=given)
    one.rotate()
    other.revoke([b"r" * 32])
    assert other.merge(one.message())
    assert one.merge(other.message())
    assert one.message() == other.message()
    assert one.is_revoked(b"r" * 32)
    assert not one.merge(other.message())


def test_what_was_retired_does_not_come_back_from_a_ring_that_is_older(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    old, before = ring.current, ring.message()
    ring.rotate()
    ring.retire(old.id)
    assert not ring.merge(before)
    assert ring.get(old.id) is None


@pytest.mark.parametrize(
    "told",
    [
        Keys([], ""),
        Keys(["00"], "x"),
        Keys(["0" * 64], "x"),
        Keys(["0" * 64], mesh_key(bytes(32)).id, ["zz"], 2**52),
        Keys(["0" * 64] * 17, mesh_key(bytes(32)).id, [], 2**52),
        Keys(["0" * 64], mesh_key(bytes(32)).id, [], 2**53 + 1),
        Keys(["0" * 64], mesh_key(bytes(32)).id, [], 2**52, [("0", 1.0)]),
        Keys(["0" * 64], mesh_key(bytes(32)).id, [], 2**52, [("0" * 64, 1.0)] * 17),
        Keys(["0" * 64], mesh_key(bytes(32)).id, [], 2**52, [("0" * 64, float("nan"))]),
        Keys(["0" * 64], mesh_key(bytes(32)).id, [], 2**52, [("0" * 64, float("inf"))]),
    ],
)
def test_a_ring_that_makes_no_sense_changes_nothing(tmp_path: Path, told: Keys) -> None:
    ring = Keyring(tmp_path)
    before = ring.message()
    with pytest.raises(BadInputError):
        ring.merge(told)
    assert ring.message() == before


def test_whatever_stamp_a_member_told_the_key_can_be_changed_after_it(tmp_path: Path) -> None:
    """Else a member that is thrown out could keep the key that it knows in use."""
    told = Keys(["0" * 64], mesh_key(bytes(32)).id, [], 2**53)
    rings = []
    for name in ("one", "other", "new"):
        (tmp_path / name).mkdir()
        rings.append(Keyring(tmp_path / name))
    one, other, new = rings
    assert one.merge(told)
    assert other.merge(told)
    made = one.rotate_at_once()
    assert other.merge(one.message())
    new.adopt(one.message())
    assert one.current == other.current == new.current == made
    one.save()
    assert Keyring(tmp_path / "one").current == made


def test_listeners_hear_of_changes(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    heard: list[str] = []
    ring.listeners.append(lambda: heard.append(ring.current.id))
    key = ring.rotate()
    assert heard[-1] == key.id
    count = len(heard)
    ring.revoke([b"r" * 32])
    ring.revoke([b"r" * 32])
    assert len(heard) == count + 1


def test_a_credential_is_good_for_its_own_node_alone(tmp_path: Path) -> None:
    ring, honest, thief = Keyring(tmp_path), new_identity(), new_identity()
    good = shown(honest, ring)
    assert why_distrusted(good, ring) == ""
    stolen = msgspec.structs.replace(good, public_key=thief.public_key)
    assert "not that of its public key" in why_distrusted(stolen, ring)
    stolen = msgspec.structs.replace(good, public_key=thief.public_key, node_id=thief.node_id)
    assert "forged" in why_distrusted(stolen, ring)


def test_forged_unknown_and_revoked_are_told_apart(tmp_path: Path) -> None:
    ring, identity = Keyring(tmp_path), new_identity()
    good = shown(identity, ring)
    for credential in (b"", bytes(32), good.credential[:-1], good.credential + b"\0"):
        assert "forged" in why_distrusted(msgspec.structs.replace(good, credential=credential), ring)
    assert "another mesh" in why_distrusted(msgspec.structs.replace(good, key_id="0" * 16), ring)
    ring.revoke([identity.public_key])
    assert "revoked" in why_distrusted(good, ring)


def test_a_ring_that_is_written_by_several_threads_at_once_is_whole(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(ring.save) for _ in range(40)]:
            done.result()
    assert Keyring(tmp_path).current == ring.current
    assert [file.name for file in tmp_path.iterdir()] == [KEYRING_FILE]

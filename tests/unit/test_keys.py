"""Keys and scopes: who is let in, to do what, and what a stranger or a revoked key is told."""

import contextlib
import stat
import string
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.core.database import Database
from appliance.core.errors import (
    BadInputError,
    BusyError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
)
from appliance.core.names import parse_name
from appliance.security.keys import _MIGRATIONS, MAX_REMEMBERED, KeyRing
from appliance.security.limits import Limits
from appliance.security.scopes import ANONYMOUS, Principal, parse_scope, parse_scopes

NOW_S = 1_774_900_000.0  # 2026-03-30
CATS, DOGS, LIONS = (parse_name(name) for name in ("acme/cats", "acme/dogs", "zoo/lions"))


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[KeyRing]:
    ring = KeyRing(tmp_path)
    yield ring
    ring.close()


def principal(*scopes: str) -> Principal:
    return Principal("1", "test", parse_scopes(scopes))


@pytest.mark.parametrize(
    ("scope", "action", "allowed"),
    [
        ("call", "call", "cats dogs lions node"),
        ("call:*", "call", "cats dogs lions node"),
        ("call:acme/*", "call", "cats dogs"),
        ("call:acme/cats", "call", "cats"),
        ("call", "deploy", ""),
        ("call", "admin", ""),
        ("deploy:acme/*", "call", "cats dogs"),
        ("deploy:acme/*", "deploy", "cats dogs"),
        ("deploy:acme/*", "admin", ""),
        ("admin:zoo/lions", "deploy", "lions"),
        ("admin:zoo/lions", "admin", "lions"),
        ("admin", "admin", "cats dogs lions node"),
        ("admin", "call", "cats dogs lions node"),
    ],
)
def test_a_scope_allows_its_action_and_the_lesser_ones_on_its_models(scope: str, action: str, allowed: str) -> None:
    models = {"cats": CATS, "dogs": DOGS, "lions": LIONS, "node": None}
    assert [word for word, model in models.items() if principal(scope).allows(action, model)] == allowed.split()


def test_several_scopes_add_up() -> None:
    both = principal("call:acme/*", "deploy:zoo/lions")
    assert both.allows("call", CATS)
    assert both.allows("deploy", LIONS)
    assert not both.allows("deploy", CATS)
    assert not both.allows("call", None)
    assert both.allows_somewhere("deploy")
    assert not both.allows_somewhere("admin")


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "read",
        "CALL",
        "call:",
        "call:*/*",
        "call:acme",
        "call:acme/",
        "call:/cats",
        "call:acme/*/x",
        "call:acme/ready",
    ],
)
def test_what_is_no_scope_is_said(scope: str) -> None:
    with pytest.raises(BadInputError):
        parse_scope(scope)


def test_require_tells_a_stranger_to_bring_a_key_and_a_key_what_it_may_do() -> None:
    ANONYMOUS.require("call", CATS)
    with pytest.raises(UnauthenticatedError, match="Authorization: Bearer KEY"):
        ANONYMOUS.require("deploy", CATS)
    with pytest.raises(ForbiddenError, match=r"may not deploy acme/cats: it may call:acme/\*"):
        principal("call:acme/*").require("deploy", CATS)


def test_the_first_start_makes_an_admin_key_for_its_owners_eyes(ring: KeyRing, tmp_path: Path) -> None:
    assert ring.first_key is not None
    assert ring.admin_key_file.read_text() == f"{ring.first_key}\n"
    for path in (ring.admin_key_file, tmp_path / "keys.sqlite"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ring.authenticate(f"Bearer {ring.first_key}").allows("admin", None)
    ring.close()
    again = KeyRing(tmp_path)
    assert again.first_key is None
    assert len(again.list()) == 1
    again.close()


def test_a_first_start_that_was_cut_short_keeps_the_key_it_wrote(ring: KeyRing, tmp_path: Path) -> None:
    written = ring.admin_key_file.read_text()
    ring.close()
    for path in tmp_path.glob("keys.sqlite*"):
        path.unlink()
    again = KeyRing(tmp_path)
    assert again.admin_key_file.read_text() == written
    assert again.authenticate(written).allows("admin", None)
    again.close()


def test_a_key_file_that_others_could_read_is_not_taken_in(ring: KeyRing, tmp_path: Path) -> None:
    written = ring.admin_key_file.read_text()
    ring.close()
    ring.admin_key_file.chmod(0o644)
    for path in tmp_path.glob("keys.sqlite*"):
        path.unlink()
    again = KeyRing(tmp_path)
    assert again.admin_key_file.read_text() != written
    assert stat.S_IMODE(again.admin_key_file.stat().st_mode) == 0o600
    again.close()


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "bearer {}", "Simple {}", "SIMPLE  {}", " {} "])
def test_a_key_is_taken_in_each_form(ring: KeyRing, form: str) -> None:
    record, secret = ring.create("a phone", ["call:acme/*", "call:acme/*"])
    assert record.scopes == ("call:acme/*",)
    for _ in range(2):  # the second time from memory
        assert ring.authenticate(form.format(secret)).key_id == record.id


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer simple", "x" * 100_000, "sim\0" * 7, "sîm"]
)
def test_what_is_no_key_is_not_let_in(ring: KeyRing, header: str) -> None:
    with pytest.raises(UnauthenticatedError, match="Authorization: Bearer KEY"):
        ring.authenticate(header)


def test_neither_nothing_nor_another_nodes_key_is_let_in(ring: KeyRing) -> None:
    with pytest.raises(UnauthenticatedError, match="no key was given"):
        ring.authenticate(None)
    with pytest.raises(UnauthenticatedError, match="not known here"):
        ring.authenticate("Bearer sim" + "A" * 25)


def test_a_revoked_key_is_out_at_once_and_after_a_restart(ring: KeyRing, tmp_path: Path) -> None:
    record, secret = ring.create("lost phone", ["call"])
    ring.authenticate(secret)
    revoked = ring.revoke(record.id)
    assert revoked.revoked_s is not None
    assert ring.revoke(record.id) == revoked
    with pytest.raises(UnauthenticatedError, match="was revoked"):
        ring.authenticate(secret)
    ring.close()
    again = KeyRing(tmp_path)
    with pytest.raises(UnauthenticatedError, match="was revoked"):
        again.authenticate(secret)
    assert revoked in again.list()
    again.close()


def test_the_last_admin_key_stays(ring: KeyRing) -> None:
    (first,) = ring.list()
    ring.create("owner's admin", ["admin:acme/*"])
    with pytest.raises(ConflictError, match="last key that may administer"):
        ring.revoke(first.id)
    _, secret = ring.create("another admin", ["admin"])
    ring.revoke(first.id)
    assert ring.authenticate(secret).allows("admin", None)


def test_an_unknown_key_cannot_be_revoked(ring: KeyRing) -> None:
    with pytest.raises(NotFoundError):
        ring.revoke("nobody")


@pytest.mark.parametrize(("label", "scopes"), [("x", []), ("x", ["fly"]), ("x\n", ["call"]), ("x" * 81, ["call"])])
def test_a_key_that_cannot_be_made_is_said(ring: KeyRing, label: str, scopes: list[str]) -> None:
    with pytest.raises(BadInputError):
        ring.create(label, scopes)
    assert len(ring.list()) == 1


def test_a_secret_is_shown_once_and_kept_as_a_hash(ring: KeyRing, tmp_path: Path) -> None:
    _, secret = ring.create("phone", ["call"])
    assert secret.startswith("sim")
    assert len(secret) == 28
    assert set(secret) <= set(string.ascii_letters + string.digits)
    ring.close()
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_what_is_remembered_of_headers_is_bounded(ring: KeyRing) -> None:
    _, secret = ring.create("phone", ["call"])
    for number in range(MAX_REMEMBERED + 10):
        ring.authenticate(secret + " " * (number % 200) + "\t" * (number // 200))
    assert len(ring._known.by_header) <= MAX_REMEMBERED


def test_a_key_is_held_to_its_limits_which_can_be_changed(ring: KeyRing) -> None:
    record, secret = ring.create("phone", ["call"], Limits("1/hour", 2, "3/month"))
    assert record.limits == Limits("1/hour", 2, "3/month")
    meter = ring.authenticate(secret).meter
    assert meter is not None
    for _ in range(2):
        meter.take(0.0, NOW_S)
    ring.create("another", ["call"])  # the keys are read anew, the count goes on
    again = ring.authenticate(secret).meter
    assert again is not None
    with pytest.raises(BusyError, match="1/hour"):
        again.take(0.0, NOW_S)
    changed = ring.limit(record.id, {"rate": "100/s", "burst": 0})
    assert changed.limits == Limits("100/s", 0, "3/month")
    faster = ring.authenticate(secret).meter
    assert faster is not None
    faster.take(0.0, NOW_S)
    with pytest.raises(BusyError, match="3/month"):
        faster.take(0.0, NOW_S)
    ring.limit(record.id, {"rate": "", "quota": ""})
    assert ring.authenticate(secret).meter is None


def test_what_is_used_of_a_quota_survives_a_restart(ring: KeyRing, tmp_path: Path) -> None:
    record, secret = ring.create("phone", ["call"], Limits(quota="5/month"))
    meter = ring.authenticate(secret).meter
    assert meter is not None
    for _ in range(4):
        meter.take(0.0, time.time())
    ring.save_usage()
    meter.take(0.0, time.time())
    ring.close()
    again = KeyRing(tmp_path)
    assert next(found for found in again.list() if found.id == record.id).used_calls == 5
    after = again.authenticate(secret).meter
    assert after is not None
    with pytest.raises(BusyError):
        after.take(0.0, time.time())
    again.close()


def test_keys_made_before_there_were_limits_have_none(tmp_path: Path) -> None:
    Database(tmp_path / "keys.sqlite", _MIGRATIONS[:1]).close()
    with contextlib.closing(KeyRing(tmp_path)) as ring:
        assert ring.first_key is not None
        assert ring.authenticate(ring.first_key).meter is None


def test_limits_of_an_unknown_key_and_limits_that_are_none_are_said(ring: KeyRing) -> None:
    with pytest.raises(NotFoundError):
        ring.limit("nobody", {"rate": "1/s"})
    record, _ = ring.create("phone", ["call"])
    with pytest.raises(BadInputError):
        ring.limit(record.id, {"rate": "5"})


def test_a_key_of_another_node_is_good_here_until_it_is_revoked_anywhere(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here, there = KeyRing(tmp_path / "a"), KeyRing(tmp_path / "b")
    _, secret = there.create("line 3", ["call:*"], Limits(rate="5/s"))
    with pytest.raises(UnauthenticatedError):
        here.authenticate(secret)
    (key,) = (key for key in there.shared() if key.label == "line 3")
    assert here.take(key)
    assert not here.take(key)
    principal = here.authenticate(secret)
    assert principal.allows("call", None)
    assert principal.meter is not None
    revoked = msgspec.structs.replace(key, revoked_s=1.0)
    assert here.take(revoked)
    assert not here.take(key)  # revoked for good, whatever is heard late
    with pytest.raises(UnauthenticatedError):
        here.authenticate(secret)
    here.close()
    there.close()


def test_keys_of_a_mesh_that_was_left_are_good_no_more_and_own_ones_are(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here, there = KeyRing(tmp_path / "a"), KeyRing(tmp_path / "b")
    _, mine = here.create("mine", ["call:*"])
    _, theirs = there.create("theirs", ["call:*"])
    for key in there.shared():
        here.take(key)
    assert here.authenticate(theirs).allows("call", None)
    assert here.drop_taken() == 2
    with pytest.raises(UnauthenticatedError):
        here.authenticate(theirs)
    assert here.authenticate(mine).allows("call", None)
    assert here.authenticate(here.first_key).allows("admin", None)
    here.close()
    there.close()


def test_a_key_with_anothers_id_is_not_taken(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    record, secret = ring.create("mine", ["call:*"])
    (key,) = (key for key in ring.shared() if key.id == record.id)
    with pytest.raises(BadInputError, match="another key"):
        ring.take(msgspec.structs.replace(key, hash="0" * 64))
    assert ring.authenticate(secret).key_id == record.id
    ring.close()


def test_whoever_listens_hears_of_every_change(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    heard = []
    ring.on_change = lambda: heard.append(1)
    record, _ = ring.create("x", ["call:*"])
    ring.limit(record.id, {"rate": "1/s"})
    ring.revoke(record.id)
    ring.revoke(record.id)
    assert len(heard) == 3
    ring.close()

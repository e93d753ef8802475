"""Peers that were met before: kept over a restart, few, private to the node, and never in the way of a start."""

from pathlib import Path

import pytest

from appliance.core.errors import IngleError
from federation.messages import Introduction
from federation.remembered import FILE_NAME, MAX_PEERS, Remembered


def peer(number: int, *addresses: str) -> Introduction:
    return Introduction(f"{number:032x}", f"box{number}", bytes(32), "k1", bytes(32), list(addresses), 8004, 8005)


def test_who_was_met_is_known_after_a_restart_the_last_first(tmp_path: Path) -> None:
    before = Remembered(tmp_path)
    for number in (1, 2, 1):
        before.met(peer(number, "10.0.0.1"))
    before.save()
    assert Remembered(tmp_path).peers() == [peer(1, "10.0.0.1"), peer(2, "10.0.0.1")]


def test_the_file_is_for_the_nodes_user_alone(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path)
    remembered.met(peer(1, "10.0.0.1"))
    remembered.save()
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_earlier_addresses_stand_behind_those_of_now_and_scoped_ones_are_not_kept(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path)
    remembered.met(peer(1, "10.0.0.1", "fe80::1%2"))
    remembered.met(peer(1, "10.0.0.9"))
    assert remembered.peers() == [peer(1, "10.0.0.9", "10.0.0.1")]


def test_no_more_than_the_last_met_are_kept(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path)
    for number in range(MAX_PEERS + 50):
        remembered.met(peer(number, "10.0.0.1"))
    kept = remembered.peers()
    assert len(kept) == MAX_PEERS
    assert kept[0].name == f"box{MAX_PEERS + 49}"


def test_who_was_revoked_is_forgotten_and_who_leaves_forgets_all(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path)
    remembered.met(peer(1, "10.0.0.1"))
    remembered.met(peer(2, "10.0.0.2"))
    remembered.forget(peer(1).node_id)
    remembered.save()
    assert Remembered(tmp_path).peers() == [peer(2, "10.0.0.2")]
    remembered.forget_all()
    remembered.save()
    assert Remembered(tmp_path).peers() == []


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b'[["a"]]', b"\xff" * 100, b"[" * 100_000])
def test_a_damaged_file_is_as_none(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    remembered = Remembered(tmp_path)
    assert remembered.peers() == []
    assert "forgotten" in caplog.text
    remembered.met(peer(1, "10.0.0.1"))
    remembered.save()
    assert Remembered(tmp_path).peers() == [peer(1, "10.0.0.1")]


def test_what_could_not_be_written_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    remembered = Remembered(folder)
    remembered.met(peer(1, "10.0.0.1"))
    folder.rmdir()
    with pytest.raises(IngleError):
        remembered.save()
    folder.mkdir()
    remembered.save()
    assert Remembered(folder).peers() == [peer(1, "10.0.0.1")]

"""Names pinned to keys at first sight: who came first keeps its name, who comes later is told apart."""

from pathlib import Path

import pytest

from federation.pinned_names import MAX_PINS, NAMES_FILE, Pin, PinnedNames, Sighting

OWN, CELLAR, ATTIC, STRANGER = (
    Pin(letter * 64, letter * 32, name)
    for letter, name in (("0", "desk"), ("a", "cellar"), ("b", "attic"), ("c", "cellar"))
)


def key(pin: Pin) -> bytes:
    return bytes.fromhex(pin.public_key)


@pytest.fixture
def names(tmp_path: Path) -> PinnedNames:
    return PinnedNames(tmp_path, own=OWN)


def test_a_known_name_with_another_key_is_shown_as_another_node(names: PinnedNames) -> None:
    assert names.see(CELLAR) == Sighting("cellar")
    assert names.see(ATTIC) == Sighting("attic")
    assert names.see(STRANGER) == Sighting("cellar~cccc", CELLAR.node_id)
    assert names.see(CELLAR) == Sighting("cellar")


def test_nobody_takes_this_nodes_own_name(names: PinnedNames) -> None:
    assert names.see(Pin("d" * 64, "d" * 32, "desk")) == Sighting("desk~dddd", OWN.node_id)
    assert names.see(OWN) == Sighting("desk")


def test_who_takes_a_new_name_frees_its_old_one(names: PinnedNames) -> None:
    names.see(CELLAR)
    names.see(STRANGER)
    names.see(Pin(CELLAR.public_key, CELLAR.node_id, "vault"))
    assert names.see(STRANGER) == Sighting("cellar")


def test_who_was_forgotten_is_no_member_any_more_and_its_name_is_free(names: PinnedNames) -> None:
    names.see(CELLAR)
    names.see(STRANGER)
    assert names.knows(key(CELLAR))
    names.forget(key(CELLAR))
    assert not names.knows(key(CELLAR))
    assert names.see(STRANGER) == Sighting("cellar")
    names.forget_all()
    assert names.others() == []


def test_pins_outlive_a_restart(tmp_path: Path, names: PinnedNames) -> None:
    names.see(CELLAR)
    names.save()
    assert (tmp_path / NAMES_FILE).stat().st_mode & 0o777 == 0o600
    again = PinnedNames(tmp_path, own=OWN)
    assert again.see(STRANGER) == Sighting("cellar~cccc", CELLAR.node_id)


@pytest.mark.parametrize("content", [b"", b"{}", b"[[1, 2, 3]]", b"\xff", b'[["a"]]'])
def test_a_damaged_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAMES_FILE).write_bytes(content)
    names = PinnedNames(tmp_path, own=OWN)
    assert names.others() == []
    assert names.see(CELLAR) == Sighting("cellar")


def test_pins_are_bounded(names: PinnedNames) -> None:
    for number in range(MAX_PINS + 5):
        names.see(Pin(f"{number:064x}", f"{number:032x}", f"n{number}"))
    assert len(names.others()) == MAX_PINS
    assert not names.knows(bytes(32))

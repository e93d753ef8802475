"""An update is what the owner of the key signed, to the byte; an older one only where that is asked for."""

import hashlib
from pathlib import Path

import pytest

from appliance.cli.update_choice import check_newer
from appliance.core.errors import BadInputError, RefusedError
from appliance.core.release import Build
from appliance.security.releases import MAGIC, SEAL, SEAL_MAGIC, TRAILER, sign, verified
from appliance.security.signatures import new_key, public_key, read_key

STUB, PAYLOAD = b"the stub" * 10, b"what is inside" * 1000
UNSIGNED = STUB + PAYLOAD + TRAILER.pack(MAGIC, len(PAYLOAD), 4096, hashlib.sha256(PAYLOAD).digest())


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A private key's file, and its public half."""
    file = tmp_path_factory.mktemp("keys") / "release.pem"
    return file, new_key(file)


@pytest.fixture
def signed(keys: tuple[Path, str], tmp_path: Path) -> Path:
    file = tmp_path / "ingle"
    file.write_bytes(UNSIGNED)
    file.chmod(0o755)
    sign(file, read_key(keys[0]), "1.2.3", 1000)
    return file


def test_what_was_signed_is_told(signed: Path, keys: tuple[Path, str]) -> None:
    statement = verified(signed, keys[1])
    assert (statement.version, statement.built_s) == ("1.2.3", 1000)
    assert signed.stat().st_mode & 0o777 == 0o755
    assert signed.read_bytes().startswith(STUB)
    assert signed.read_bytes().endswith(UNSIGNED[len(STUB) :])


def test_a_signature_takes_the_place_of_the_one_before(signed: Path, keys: tuple[Path, str]) -> None:
    before = signed.stat().st_size
    sign(signed, read_key(keys[0]), "1.2.4", 1000)
    assert signed.stat().st_size == before
    assert verified(signed, keys[1]).version == "1.2.4"


def test_every_changed_byte_is_refused(signed: Path, keys: tuple[Path, str]) -> None:
    whole = signed.read_bytes()
    sealed = len(whole) - len(UNSIGNED)  # the statement, its signature and the seal, each byte of it
    places = [
        *range(0, len(STUB), 7),
        *range(len(STUB), len(STUB) + sealed),
        *range(len(STUB) + sealed, len(whole), 97),
    ]
    for at in [*places, *range(len(whole) - TRAILER.size, len(whole))]:
        content = bytearray(whole)
        content[at] ^= 1 << at % 8
        signed.write_bytes(content)
        with pytest.raises(RefusedError):
            verified(signed, keys[1])


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", UNSIGNED[:-100], UNSIGNED, UNSIGNED[len(STUB) :]])
def test_what_is_no_signed_one_file_is_refused(content: bytes, keys: tuple[Path, str], tmp_path: Path) -> None:
    file = tmp_path / "ingle"
    file.write_bytes(content)
    with pytest.raises(RefusedError):
        verified(file, keys[1])


def test_another_ones_signature_is_refused(signed: Path, tmp_path: Path) -> None:
    new_key(tmp_path / "other.pem")
    with pytest.raises(RefusedError, match="another key"):
        verified(signed, public_key(read_key(tmp_path / "other.pem")))


def test_a_seal_that_claims_more_than_there_is_counts_for_none(keys: tuple[Path, str], tmp_path: Path) -> None:
    file = tmp_path / "ingle"
    for claimed in (0, 1, 4096, 2**32 - 1):
        file.write_bytes(STUB + SEAL.pack(SEAL_MAGIC, claimed) + UNSIGNED[len(STUB) :])
        with pytest.raises(RefusedError):
            verified(file, keys[1])


@pytest.mark.parametrize(
    ("old", "new", "taken"),
    [
        (("1.0.0", 5), ("1.0.1", 5), True),
        (("1.0.0", 5), ("1.0.1", 4), True),
        (("1.0.0", 5), ("1.0.0", 5), True),
        (("1.0.0", 5), ("1.0.0", 6), True),
        (("1.0.0-rc.1", 5), ("1.0.0", 5), True),
        (("1.0.0", 5), ("1.0.0", 4), False),
        (("1.0.0", 5), ("1.0.0-rc.1", 9), False),
        (("1.10.0", 5), ("1.9.0", 9), False),
    ],
)
def test_an_older_one_is_taken_only_where_that_is_asked_for(
    old: tuple[str, int], new: tuple[str, int], taken: bool
) -> None:
    check_newer(Build(*old), *new, allow_downgrade=True)
    if taken:
        check_newer(Build(*old), *new, allow_downgrade=False)
    else:
        with pytest.raises(RefusedError, match="--allow-downgrade"):
            check_newer(Build(*old), *new, allow_downgrade=False)


def test_a_file_that_is_no_key_is_told_how_one_is_made(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("no key\n")
    with pytest.raises(
        BadInputError, match=r"page holds no private key .*: expected such as 'ingle pack --new-key FILE' makes"
    ):
        read_key(tmp_path / "page")

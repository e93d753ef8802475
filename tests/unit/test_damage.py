"""Damaged databases: what can be read is served, nothing is taken away, and there is a way back."""

import io
import logging
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.staging import stage
from appliance.cli.stored import examine_stored
from appliance.core.errors import UnauthenticatedError, UnavailableError
from appliance.core.manifest import Manifest
from appliance.core.names import ModelName
from appliance.core.tensors import Signature, TensorSpec
from appliance.gateway.backups import Backups
from appliance.security.keys import KeyRing

SPEC = TensorSpec("x", "FP32", (-1, 4))
MODELS = 120
PAGE = 4096


def deploy(catalogue: Catalogue, name: str, content: bytes) -> None:
    incoming = catalogue.new_incoming()
    (incoming / "upload").write_bytes(b"\x08\x0a" + content)
    manifest = Manifest(description=f"{name} " * 20)
    staged = stage(incoming / "upload", incoming)
    inspection = Inspection(Signature((SPEC,), (SPEC,)), True, "")
    catalogue.publish(staged, inspection, name=ModelName("acme", name), version=None, manifest=manifest)
    catalogue.discard(incoming)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with 120 models of 7 artifacts, closed."""
    folder = tmp_path_factory.mktemp("whole")
    catalogue = Catalogue(folder)
    for number in range(MODELS):
        deploy(catalogue, f"m{number:03}", bytes([number % 7]))
    catalogue.set_alias(ModelName("acme", "m007"), "prod", "1.0.0")
    catalogue.close()
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(whole, tmp_path / "data"))


def damage(file: Path, page: int) -> None:
    content = bytearray(file.read_bytes())
    content[page * PAGE : (page + 1) * PAGE] = random.Random(page).randbytes(PAGE)
    file.write_bytes(content)


def leaves(file: Path, table: str) -> list[int]:
    """Some pages with rows of a table: those of which a marked row's text is part."""
    content = file.read_bytes()
    return sorted({content.find(f"m{n:03} m{n:03}".encode()) // PAGE for n in range(MODELS)} - {-1})


def artifacts(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("artifacts/*/*")}


def test_a_page_with_rows_costs_those_rows_and_no_others(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = copy / "catalogue.sqlite"
    before, pages = artifacts(copy), leaves(file, "version")
    damage(file, pages[len(pages) // 2])
    content = file.read_bytes()
    with caplog.at_level(logging.ERROR):
        catalogue = Catalogue(copy)
    assert "catalogue.sqlite is damaged" in catalogue.fault
    assert catalogue.fault in caplog.text
    assert MODELS - 12 < catalogue.model_count < MODELS
    assert artifacts(copy) == before
    assert all((Path(entry.default.folder) / "model.onnx").exists() for entry in catalogue.search())
    with pytest.raises(UnavailableError, match="nothing is changed"):
        catalogue.delete(catalogue.search()[0].name)
    with pytest.raises(UnavailableError, match="nothing is changed"):
        deploy(catalogue, "new", b"new")
    catalogue.close()
    assert file.read_bytes() == content
    assert artifacts(copy) >= before


@pytest.mark.parametrize("page", range(0, 24, 2))
def test_whatever_page_is_damaged_a_start_succeeds_and_takes_nothing_away(copy: Path, page: int) -> None:
    before = artifacts(copy)
    damage(copy / "catalogue.sqlite", page)
    catalogue = Catalogue(copy)
    if page == 0:
        assert catalogue.model_count == 0
    assert catalogue.fault or catalogue.model_count == MODELS
    catalogue.close()
    assert artifacts(copy) == before


def test_what_could_be_read_is_backed_up_and_restored_and_all_goes_on(copy: Path) -> None:
    file = copy / "catalogue.sqlite"
    before, pages = artifacts(copy), leaves(file, "version")
    damage(file, pages[0])
    catalogue, keys = Catalogue(copy), KeyRing(copy)
    served = [entry.name for entry in catalogue.search()]
    backups = Backups(catalogue, keys)
    with backups.taken("here") as backup:
        saved = b"".join(backup.pieces)
    backups.restore(io.BytesIO(saved))
    assert catalogue.fault == ""
    assert [entry.name for entry in catalogue.search()] == served
    deploy(catalogue, "new", b"new")
    catalogue.close()
    keys.close()
    aside = {path.name for path in copy.glob("artifacts-without-catalogue-*/*/*")}
    assert artifacts(copy) | aside >= before
    assert (copy / "catalogue.sqlite.damaged-1").exists()


def test_damage_found_while_the_node_runs_is_said_and_stops_changes_alone(copy: Path) -> None:
    catalogue = Catalogue(copy)
    with closing(sqlite3.connect(copy / "catalogue.sqlite", isolation_level=None)) as other:  # nothing stays cached
        other.execute("UPDATE model SET last_ordinal = last_ordinal")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for page in range(1, (copy / "catalogue.sqlite").stat().st_size // PAGE):
        damage(copy / "catalogue.sqlite", page)
    with pytest.raises(UnavailableError, match="is damaged"):
        catalogue.delete(ModelName("acme", "m000"))
    assert catalogue.fault
    assert catalogue.model_count == MODELS
    assert str(catalogue.resolve("acme/m007", "prod").version) == "1.0.0"
    catalogue.close()


def test_damaged_keys_lock_nobody_out_and_let_nobody_in(tmp_path: Path) -> None:
    keys = KeyRing(tmp_path)
    old_admin = keys.admin_key_file.read_text().strip()
    other = keys.create("another admin", ["admin"])[1]
    keys.revoke(next(record.id for record in keys.list() if record.label.startswith("admin, made")))
    keys.close()
    damage(tmp_path / "keys.sqlite", 0)

    again = KeyRing(tmp_path)
    assert "keys.sqlite is damaged" in again.fault
    admin = again.admin_key_file.read_text().strip()
    assert again.authenticate(admin).allows("admin", None)
    assert again.admin_key_file.stat().st_mode & 0o077 == 0
    for secret in (old_admin, other):  # the one was revoked, and of the other nothing is known any more
        with pytest.raises(UnauthenticatedError):
            again.authenticate(secret)
    again.close()
    assert (tmp_path / "keys.sqlite.damaged-1").exists()
    third = KeyRing(tmp_path)
    assert third.fault == ""
    assert third.authenticate(admin).allows("admin", None)
    third.close()


def test_keys_that_can_be_read_stay_good(tmp_path: Path) -> None:
    keys = KeyRing(tmp_path)
    admin = keys.admin_key_file.read_text().strip()
    secrets = [keys.create(f"key {number} " + "x" * 60, ["call"])[1] for number in range(100)]
    keys.close()
    file = tmp_path / "keys.sqlite"
    damage(file, file.read_bytes().find(b"key 60 xx") // PAGE)
    again = KeyRing(tmp_path)
    assert again.authenticate(admin).allows("admin", None)

    def good(secret: str) -> bool:
        try:
            return not again.authenticate(secret).allows("admin", None)
        except UnauthenticatedError:
            return False

    assert 60 < sum(map(good, secrets)) < 100
    again.close()


def test_the_doctor_says_what_is_damaged(copy: Path, whole: Path) -> None:
    verdicts = {finding.about: finding.verdict for finding in examine_stored(whole, verify=True)}
    assert verdicts == {"catalogue": "ok", "artifacts": "ok"}
    model = next(copy.glob("artifacts/*/*/model.onnx"))
    content = bytearray(model.read_bytes())
    model.chmod(0o600)
    model.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    bad = [finding for finding in examine_stored(copy, verify=True) if finding.verdict == "fail"]
    assert [finding.about for finding in bad] == ["artifact"]
    assert "acme/m0" in bad[0].sentence
    damage(copy / "catalogue.sqlite", leaves(copy / "catalogue.sqlite", "version")[0])
    assert "fail" in [f.verdict for f in examine_stored(copy, verify=False) if f.about == "catalogue"]


def test_a_flipped_bit_in_an_artifact_is_put_right_by_deploying_it_again(copy: Path) -> None:
    catalogue = Catalogue(copy)
    model = Path(catalogue.resolve("acme/m003").folder) / "model.onnx"
    right = model.read_bytes()
    model.chmod(0o600)
    model.write_bytes(right[:-1] + b"\xff")
    deploy(catalogue, "m003", b"\x03")
    assert model.read_bytes() == right
    catalogue.close()

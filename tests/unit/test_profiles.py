"""What was measured of models is there again after a restart; whatever happens to its file costs nothing else."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from appliance.catalogue.profiles import PROFILES_FILE, Profiles
from appliance.core.profile import Profile, ProfileKey

ONE, TWO = ProfileKey("a" * 64, "cpu/2"), ProfileKey("b" * 64, "cuda:0")
MEASURED = Profile(uss_loaded_bytes=2_000_000, load_s=0.004, run_s={1: 0.001, 8: 0.005}, calls=7, measured_s=1.5)
BOTH = {"a" * 64, "b" * 64}


def kept(folder: Path) -> dict[ProfileKey, Profile]:
    profiles = Profiles(folder)
    found = profiles.all()
    profiles.close()
    return found


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path)
    profiles.put({ONE: Profile(), TWO: MEASURED}, BOTH)
    profiles.put({ONE: MEASURED}, BOTH)
    profiles.close()
    assert kept(tmp_path) == {ONE: MEASURED, TWO: MEASURED}
    assert (tmp_path / PROFILES_FILE).stat().st_mode & 0o077 == 0


def test_what_was_measured_of_a_version_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path)
    profiles.put({ONE: MEASURED, TWO: MEASURED}, BOTH)
    profiles.put({}, {TWO.digest})
    assert profiles.all() == {TWO: MEASURED}
    profiles.put({ONE: MEASURED}, {TWO.digest})
    assert profiles.all() == {TWO: MEASURED}
    profiles.close()


def test_a_file_that_is_no_database_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / PROFILES_FILE).write_bytes(b"whatever it was before" * 1000)
    profiles = Profiles(tmp_path)
    assert profiles.all() == {}
    profiles.put({ONE: MEASURED}, BOTH)
    profiles.close()
    assert kept(tmp_path) == {ONE: MEASURED}


def test_a_file_of_a_later_version_is_begun_anew(tmp_path: Path) -> None:
    Profiles(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / PROFILES_FILE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert kept(tmp_path) == {}


def test_a_page_that_goes_bad_while_the_node_runs_ends_nothing(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path)
    profiles.put({ProfileKey(f"{n:064}", "cpu"): MEASURED for n in range(2000)}, {f"{n:064}" for n in range(2000)})
    profiles.close()
    file = tmp_path / PROFILES_FILE
    profiles = Profiles(tmp_path)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:  # what was read before is read again
        other.execute("DELETE FROM profile WHERE runtime = 'cpu' AND digest < ?", (f"{3:064}",))
    content = bytearray(file.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    file.write_bytes(content)
    assert profiles.all() == {}
    profiles.put({ONE: MEASURED}, BOTH)
    assert profiles.all() == {ONE: MEASURED}
    profiles.close()


def test_a_row_in_another_form_is_passed_over(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path)
    profiles.put({ONE: MEASURED, TWO: MEASURED}, BOTH)
    profiles.close()
    with closing(sqlite3.connect(tmp_path / PROFILES_FILE, isolation_level=None)) as connection:
        connection.execute("UPDATE profile SET profile = '{\"calls\": \"many\"}' WHERE runtime = 'cpu/2'")
    assert kept(tmp_path) == {TWO: MEASURED}


def test_where_nothing_can_be_kept_nothing_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / PROFILES_FILE).mkdir()
    profiles = Profiles(tmp_path)
    profiles.put({ONE: MEASURED}, BOTH)
    assert profiles.all() == {}
    assert "not kept at the moment" in caplog.text
    (tmp_path / PROFILES_FILE).rmdir()
    profiles.put({ONE: MEASURED}, BOTH)
    assert profiles.all() == {ONE: MEASURED}
    profiles.close()

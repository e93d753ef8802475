"""A backup is taken apart as it was put together; whatever was cut, changed or made up is refused."""

import io
import tarfile
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from appliance.catalogue.backup_file import (
    FORM,
    Contents,
    FileMark,
    artifact_file,
    backup_size_bytes,
    read_backup,
    write_backup,
)
from appliance.core.errors import IngleError, RefusedError

LONG = artifact_file("ab" * 32, "weights/" + "very/" * 30 + "long.bin")
FILES = {"catalogue.sqlite": b"c" * 700, artifact_file("ab" * 32, "model.onnx"): b"", LONG: bytes(range(256)) * 4}


class Kept(io.BytesIO):
    """A file that can be read after it was closed."""

    def close(self) -> None:
        pass


def contents_of(files: dict[str, bytes], **fields: object) -> Contents:
    marks = {path: FileMark(len(content), sha256(content).hexdigest()) for path, content in files.items()}
    return msgspec.structs.replace(Contents(FORM, "0.1", "here", 1.5, marks), **fields)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for number, (path, content) in enumerate(FILES.items()):
        found[path] = tmp_path / str(number)
        found[path].write_bytes(content)
    return found


@pytest.fixture
def backup(sources: dict[str, Path]) -> bytes:
    return b"".join(write_backup(contents_of(FILES), sources))


def read(backup: bytes) -> dict[str, bytes]:
    kept: dict[str, Kept] = {}
    contents = read_backup(io.BytesIO(backup), lambda _: None, lambda path: kept.setdefault(path, Kept()))
    assert list(contents.files) == list(kept)
    return {path: file.getvalue() for path, file in kept.items()}


def test_a_backup_is_read_as_it_was_written(backup: bytes) -> None:
    assert read(backup) == FILES
    assert len(backup) == backup_size_bytes(contents_of(FILES))


def test_any_tool_lists_it(backup: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(backup)) as archive:
        assert archive.getnames() == ["ingle-backup.json", *FILES, "ingle-backup.sha256"]
        member = archive.extractfile(LONG)
        assert member is not None
        assert member.read() == FILES[LONG]


def test_a_stream_that_comes_in_crumbs_is_read_alike(backup: bytes) -> None:
    class Crumbs(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 7))

    read_backup(Crumbs(backup), lambda _: None, lambda _: None)


def test_a_backup_cut_anywhere_is_refused(backup: bytes) -> None:
    for length in range(0, len(backup) - 1024, 97):
        with pytest.raises(RefusedError):
            read(backup[:length])


def test_a_changed_bit_is_refused_or_changes_nothing(backup: bytes) -> None:
    refused = 0
    for at in range(0, len(backup) - 1024, 13):
        changed = bytearray(backup)
        changed[at] ^= 0x10
        try:
            assert read(bytes(changed)) == FILES  # padding
        except RefusedError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/passwd",
        "a/b",
        f"artifacts/{'ab' * 32}/../../x",
        f"artifacts/{'ab' * 32}//x",
        "artifacts/ab/x",
        ".",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused_before_anything_is_written(path: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    made_up = b"".join(write_backup(contents_of({path: b"x"}), {path: tmp_path / "x"}))
    with pytest.raises(RefusedError, match="which no backup has"):
        read(made_up)


def test_a_backup_of_another_form_says_which_version_made_it(sources: dict[str, Path]) -> None:
    later = b"".join(write_backup(contents_of(FILES, form=99, release="9.0"), sources))
    with pytest.raises(RefusedError, match=r"Ingle 9\.0"):
        read(later)


@pytest.mark.parametrize("content", [b"", b"no backup", bytes(4096), b"\x08\x0a" * 4096], ids=str)
def test_what_is_no_backup_is_told_so(content: bytes) -> None:
    with pytest.raises(RefusedError, match="no backup"):
        read(content[:40_000])


def test_a_name_without_end_is_not_read(backup: bytes) -> None:
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 2**40
    with pytest.raises(RefusedError):
        read(entry.tobuf(tarfile.GNU_FORMAT) + backup)


def test_a_file_that_is_no_longer_what_it_was_voids_the_backup(sources: dict[str, Path]) -> None:
    sources[LONG].write_bytes(bytes(1024))
    with pytest.raises(IngleError, match="is damaged"):
        b"".join(write_backup(contents_of(FILES), sources))

"""Uploads that mean harm or are a mistake: each is refused with a sentence and leaves nothing outside its folder."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.catalogue import archive
from appliance.catalogue.staging import StagedArtifact, stage
from appliance.core.digests import file_digest
from appliance.core.errors import RefusedError, UnavailableError
from appliance.core.manifest import BytesInput, Manifest

MODEL = b"\x08\x0a the first bytes of a model, which names weights.bin and data/more.bin"
Bundle = dict[str, bytes]
Stage = Callable[[bytes], StagedArtifact]


def bundle(files: Bundle, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as made:
        for path, data in files.items():
            made.writestr(path, data)
    return content.getvalue()


@pytest.fixture
def upload(tmp_path: Path) -> Iterator[Stage]:
    """Stages an upload in a folder of its own, and then looks whether anything else was touched."""
    incoming = tmp_path / "incoming"
    incoming.mkdir()

    def upload(content: bytes) -> StagedArtifact:
        (incoming / "upload").write_bytes(content)
        return stage(incoming / "upload", incoming)

    yield upload
    assert [path.name for path in tmp_path.iterdir()] == ["incoming"]
    assert {path.name for path in incoming.iterdir()} <= {"upload", "artifact"}


def test_a_bundle_keeps_the_model_and_what_it_names(upload: Stage, tmp_path: Path) -> None:
    manifest = """
        description = "what it is"
        tags = ["files"]
        labels = "names.txt"
        [[input]]
        name = "bytes"
        as = "bytes"
        head = 1024
        [limits]
        memory = "1GiB"
    """
    staged = upload(
        bundle(
            {
                "model.onnx": MODEL,
                "weights.bin": b"w" * 1000,
                "data/more.bin": b"m",
                "vectors/parity.json": b"{}",
                "README.md": b"read me",
                "train.py": b"import os",
                "manifest.toml": manifest.encode(),
                "names.txt": "zip\r\nÄ \n\npdf\n\n".encode(),
            }
        )
    )
    kept = {"model.onnx", "weights.bin", "data/more.bin", "vectors/parity.json"}
    assert set(staged.files) == kept
    assert {p.relative_to(staged.folder).as_posix() for p in staged.folder.rglob("*") if p.is_file()} == kept
    assert all(file_digest(staged.folder / path) == digest for path, digest in staged.files.items())
    assert staged.size_bytes == len(MODEL) + 1003
    assert staged.manifest is not None
    assert staged.manifest.labels == ("zip", "Ä", "", "pdf")
    assert staged.manifest.limits.memory_bytes == 2**30
    assert isinstance(staged.manifest.declaration("bytes"), BytesInput)
    assert list((tmp_path / "incoming").iterdir()) == [staged.folder]


def test_a_file_and_a_bundle_of_only_it_are_one_artifact(upload: Stage) -> None:
    alone = upload(MODEL)
    alone.folder.rename(alone.folder.with_name("upload"))
    for path in alone.folder.with_name("upload").iterdir():
        path.unlink()
    alone.folder.with_name("upload").rmdir()
    bundled = upload(bundle({"model.onnx": MODEL, "manifest.toml": b'description = "x"'}))
    assert bundled.digest == alone.digest
    assert (alone.manifest, bundled.manifest) == (None, Manifest(description="x"))


def test_an_artifacts_digest_does_not_depend_on_how_it_was_packed(upload: Stage, tmp_path: Path) -> None:
    files = {"model.onnx": MODEL, "weights.bin": b"w"}
    digests = set()
    for number, content in enumerate(
        (
            bundle(files),
            bundle(files, zipfile.ZIP_STORED),
            bundle(dict(reversed(files.items()))),
            bundle({f"my model/{path}": data for path, data in files.items()}),
            bundle({"other.onnx": MODEL, "weights.bin": b"w", "__MACOSX/._x": b"", ".DS_Store": b""}),
        )
    ):
        incoming = tmp_path / "incoming" / "upload" / str(number)
        incoming.mkdir(parents=True)
        (incoming / "x").write_bytes(content)
        digests.add(stage(incoming / "x", incoming).digest)
    assert len(digests) == 1


def test_labels_are_taken_from_their_file_without_being_named(upload: Stage) -> None:
    staged = upload(bundle({"model.onnx": MODEL, "labels.txt": b"\xef\xbb\xbfa\nb"}))
    assert staged.manifest == Manifest(labels=("a", "b"))
    assert set(staged.files) == {"model.onnx"}


def test_an_artifact_cannot_be_written_to(upload: Stage) -> None:
    staged = upload(MODEL)
    assert stat.S_IMODE((staged.folder / "model.onnx").stat().st_mode) == 0o400


@pytest.mark.parametrize(
    "path",
    [
        "../evil",
        "a/../../evil",
        "/tmp/evil",
        "..",
        "a/..",
        "a/./b",
        "a//b",
        "..\\evil",
        "C:\\evil",
        "C:evil",
        "a\nb",
        "a\x1bb",
        "x" * 300,
        "/".join("abcdefghijklmnopqrstuv"),
    ],
)
def test_a_name_that_leaves_the_folder_or_hides_is_refused(upload: Stage, path: str) -> None:
    with pytest.raises(RefusedError, match="the bundle's entry"):
        upload(bundle({"model.onnx": MODEL, path: b"evil"}))


def test_a_name_with_a_zero_byte_is_refused_and_not_cut(upload: Stage) -> None:
    content = bundle({"model.onnx": MODEL, "weights.binX..": b"evil"}).replace(b"weights.binX..", b"weights.bin\0..")
    with pytest.raises(RefusedError):
        upload(content)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFBLK])
def test_links_and_special_files_are_refused(upload: Stage, kind: int) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.writestr("model.onnx", MODEL)
        entry = zipfile.ZipInfo("weights.bin")
        entry.create_system = 3
        entry.external_attr = (kind | 0o777) << 16
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(RefusedError, match="a link or a special file"):
        upload(content.getvalue())


def test_an_entry_that_is_there_twice_is_refused(upload: Stage) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.writestr("model.onnx", MODEL)
        with pytest.warns(UserWarning, match="Duplicate name"):
            made.writestr("model.onnx", MODEL)
    with pytest.raises(RefusedError, match="twice"):
        upload(content.getvalue())


def test_a_file_that_is_a_folder_too_is_refused(upload: Stage) -> None:
    with pytest.raises(RefusedError, match="both as a file and as a folder"):
        upload(bundle({"model.onnx": MODEL, "weights.bin": b"w", "weights.bin/data": b"w"}))


def test_an_encrypted_entry_is_refused(upload: Stage) -> None:
    content = bytearray(bundle({"model.onnx": MODEL}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    with pytest.raises(RefusedError, match="encrypted"):
        upload(bytes(content))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(upload: Stage, compression: int) -> None:
    with pytest.raises(RefusedError, match="use deflate or store"):
        upload(bundle({"model.onnx": MODEL}, compression))


def test_a_bomb_is_refused_before_it_goes_off(upload: Stage, tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("model.onnx", MODEL)
        with made.open("weights.bin", "w") as file:
            for _ in range(65):
                file.write(bytes(2**20))
    with pytest.raises(RefusedError, match="more than 200 times its size"):
        upload(content.getvalue())
    assert list((tmp_path / "incoming/artifact").iterdir()) == []


def test_an_entry_that_says_less_than_it_holds_is_refused(upload: Stage) -> None:
    content = bytearray(bundle({"model.onnx": MODEL + bytes(2**20)}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + offset, 100)
    with pytest.raises(RefusedError):
        upload(bytes(content))


def test_a_bundle_that_the_disk_has_no_room_for_is_put_off(upload: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "KEEP_FREE_BYTES", 2**62)
    with pytest.raises(UnavailableError, match="make room"):
        upload(bundle({"model.onnx": MODEL}))


def test_too_many_entries_are_refused(upload: Stage) -> None:
    with pytest.raises(RefusedError, match="at most 4096 are taken"):
        upload(bundle({f"{n}": b"" for n in range(4097)}))


@pytest.mark.parametrize("wide", [False, True])
def test_a_list_of_entries_too_long_for_memory_is_not_read(upload: Stage, wide: bool) -> None:
    size = 3 * 2**20
    content = b"PK\x03\x04" + bytes(size)
    if wide:
        content += struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, 4)
        content += struct.pack("<4sIQI", b"PK\x06\x07", 0, size + 4, 1)
        size = 2**32 - 1
    content += struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, size, 4, 0)
    with pytest.raises(RefusedError, match="lists too many entries"):
        upload(content)


def test_every_cut_of_a_bundle_is_refused(upload: Stage, tmp_path: Path) -> None:
    whole = bundle({"model.onnx": MODEL, "weights.bin": b"w" * 50})
    for size in range(len(whole)):
        with pytest.raises(RefusedError):
            upload(whole[:size])
        (tmp_path / "incoming/artifact").rmdir()


def test_every_changed_byte_of_a_bundle_gives_an_artifact_or_a_sentence(upload: Stage, tmp_path: Path) -> None:
    whole = bundle({"model.onnx": MODEL, "weights.bin": b"w" * 50, "manifest.toml": b'labels = ["a"]'})
    outcomes = set()
    for at in range(len(whole)):
        for value in {0xFF, whole[at] ^ 0x01}:
            incoming = tmp_path / "incoming" / "upload" / f"{at}-{value}"
            incoming.mkdir(parents=True)
            (incoming / "x").write_bytes(whole[:at] + bytes((value,)) + whole[at + 1 :])
            try:
                stage(incoming / "x", incoming)
                outcomes.add("staged")
            except (RefusedError, UnavailableError) as error:
                outcomes.add(type(error).__name__)
    assert {"staged", "RefusedError"} <= outcomes


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        (b"= nonsense", "no TOML"),
        (b"colour = 'blue'", "'colour' is no field of it"),
        (b"labels = 'gone.txt'", "not in the bundle"),
        (b"labels = '../../etc/passwd'", "not in the bundle"),
        (b"labels = [1]", "manifest is wrong"),
        (b"name = '../x'", "no model name"),
        (b"version = 'one'", "no version"),
        (b"top_k = 0", "top_k"),
        (b"[limits]\nmemory = 'much'", "no size"),
        (b"[[input]]\nname = 'x'\nas = 'smell'", "manifest is wrong"),
        (b"input = 3", "manifest is wrong"),
        (b"description = '\xff'", "no UTF-8"),
        (b"x = " + b"[" * 5000, "no TOML"),
        (b"#" * (4 * 2**20 + 1), "too large"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_with_the_reason(upload: Stage, manifest: bytes, sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence):
        upload(bundle({"model.onnx": MODEL, "manifest.toml": manifest}))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "no model.onnx; it has nothing"),
        ({"weights.bin": b"w"}, "it has 'weights.bin'"),
        ({"a.onnx": MODEL, "b.onnx": MODEL}, "no model.onnx"),
        ({"net/data.pkl": b"x", "net/version": b"3"}, "PyTorch"),
        ({"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b""}, "Keras"),
        ({"model.onnx": b""}, "model.onnx in the bundle is empty"),
        ({"model.onnx": b"<html>"}, "a web page"),
    ],
)
def test_a_bundle_without_a_model_says_what_it_has(upload: Stage, files: Bundle, sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence):
        upload(bundle(files))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html>\n<html>not found</html>", "web page"),
        (b'\n {"error": "not found"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1c\x00\x00\x00TFL3", "TensorFlow Lite"),
        (b"\x20\x00\x00\x00ORTM", "ORT format"),
        (b"\x80\x04\x95", "pickle"),
        (b"GGUF\x03", "GGUF"),
        (b"\x08\x01\x00\x00\x00\x00\x00\x00" + b'{"weight":{}}', "safetensors"),
        (b"model.onnx" + bytes(247) + b"ustar\x0000", "tar archive"),
        (b"\x7fELF\x02\x01\x01", "a program"),
        (b"just some words", "no ONNX model"),
        (bytes(100), "no ONNX model"),
        (b"PK\x03\x04 and no more", "cut short"),
        (b"PK\x05\x06" + bytes(18), "no model.onnx"),
    ],
)
def test_a_file_of_another_kind_is_named(upload: Stage, content: bytes, sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence):
        upload(content)

"""Lists of artifacts from anyone: what fits an artifact's digest and nothing else is taken."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from appliance.core.digests import folder_digest
from appliance.core.errors import RefusedError
from federation.artifact_list import SMALL_PIECE_BYTES, make_list, piece_mark, read_list

CONTENT = bytes(range(256)) * 2048  # two pieces


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _made(folder: Path, files: dict[str, bytes]) -> tuple[bytes, str, int]:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    digests = {path: _sha(content) for path, content in files.items()}
    return make_list(folder, digests).encoded(), folder_digest(digests), sum(map(len, files.values()))


def test_a_list_is_read_as_it_was_made(tmp_path: Path) -> None:
    files = {"model.onnx": CONTENT + b"tail", "data/w.bin": b"w", "empty": b""}
    text, digest, size_bytes = _made(tmp_path, files)
    listed = read_list(text, digest, size_bytes)
    pieces = list(listed.pieces())
    assert [(p.number, p.file, p.offset, p.size_bytes) for p in pieces] == [
        (0, "data/w.bin", 0, 1),
        (1, "model.onnx", 0, SMALL_PIECE_BYTES),
        (2, "model.onnx", SMALL_PIECE_BYTES, SMALL_PIECE_BYTES),
        (3, "model.onnx", 2 * SMALL_PIECE_BYTES, 4),
    ]
    assert all(piece_mark(files[p.file][p.offset : p.offset + p.size_bytes]) == p.mark for p in pieces)
    assert listed.encoded() == text


def _with(files: dict[str, Any], **said: Any) -> bytes:
    return json.dumps({"piece_bytes": SMALL_PIECE_BYTES, "files": files, **said}).encode()


MARK = "0" * 32
PATHS = ["/etc/x", "../x", "a/../x", "a//x", "", ".", "a\\x", "a\nb", "x" * 300, "/".join("abcdefghijklmnopqrs"), "a/"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    text = _with({path: [_sha(b"x"), 1, MARK]})
    with pytest.raises(RefusedError, match="no file within a folder"):
        read_list(text, folder_digest({path: _sha(b"x")}), 1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"{}", "cannot be read"),
        (_with({}), "names 0 files"),
        (_with({"model.onnx": [_sha(b"y"), 1, MARK]}), "another artifact's"),
        (_with({"model.onnx": [_sha(b"x"), 2**60, MARK]}), "mark for each piece"),
        (_with({"model.onnx": [_sha(b"x"), -1, ""]}), "mark for each piece"),
        (_with({"model.onnx": [_sha(b"x"), 1, ""]}), "mark for each piece"),
        (_with({"model.onnx": [_sha(b"x"), 2, MARK]}), "expected 1"),
        (_with({"model.onnx": [_sha(b"x"), 1, MARK]}, piece_bytes=1), "expected 1"),
        (_with({"model.onnx": [_sha(b"x"), 1, MARK]}, piece_bytes=0), "expected 1"),
        (_with({"model.onnx": [_sha(b"x"), 1, MARK]}, piece_bytes=-5), "expected 1"),
        (b" " * (5 * 2**20), "at most"),
    ],
)
def test_what_is_no_list_of_this_artifact_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        read_list(text, _sha(b"x"), 1)


def test_a_file_that_is_a_folder_too_is_refused() -> None:
    files = {"a": [_sha(b"x"), 1, MARK], "a/b": [_sha(b"x"), 1, MARK]}
    digest = folder_digest({path: _sha(b"x") for path in files})
    with pytest.raises(RefusedError, match="as a file and as a folder"):
        read_list(_with(files), digest, 2)

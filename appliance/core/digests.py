"""Content addresses: sha256 in lower-case hexadecimal, behind `sha256:` where it is shown to people."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(files: Mapping[str, str]) -> str:
    """One digest for several files: the sha256 of the lines `digest  path`, sorted by path.

    A single `model.onnx` has its own digest, so that a bare file and a bundle of only that file are the same artifact.
    """
    if list(files) == ["model.onnx"]:
        return files["model.onnx"]
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()

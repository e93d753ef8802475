"""The stub, compiled once, and files packed behind it with a tiny program inside; and the real one file, built once."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.binary.releases import BAD, HANGS, NEW, OLD, Releases

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
# Says what it was given, where it lies, and waits for the end of its input where it is told to.
PROGRAM = """#!/bin/sh
[ "$1" = wait ] && echo ready && read line
echo "{version} $*"
echo "$0 $INGLE_ONE_FILE" >&2
"""

Pack = Callable[..., Path]


def run(*words: object, cache: Path | str | None, **more: str) -> "subprocess.CompletedProcess[str]":
    """Runs a one file with nothing in its environment but PATH, the cache folder and what is given."""
    environment = {"PATH": os.environ["PATH"], **more}
    if cache is not None:
        environment["INGLE_CACHE_DIR"] = str(cache)
    return subprocess.run(
        list(map(str, words)), env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def wait_for(held: Callable[[], object], *, within_s: float = 60.0) -> None:
    """Returns once this holds; fails where it does not come to hold."""
    ends_s = time.monotonic() + within_s
    while not held():
        assert time.monotonic() < ends_s, "what was waited for did not come"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled stub."""
    if shutil.which("gcc") is None or importlib.util.find_spec("zstandard") is None:
        pytest.skip("gcc and zstandard are needed to make the one file: 'make test-binary' installs them")
    out = tmp_path_factory.mktemp("stub") / "stub"
    command = [sys.executable, str(BUILD / "compile_stub.py"), str(out)]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    if "zstd.h" in compiled.stderr or "-lzstd" in compiled.stderr:
        pytest.skip("zstd's static library is needed to make the one file: 'make test-binary' installs it")
    assert compiled.returncode == 0, compiled.stderr
    return out


@pytest.fixture(scope="session")
def pack_tiny(stub: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Makes a one file of a version with a tiny program in it, and files of its own beside that."""

    def pack(version: str = "1", **files: bytes) -> Path:
        place = tmp_path_factory.mktemp("tiny")
        folder = place / "program"
        (folder / "inner" / "deep").mkdir(parents=True)
        (folder / "ingle").write_text(PROGRAM.format(version=version))
        (folder / "ingle").chmod(0o755)
        (folder / "inner" / "deep" / "data").write_bytes(version.encode() * 3000)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        command = [sys.executable, BUILD / "pack.py", folder, stub, place / "ingle", "--level", "3"]
        subprocess.run(list(map(str, command)), check=True)
        return place / "ingle"

    return pack


@pytest.fixture(scope="session")
def tiny(pack_tiny: Pack) -> Path:
    """A one file with a tiny program in it."""
    return pack_tiny()


@pytest.fixture(scope="session")
def one_file(stub: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real one file, made of the working tree; or the one that INGLE_TEST_BINARY names."""
    if os.geteuid() != 0 or not Path("/bin/busybox").exists():
        pytest.skip("a bare root needs root and busybox: run 'make test-binary' as root")
    if named := os.environ.get("INGLE_TEST_BINARY"):
        return Path(named)
    if importlib.util.find_spec("PyInstaller") is None:
        pytest.skip("PyInstaller is needed to make the one file: 'make test-binary' installs it")
    out = tmp_path_factory.mktemp("one-file")
    command = [sys.executable, BUILD / "binary.py", out / "dist", "--level", "3", "--work", out / "work"]
    built = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-4000:]
    return out / "dist" / "ingle"


@pytest.fixture(scope="session")
def releases(one_file: Path, stub: Path, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """Makes versions of the one file, signed with one key."""
    return Releases(tmp_path_factory.mktemp("releases"), one_file, stub)


@pytest.fixture(scope="session")
def old(releases: Releases) -> Path:
    """A version."""
    return releases.make(OLD)


@pytest.fixture(scope="session")
def new(releases: Releases) -> Path:
    """A later one."""
    return releases.make(NEW)


@pytest.fixture(scope="session")
def hangs(releases: Releases) -> Path:
    """The latest, in which a node migrates the catalogue and then does nothing more."""
    return releases.make(BAD, program=HANGS)

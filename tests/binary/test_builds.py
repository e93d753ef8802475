"""Builds can be compared: the same folder gives the same bytes, and what differs is named."""

import subprocess
import sys
from pathlib import Path

from tests.binary.conftest import BUILD, Pack

SAME = BUILD / "same.py"


def compared(one: Path, other: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SAME), str(one), str(other)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_same_folder_gives_the_same_bytes(pack_tiny: Pack) -> None:
    one, other = pack_tiny("1", more=b"x" * 5000), pack_tiny("1", more=b"x" * 5000)
    assert one.read_bytes() == other.read_bytes()
    done = compared(one, other)
    assert (done.returncode, "the same, byte by byte" in done.stdout) == (0, True)


def test_a_file_that_differs_is_named(pack_tiny: Pack) -> None:
    one, other = pack_tiny("1", more=b"x", gone=b""), pack_tiny("1", more=b"y")
    done = compared(one, other)
    assert done.returncode == 1
    assert done.stdout.splitlines()[1:] == ["  gone", "  more"]

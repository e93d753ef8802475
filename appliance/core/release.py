"""Which release of Ingle this is: the one place where the number stands; the build reads it from here."""

import sys
from pathlib import Path

import msgspec

VERSION = "0.1.0"
# The public half of the key that releases of the one file are signed with. A build may have another one put in.
UPDATE_KEY = "91310fbae1e750c43cbbb604838af76089c8dbb3bddfe827dff406068ff4e166"
# Beside the one file's modules; build/binary.py writes it.
BUILD_FILE = "build.json"


class Build(msgspec.Struct, frozen=True):
    """What the one file's build knew of itself: `built_s` is the time of its commit in Unix seconds (0: no one file),
    `update_key` the key, in hexadecimal, that its updates must be signed with, `runtime` what its models run on at
    best: `cpu` or `gpu`."""

    version: str = VERSION
    built_s: int = 0
    update_key: str = UPDATE_KEY
    runtime: str = ""


def this_build() -> Build:
    """What runs here."""
    file = Path(getattr(sys, "_MEIPASS", "/nonexistent")) / BUILD_FILE
    return msgspec.json.decode(file.read_bytes(), type=Build) if file.is_file() else Build()

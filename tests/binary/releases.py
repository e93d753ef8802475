"""Releases of the one file for tests: what a built one has inside, with another version or another program in it,
signed with a key of the tests' own."""

import io
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import msgspec

from appliance.core.release import BUILD_FILE, Build
from appliance.security.releases import TRAILER, sign
from appliance.security.signatures import new_key, read_key

OLD, NEW, BAD = "1.0.0", "1.1.0", "1.2.0"
SAYS_VERSION = f"""#!/bin/sh
[ "$1" = version ] && echo '{{"version": "{BAD}", "built_s": 9}}' && exit
"""
# What a migration would do: the catalogue is kept, and a later form of it takes its place. Then nothing more happens.
HANGS = f"""{SAYS_VERSION}
cd "${{INGLE_DATA_DIR:-$HOME/.local/share/ingle}}"
mv catalogue.sqlite catalogue.sqlite.before-9
cp /opt/later.sqlite catalogue.sqlite
exec sleep 1000
"""
DIES = f"{SAYS_VERSION}exit 3\n"
BUILD = Path(__file__).parents[2] / "build"


def make_later_catalogue(opt: Path) -> None:
    """What HANGS puts in the catalogue's place."""
    with closing(sqlite3.connect(opt / "later.sqlite")) as later:
        later.execute("PRAGMA user_version = 1000")
    (opt / "later.sqlite").chmod(0o644)


class Releases:
    """Makes them in a folder of its own."""

    def __init__(self, place: Path, built: Path, stub: Path) -> None:
        self._place, self._stub, self._made = place, stub, 0
        self._key = place / "release.pem"
        self.public_key = new_key(self._key)
        self._inside = place / "inside"
        content = built.read_bytes()
        _, payload_bytes, _, _ = TRAILER.unpack(content[-TRAILER.size :])
        payload = content[-TRAILER.size - payload_bytes : -TRAILER.size]
        import zstandard  # only where the one file is made

        tar = zstandard.ZstdDecompressor().decompressobj().decompress(payload)
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            archive.extractall(self._inside, filter="tar")
        self._program = (self._inside / "ingle").read_bytes()

    def make(self, version: str, *, built_s: int = 1, program: str = "", signed: bool = True) -> Path:
        """One of this version; `program`, a shell script, in the place of Ingle."""
        about = Build(version, built_s, self.public_key)
        (self._inside / "_internal" / BUILD_FILE).write_bytes(msgspec.json.encode(about))
        (self._inside / "ingle").write_bytes(program.encode() or self._program)
        self._made += 1
        out = self._place / f"{self._made}-{version}"
        command = [sys.executable, BUILD / "pack.py", self._inside, self._stub, out, "--level", "1"]
        subprocess.run(list(map(str, command)), check=True)
        if signed:
            sign(out, read_key(self._key), version, built_s)
        return out

"""Makes the one file of a folder: the stub, the folder as tar and zstd, and the trailer that the stub reads.

`python build/pack.py FOLDER STUB OUT [--level N]`; FOLDER has a program named `ingle` in it. The same folder and stub
give the same bytes: names are sorted, and times, owners and all but the executable bit are left out. build/stub.h has
the trailer's form.
"""

import argparse
import hashlib
import io
import tarfile
from pathlib import Path

import zstandard

from appliance.security.releases import MAGIC, TRAILER

BEST = 19  # a little smaller than 3 is quick: 38 MB against 46 MB


def archive(folder: Path) -> tuple[bytes, int]:
    """The folder as a tar (ustar), and what its files take together in bytes. Raises ValueError on what is no file."""
    target, total = io.BytesIO(), 0
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            about = tarfile.TarInfo(path.relative_to(folder).as_posix())
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ValueError(f"{path} is neither a file nor a folder: the stub makes nothing else")
            if path.is_dir():
                about.type, about.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(about)
                continue
            content = path.read_bytes()
            about.size, about.mode = len(content), 0o755 if path.stat().st_mode & 0o100 else 0o644
            total += -(-len(content) // 4096) * 4096
            tar.addfile(about, io.BytesIO(content))
    return target.getvalue(), total


def pack(folder: Path, stub: Path, out: Path, level: int) -> None:
    """Writes the one file, by rename."""
    tar, unpacked_bytes = archive(folder)
    # More threads than one divide it at the same places, however many they are.
    payload = zstandard.ZstdCompressor(level=level, threads=2, write_content_size=True).compress(tar)
    trailer = TRAILER.pack(MAGIC, len(payload), unpacked_bytes, hashlib.sha256(payload).digest())
    part = out.with_name(f".{out.name}.part")
    part.write_bytes(stub.read_bytes() + payload + trailer)
    part.chmod(0o755)
    part.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Packs a folder behind the stub.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("stub", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--level", type=int, default=BEST)
    given = parser.parse_args()
    pack(given.folder, given.stub, given.out, given.level)


if __name__ == "__main__":
    main()

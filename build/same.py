"""Whether two builds gave the same bytes, and if not, what differs: `python build/same.py ONE OTHER` (1 where it does).

Names the stub with the signature, the files inside, and of the program itself the modules.
"""

import io
import struct
import sys
import tarfile
from pathlib import Path

import zstandard

from appliance.security.releases import MAGIC, TRAILER


def parts(one_file: Path) -> dict[str, bytes]:
    """What the file is made of, by name. Raises ValueError where it is no one file."""
    content = one_file.read_bytes()
    magic, payload_bytes, _, _ = TRAILER.unpack(content[-TRAILER.size :])
    if magic != MAGIC:
        raise ValueError(f"{one_file} does not end as a one file does")
    at = len(content) - TRAILER.size - payload_bytes
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(content[at : -TRAILER.size])
    found = {"the stub and what is signed": content[:at]}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            file = archive.extractfile(member)
            found[member.name] = struct.pack("<I", member.mode) + (file.read() if file else b"")
    return found


def modules(program: bytes, beside: Path) -> dict[str, bytes]:
    """The modules in a PyInstaller program, which is written to `beside` to be read."""
    from PyInstaller.archive.readers import CArchiveReader

    beside.write_bytes(program[4:])
    try:
        archive = CArchiveReader(str(beside))
        found = {name: archive.extract(name) for name in archive.toc if name != "PYZ.pyz"}
        pyz = archive.open_embedded_archive("PYZ.pyz")
        return found | {name: pyz.extract(name, raw=True) or b"" for name in pyz.toc}
    finally:
        beside.unlink()


def differing(one: Path, other: Path) -> list[str]:
    """The names of what is not the same in both."""
    inside, outside = parts(one), parts(other)
    names = sorted(name for name in inside | outside if inside.get(name) != outside.get(name))
    if "ingle" in names:
        mine, theirs = (modules(found["ingle"], one.with_name(".same")) for found in (inside, outside))
        names += [f"ingle: {name}" for name in sorted(mine | theirs) if mine.get(name) != theirs.get(name)]
    return names


def main() -> None:
    one, other = Path(sys.argv[1]), Path(sys.argv[2])
    if one.read_bytes() == other.read_bytes():
        print(f"{one} and {other} are the same, byte by byte")
        return
    print(f"{one} and {other} differ:", *(differing(one, other) or ["the packing alone"]), sep="\n  ")
    sys.exit(1)


if __name__ == "__main__":
    main()

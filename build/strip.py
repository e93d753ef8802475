"""Takes out of shared libraries what only a debugger or a linker reads. Part of `make binary`.

Each is stripped by itself and kept as it was where that broke it: wheels' libraries were rewritten by patchelf, and
strip may move their segments off their pages, upon which the loader refuses them (numpy's OpenBLAS is one).
"""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

_PT_LOAD = 1


def is_loadable(library: Path) -> bool:
    """Whether every loaded segment of this 64-bit ELF file lies in it where its address says, as the loader asks."""
    content = library.read_bytes()
    offset, size, count = (*struct.unpack_from("<Q", content, 32), *struct.unpack_from("<HH", content, 54))
    for at in range(offset, offset + size * count, size):
        kind, _, start, address = struct.unpack_from("<IIQQ", content, at)
        (alignment,) = struct.unpack_from("<Q", content, at + 48)
        if kind == _PT_LOAD and (start - address) % alignment:
            return False
    return True


def strip(folder: Path) -> list[str]:
    """Strips all shared libraries beneath; the names of those kept as they were."""
    kept = []
    for library in sorted(folder.rglob("*.so*")):
        stripped = library.with_name(library.name + ".stripped")
        done = subprocess.run(["strip", "--strip-unneeded", "-o", stripped, library], capture_output=True, check=False)
        if done.returncode == 0 and "openblas" not in library.name and is_loadable(stripped):
            shutil.copymode(library, stripped)
            stripped.rename(library)
        else:
            kept.append(library.name)
            stripped.unlink(missing_ok=True)
    return kept


if __name__ == "__main__":
    print(*strip(Path(sys.argv[1])))

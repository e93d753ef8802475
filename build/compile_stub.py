"""Compiles the stub, the beginning of the one file: `python build/compile_stub.py OUT`.

Needs gcc and the static libraries of C and zstd (Debian: gcc, libc6-dev, libzstd-dev).
"""

import subprocess
import sys
from pathlib import Path

BUILD = Path(__file__).resolve().parent
SOURCES = ("stub.c", "cache.c", "unpack.c", "sha256.c")
COMPILER = "gcc -static -O2 -std=gnu11 -Wall -Wextra -Werror -Wno-format-truncation -s -Wl,--build-id=none"


def compile_stub(out: Path) -> None:
    """Raises CalledProcessError where it cannot be compiled; the compiler says why on stderr."""
    sources = [str(BUILD / name) for name in SOURCES]
    subprocess.run([*COMPILER.split(), "-o", str(out), *sources, "-lzstd"], check=True)


if __name__ == "__main__":
    compile_stub(Path(sys.argv[1]))

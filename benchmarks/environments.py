"""Virtual environments of their own for the servers that the node is compared with, and the folder they are kept in.

Runs in the benchmark's process. They live outside the repository, in `INGLE_BENCH_CACHE` or the user's cache folder,
are made at first use with pip, one at a time, and found again by what was asked to be installed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads and environments are kept between runs; made if it is not there."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("INGLE_BENCH_CACHE") or user / "ingle-bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The python of an environment with these packages, made if need be. Raises CalledProcessError where pip fails."""
    asked = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{asked}"
    python = folder / "bin" / "python"
    finished = folder / "finished"
    if not finished.exists():
        sys.stderr.write(f"installing {', '.join(requirements)} into {folder}\n")
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", *requirements], check=True)
        finished.write_text("\n".join(requirements) + "\n")
    return python


def installed_version(python: Path, package: str) -> str:
    """The version of a package in that environment."""
    program = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout.strip()

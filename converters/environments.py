"""A throw-away environment for one conversion, made with `uv` from the pins of the framework's extra.

Runs in the command line's process. It has the framework, what a conversion itself needs, and a copy of this code.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import appliance
import converters
from appliance.core.errors import UnavailableError, UnsupportedError
from appliance.core.own_program import is_one_file
from converters.converter import Converter
from converters.isolation import Environment
from converters.registry import pins

INSTALL_S = 1800.0
_NEEDED = ("msgspec>=0.19", "numpy>=2.1", "onnxruntime>=1.31", "pillow>=11.1", "tomli-w>=1.2")


@contextmanager
def environment(converter: Converter) -> Iterator[Environment]:
    """The environment, gone afterwards; it lies outside the conversion's workplace, which is watched and bounded.

    Raises UnsupportedError where uv is not there, UnavailableError where it cannot be made.
    """
    if is_one_file():
        raise UnsupportedError(
            "the one file carries no Python to make environments with: convert on a workstation, where ingle is "
            "installed with pip, and deploy the bundle that comes of it"
        )
    uv = find_uv()
    wanted = pins(converter.extra)
    if not wanted and converter.modules:
        raise UnsupportedError(f"no pins are known for {converter.title}: install ingle itself with pip")
    try:
        folder = Path(tempfile.mkdtemp(prefix="ingle-environment-"))
    except OSError as error:
        raise UnavailableError(f"the environment could not be made: {error}") from None
    try:
        yield _made(uv, (*wanted, *_NEEDED), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(uv: str, packages: Sequence[str], folder: Path) -> Environment:
    python, code = folder / "env" / "bin" / "python", folder / "code"
    try:
        _require(_run([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "env")]))
        _install(uv, python, tuple(dict.fromkeys(packages)))
        for package in (appliance, converters):
            source = Path(package.__path__[0])
            shutil.copytree(source, code / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    except OSError as error:  # a disk that is full, a uv that does not run
        raise UnavailableError(f"the environment could not be made: {error}") from None
    return Environment(str(python), str(code))


def _install(uv: str, python: Path, packages: Sequence[str]) -> None:
    command = [uv, "pip", "install", "--quiet", "--python", str(python), *packages]
    has_torch = any(package.startswith("torch==") for package in packages)
    # A conversion uses no GPU, and PyTorch for GPUs is gigabytes more. Its builds without are not everywhere to be had.
    if has_torch and "UV_TORCH_BACKEND" not in os.environ and not _run([*command, "--torch-backend", "cpu"]):
        return
    _require(_run(command))


def find_uv() -> str:
    """The program's path. Raises UnsupportedError where it is not there."""
    beside = Path(sys.executable).with_name("uv")
    if beside.is_file():
        return str(beside)
    if found := shutil.which("uv"):
        return found
    raise UnsupportedError("--isolate needs uv, which makes environments: pip install uv")


def _run(command: Sequence[str]) -> str:
    """uv's last words where it failed, and nothing else. Raises UnavailableError where it takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        words = f"the environment was not made within {INSTALL_S:.0f} s: {' '.join(command[:3])}"
        raise UnavailableError(words) from None
    if not done.returncode:
        return ""
    return " ".join(done.stderr.split())[-600:] or f"{' '.join(command[:3])} ended with status {done.returncode}"


def _require(last_words: str) -> None:
    if last_words:
        raise UnavailableError(f"the environment could not be made: {last_words}")

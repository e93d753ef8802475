"""NVIDIA's perf_analyzer, unmodified, against both fronts of a node: `python -m benchmarks.perf_analyzer`.

How the real program comes to run:

- PyPI's project `perf-analyzer` has a release 0.1.0 that is an empty placeholder, which is what pip takes where glibc
  is older than 2.38, and 2.60.0, tagged `manylinux_2_38_x86_64`, which carries the binary. pip downloads the latter
  where the platform is named; it is unpacked, not installed.
- The binary wants glibc 2.38, a newer libstdc++ and OpenSSL 3. Where the system's libc is older, the packages of Debian
  trixie are downloaded by apt with a configuration and state of its own (the system's sources are read for the mirror's
  address, nothing of it is changed), unpacked beside the binary, and used through their own dynamic loader.

All of it is kept in the benchmarks' cache folder. Runs in the benchmark's process.
"""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environments import cache_folder
from benchmarks.models import tiny
from benchmarks.processes import node
from benchmarks.report import Section, write_section

_WHEEL = "perf-analyzer==2.60.0"
_PLATFORM = "manylinux_2_38_x86_64"
_NEEDED_GLIBC = (2, 38)
_SUITE = "trixie"
_PACKAGES = ("libc6", "libstdc++6", "libgcc-s1", "libssl3t64", "zlib1g", "libzstd1")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_FIGURES = re.compile(r"^Concurrency: (\d+), throughput: ([\d.]+) infer/sec, latency (\d+) usec", re.MULTILINE)


def _system_glibc() -> tuple[int, ...]:
    name = os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0.0"
    return tuple(int(part) for part in name.split()[-1].split("."))


def _debian_mirror() -> str:
    """The archive that this system's apt takes Debian's packages from. Raises RuntimeError where it has none."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], check=True, capture_output=True, text=True
    )
    for address in listed.stdout.split():
        if address.rstrip("/").endswith("/debian"):
            return address
    raise RuntimeError("apt knows no archive of Debian: run on a Debian system, or on one with glibc 2.38 or newer")


def _newer_libraries(folder: Path) -> Path:
    """The folder with trixie's libraries, unpacked from its packages."""
    libraries = folder / "root" / "usr" / "lib" / "x86_64-linux-gnu"
    if (libraries / "libssl.so.3").exists():
        return libraries
    sources, packages = folder / "apt" / f"{_SUITE}.sources", folder / "packages"
    for made in ("apt/lists/partial", "apt/cache/archives/partial", "packages", "root"):
        (folder / made).mkdir(parents=True, exist_ok=True)
    (folder / "apt" / "status").touch()
    sources.write_text(
        f"Types: deb\nURIs: {_debian_mirror()}\nSuites: {_SUITE}\nComponents: main\n"
        f"Architectures: amd64\nSigned-By: {_KEYRING}\n"
    )
    own = {
        "Dir::State::Lists": folder / "apt" / "lists",
        "Dir::State::status": folder / "apt" / "status",
        "Dir::Cache": folder / "apt" / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in own.items())]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *_PACKAGES], check=True, cwd=packages)
    for package in sorted(packages.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
    return libraries


def _binary(folder: Path) -> Path:
    """The program, from its wheel."""
    binary = folder / "perf_analyzer" / "bin" / "perf_analyzer"
    if not binary.exists():
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-qq",
            "--no-deps",
            "--only-binary=:all:",
            "--platform",
            _PLATFORM,
        ]
        subprocess.run([*pip, "-d", folder, _WHEEL], check=True)
        with zipfile.ZipFile(next(folder.glob("perf_analyzer-*.whl"))) as wheel:
            wheel.extractall(folder)
        binary.chmod(0o755)
    return binary


def prepare() -> list[str]:
    """The start of a command line that runs perf_analyzer; downloads what is missing. Raises CalledProcessError."""
    folder = cache_folder() / "perf-analyzer"
    folder.mkdir(exist_ok=True)
    binary = _binary(folder)
    if _system_glibc() >= _NEEDED_GLIBC:
        return [str(binary)]
    libraries = _newer_libraries(folder)
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), str(binary)]


def run(prepared: Sequence[str], address: str, front: str, model: str, *options: str) -> str:
    """Everything that perf_analyzer printed. Raises RuntimeError with it where it failed."""
    command = [*prepared, "-m", model, "-u", address, "-i", front, *options]
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    if done.returncode != 0:
        raise RuntimeError(f"perf_analyzer ended with {done.returncode}: {done.stdout[-3000:]}")
    return done.stdout


_FRONTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("HTTP, binary", "http", ()),
    ("HTTP, JSON", "http", ("--input-tensor-format", "json", "--output-tensor-format", "json")),
    ("gRPC", "grpc", ()),
    ("gRPC, streaming", "grpc", ("--async", "--streaming")),
)


def measure() -> Section:
    """The tiny model over both fronts, one caller and 32. Raises RuntimeError where perf_analyzer failed."""
    prepared = prepare()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with node([tiny.write(folder)], folder) as served:
            for label, front, options in _FRONTS:
                address = served.http if front == "http" else served.grpc
                for concurrency in ("1", "32"):
                    timing = (
                        "--concurrency-range",
                        concurrency,
                        "-p",
                        "2000",
                        "-s",
                        "95",
                    )  # a shared machine is never stable
                    printed = run(prepared, address, front, tiny.name, *timing, *options)
                    sys.stdout.write(printed)
                    found = _FIGURES.search(printed)
                    if found is None:
                        raise RuntimeError(f"perf_analyzer printed no figures: {printed[-3000:]}")
                    rows.append((label, concurrency, f"{float(found[2]):,.0f}", f"{int(found[3]):,}"))
    return Section(
        "perf_analyzer",
        f"perf_analyzer of {_WHEEL.replace('==', ' ')}, unmodified, tiny model. It shares the cores with the node.",
        ("front", "concurrency", "inferences a second", "mean latency, µs"),
        rows,
    )


if __name__ == "__main__":
    write_section(measure())

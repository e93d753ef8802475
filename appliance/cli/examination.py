"""What `ingle doctor` looks at. Each examination is a function that answers findings and changes nothing for good.

Layers that confine a process are tried in child processes, since they cannot be taken off again; onnxruntime is asked
in one too, since it may crash or take its time.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from appliance.cli.output import size_words
from appliance.cli.target import NodeFile, read_node_file
from appliance.core.addresses import parse_address
from appliance.core.errors import BadInputError, NotFoundError
from appliance.core.listening import why_not
from appliance.core.own_program import own_command
from appliance.security.tls import TLS_BUNDLE, read_tls
from appliance.settings import Settings
from appliance.variables import unknown_variables

MIN_FREE_DISK_BYTES = 2**30
MIN_AVAILABLE_MEMORY_BYTES = 512 * 2**20
_CHILD_S = 60.0


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. `warn`: a node does without it; `fail`: no node runs until it is put right."""

    about: str
    verdict: Literal["ok", "warn", "fail"]
    sentence: str


def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which they matter to someone who sets a box up."""
    return [
        *_system(),
        *_runtime(settings.device),
        *_sandbox(),
        _data_dir(settings.data_dir),
        *(Finding("settings", "warn", sentence) for sentence in unknown_variables()),
        *_ports(settings),
        *_tls(settings),
        _memory(),
    ]


def _system() -> Iterator[Finding]:
    linux = platform.system() == "Linux"
    yield Finding(
        "kernel",
        "ok" if linux else "fail",
        f"{platform.system()} {platform.release()} on {platform.machine()}"
        + ("" if linux else ": a node needs Linux, for its sockets, process handles and sandbox"),
    )
    recent = sys.version_info >= (3, 11)
    yield Finding(
        "python",
        "ok" if recent else "fail",
        f"{platform.python_version()} at {sys.executable}" + ("" if recent else ": 3.11 or newer is needed"),
    )


def _apart(*what: str) -> tuple[str, str]:
    """What the role `examine` prints of this and, where it failed, its last word."""
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    try:
        done = subprocess.run(
            own_command("examine", *what),
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=_CHILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_CHILD_S:.0f} seconds"
    last = done.stderr.strip().rsplit("\n", 1)[-1] or f"it ended with status {done.returncode}"
    return done.stdout.strip(), "" if done.returncode == 0 else last


def _runtime(device: str) -> Iterator[Finding]:
    output, fault = _apart("runtime")
    if fault:
        yield Finding("onnxruntime", "fail", f"it cannot be imported ({fault}): install ingle[cpu] or ingle[gpu]")
        return
    version, providers, lacking = json.loads(output)
    yield Finding("onnxruntime", "ok", f"{version}, built with {', '.join(providers)}")
    driver = Path("/proc/driver/nvidia/version").exists()
    built = "CUDAExecutionProvider" in providers
    if driver and not built:
        yield Finding(
            "gpu",
            "warn",
            "there is an NVIDIA driver, but this is the CPU's runtime: install ingle[gpu], or take the one file "
            "that was built with RUNTIME=gpu",
        )
    elif lacking:
        yield Finding("gpu", "warn", f"the GPU's runtime is here, and models run on the CPU, since {lacking}")
    elif built:
        yield _gpu(device)
    else:
        yield Finding("gpu", "ok", "none, models run on the CPU")


def _gpu(device: str) -> Finding:
    output, fault = _apart("gpu", device)
    if fault:
        return Finding("gpu", "warn", f"models run on the CPU, since the GPU could not be tried: {fault}")
    providers, why, free_bytes = json.loads(output)
    if why:
        asked_for = device != "cpu"
        return Finding("gpu", "warn" if asked_for else "ok", f"models run on the CPU, since {why}")
    free = f", {size_words(free_bytes)} of its memory are free" if free_bytes >= 0 else ""
    return Finding("gpu", "ok", f"models run on it, by {', '.join(providers)}{free}")


def _sandbox() -> Iterator[Finding]:
    output, fault = _apart("layers")
    if fault:
        yield Finding("sandbox", "warn", f"its layers could not be tried: {fault}")
    else:
        for name, active, detail in json.loads(output):
            yield Finding(f"sandbox: {name}", "ok" if active else "warn", detail)


def _data_dir(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        if existing == folder:
            with tempfile.TemporaryFile(dir=folder):
                pass
        elif not os.access(existing, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        return Finding(
            "data folder", "fail", f"{folder} cannot be written ({error.strerror}): choose another, --data-dir"
        )
    stats = os.statvfs(existing)
    free_bytes = stats.f_bavail * stats.f_frsize
    return Finding(
        "data folder",
        "ok" if free_bytes >= MIN_FREE_DISK_BYTES else "warn",
        f"{folder} can be {'written' if existing == folder else 'made'}, {size_words(free_bytes)} are free",
    )


def _running(data_dir: Path) -> NodeFile:
    """What the node of this data folder says of itself, if it runs."""
    told = read_node_file(data_dir)
    return told if told is not None and Path(f"/proc/{told.pid}").exists() else NodeFile()


def _ports(settings: Settings) -> Iterator[Finding]:
    running = _running(settings.data_dir)
    for front in ("http", "grpc", "zmq", "mesh"):
        said = getattr(settings, front)
        address = parse_address(said)
        if address is None or address.port == 0:
            continue
        why = why_not(address, every=front == "http")
        if why and getattr(running, front) is not None:
            yield Finding(f"port: {front}", "ok", f"{said}: the node that runs here (pid {running.pid}) has it")
        elif why:
            words = f"{said} cannot be taken: {why}. Does a node run already? Else choose another, --{front}"
            yield Finding(f"port: {front}", "warn", words)
        else:
            yield Finding(f"port: {front}", "ok", f"{said} is free")


def _tls(settings: Settings) -> Iterator[Finding]:
    """The certificate that is named or, where none is, the one that a node in this data folder made for itself."""
    own = settings.data_dir / TLS_BUNDLE
    chain, key = settings.tls_cert or own, settings.tls_key or own
    if not (settings.tls_cert or settings.tls_key) and not own.exists():
        made = "made at the first start" if settings.tls else "off: --tls self or --tls-cert and --tls-key turn it on"
        yield Finding("TLS", "ok", made)
        return
    try:
        yield Finding("TLS", "ok", f"certificate {chain}, SHA-256 {read_tls(chain, key).fingerprint}")
    except (BadInputError, NotFoundError) as error:
        yield Finding("TLS", "fail", error.sentence)


def _memory() -> Finding:
    rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kib_by_name = {row[0].rstrip(":"): int(row[1]) for row in rows}
    available_bytes = kib_by_name.get("MemAvailable", 0) * 1024
    return Finding(
        "memory",
        "ok" if available_bytes >= MIN_AVAILABLE_MEMORY_BYTES else "warn",
        f"{available_bytes / 2**30:.1f} of {kib_by_name.get('MemTotal', 0) / 2**20:.1f} GiB are available",
    )

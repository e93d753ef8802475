"""Servers as subprocesses: start one, wait until it answers, end it. Runs in the benchmark's process.

Knows how the node and the baselines are started, nothing of what they answer.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measured import LoadError

ROOT = Path(__file__).resolve().parent.parent
_START_S = 60.0
_STOP_S = 15.0


@contextlib.contextmanager
def running(
    command: Sequence[str],
    ready: Callable[[], bool],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    own_group: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once `ready()` says so; terminated at the end, with its whole group where it has its own.

    Raises LoadError with its last words where it ends first or is not ready in a minute.
    """
    with log.open("wb") as log_file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            env={**os.environ, **(environment or {})},
            start_new_session=own_group,
        )
        try:
            _wait_ready(process, ready, log)
            yield process
        finally:
            _end(process, own_group)


def _wait_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    give_up_s = time.monotonic() + _START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > give_up_s:
            last_words = log.read_text(errors="replace")[-2000:]
            raise LoadError(f"{process.args!r} did not become ready; it said: {last_words}")
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes], own_group: bool) -> None:
    if own_group:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            os.killpg(process.pid, signal.SIGKILL)  # what a server leaves behind of its own processes
        process.wait()
        return
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def bare_server(kind: str, model: Path, folder: Path) -> Iterator[str]:
    """A baseline (`bare_http`, `bare_grpc`) serving this file; yields its address."""
    ready_file = folder / f"{kind}-{model.stem}.ready"
    command = [sys.executable, "-m", f"benchmarks.baselines.{kind}", str(model), str(ready_file)]
    with running(command, ready_file.exists, log=ready_file.with_suffix(".log")):
        yield ready_file.read_text()


@dataclass(frozen=True)
class Node:
    """A node that answers. `admin_key` deploys; calling needs none, for it was started `--open`."""

    pid: int
    http: str
    grpc: str
    zmq: str
    admin_key: str


PACKAGE = (sys.executable, "-m", "appliance.cli.main")


@contextlib.contextmanager
def node(
    models: Sequence[Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = PACKAGE,
) -> Iterator[Node]:
    """A node that serves these files under their stems, from a data folder of its own, with no mesh."""
    ready_file = folder / "node.ready"
    ready_file.unlink(missing_ok=True)
    command = [*program, "serve", *map(str, models)]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--zmq", "127.0.0.1:0", "--mesh", "off", "--open"]
    command += ["--data-dir", str(folder / "node"), "--ready-file", str(ready_file)]
    with running(command, ready_file.exists, log=folder / "node.log", environment=environment) as process:
        said = json.loads(ready_file.read_text())
        key = Path(said["admin_key_file"]).read_text().strip()
        yield Node(process.pid, said["http"], said["grpc"], said["zmq"], key)
        if process.poll() is not None:
            raise LoadError(f"the node ended by itself: {(folder / 'node.log').read_text(errors='replace')[-2000:]}")


def deploy(served: Node, model: str, content: bytes, kind: str = "application/octet-stream") -> None:
    """Deploys a model's file, or a bundle (`kind` application/zip), as `local/MODEL`."""
    headers = {"Authorization": f"Bearer {served.admin_key}", "Content-Type": kind}
    url = f"http://{served.http}/v1/models/local/{model}"
    with urllib.request.urlopen(
        urllib.request.Request(url, content, headers, method="PUT"), timeout=_START_S
    ) as answer:
        answer.read()


def unload(served: Node, model: str) -> None:
    """Ends the workers of a model and returns once they are gone: its next call finds it cold."""
    headers = {"Authorization": f"Bearer {served.admin_key}"}
    order = urllib.request.Request(f"http://{served.http}/v2/repository/models/{model}/unload", b"{}", headers)
    urllib.request.urlopen(order, timeout=_STOP_S).close()
    give_up_s = time.monotonic() + _STOP_S
    described = urllib.request.Request(f"http://{served.http}/v1/models/{model}", headers=headers)
    while True:
        with urllib.request.urlopen(described, timeout=_STOP_S) as answer:
            if not json.load(answer)["workers"]:
                return
        if time.monotonic() > give_up_s:
            raise LoadError(f"{model} still has workers {_STOP_S:.0f} s after it was unloaded")
        time.sleep(0.01)


def bare_session(model: Path, seconds: float, core: str = "any", device: str = "cpu") -> dict[str, float]:
    """`session.run` in a loop in its own process, one thread: `calls_per_s`, `p50_s`, `p99_s`.

    Raises LoadError with its last words where it fails.
    """
    command = [sys.executable, "-m", "benchmarks.baselines.bare_session", str(model), str(seconds), core, device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise LoadError(f"the bare session failed: {done.stderr.decode(errors='replace')[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures

"""What all tests share: a real node, as a process of its own, with its own data folder and the system's free ports."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

START_TIMEOUT_S = 60.0


class RunningNode(NamedTuple):
    """A node that answers. `url` is HTTP's, `http`, `grpc` and `zmq` are HOST:PORT."""

    process: subprocess.Popen[bytes]
    http: str
    grpc: str
    zmq: str
    url: str
    admin_key: str
    data_dir: Path
    log: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.admin_key}"}


def start_node(folder: Path, *flags: str, data_dir: Path | None = None, descriptors: int | None = None) -> RunningNode:
    """Starts `ingle serve` and returns once its ready file is there; fails with its output if it ends before that.

    `descriptors`: how many it may have open, whatever it asks for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / "ready.json", folder / "node.log"
    ready.unlink(missing_ok=True)
    data = data_dir or folder / "data"
    command = [sys.executable, "-m", "appliance.cli.main", "serve", *os.environ.get("TEST_FLAGS", "").split()]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--zmq", "127.0.0.1:0", "--mesh", "off", *flags]
    command += ["--data-dir", str(data), "--ready-file", str(ready)]
    if descriptors is not None:
        command = ["prlimit", f"--nofile={descriptors}:{descriptors}", *command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INGLE_")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    ends_s = time.monotonic() + START_TIMEOUT_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > ends_s:
            process.kill()
            process.wait()
            raise RuntimeError(f"the node did not start:\n{log.read_text()}")
        time.sleep(0.01)
    told = json.loads(ready.read_text())
    key = Path(told["admin_key_file"]).read_text().strip()
    return RunningNode(process, told["http"], told["grpc"], told["zmq"], f"http://{told['http']}", key, data, log)


def stop_node(node: RunningNode) -> int:
    """Ends a node as a person would, and returns its exit status."""
    if node.process.poll() is None:
        node.process.send_signal(signal.SIGTERM)
    try:
        return node.process.wait(30)
    except subprocess.TimeoutExpired:
        node.process.kill()
        node.process.wait()
        raise


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """One node for all tests that do not break it. Give models names of your own."""
    running = start_node(tmp_path_factory.mktemp("node"))
    yield running
    assert stop_node(running) == 0


@pytest.fixture(scope="session")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """As `node`, but its connections are taken by three front processes: whatever is asked, the answer is the same."""
    running = start_node(tmp_path_factory.mktemp("fronted"), "--fronts", "3")
    yield running
    assert stop_node(running) == 0


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Callable[..., RunningNode]]:
    """Makes nodes for one test, which may break them: `nodes("--open")`."""
    started: list[RunningNode] = []

    def start(*flags: str, data_dir: Path | None = None, descriptors: int | None = None) -> RunningNode:
        folder = tmp_path / f"node{len(started)}"
        running = start_node(folder, *flags, data_dir=data_dir, descriptors=descriptors)
        started.append(running)
        return running

    yield start
    for running in started:
        stop_node(running)

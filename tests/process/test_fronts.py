"""A node whose connections are taken by front processes: what breaks with one of them, and what does not."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import RunningNode
from tests.process.models import counting, doubling
from tests.process.test_faults import FOR_EVER, deploy, gone, wait_until

Nodes = Callable[..., RunningNode]
CALL = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


def fronts_of(node: RunningNode) -> list[int]:
    """The front processes that run, by their command lines."""
    tasks = Path(f"/proc/{node.process.pid}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    return [int(child) for child in children if b"front_process" in Path(f"/proc/{child}/cmdline").read_bytes()]


def serves(sock: socket.socket, pid: int) -> bool:
    """Whether the other end of this connection is the process's: each socket's inode is in its descriptors."""
    mine = f"{sock.getsockname()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2].endswith(f":{mine}") and fields[3] == "01":
            links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
            return f"socket:[{fields[9]}]" in links
    return False


class Caller:
    """One kept-alive connection to the node."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        host, port = node.http.split(":")
        self.sock = socket.create_connection((host, int(port)), timeout=30)
        self._file = self.sock.makefile("rb")

    def send(self, model: str, body: object) -> None:
        content = json.dumps(body).encode()
        self.sock.sendall(
            f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {self._node.admin_key}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )

    def read(self) -> tuple[int, bytes]:
        status = int(self._file.readline().split()[1])
        size = 0
        while line := self._file.readline().strip().lower():
            if line.startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        return status, self._file.read(size)

    def call(self) -> list[float]:
        self.send("doubling", CALL)
        status, content = self.read()
        assert status == 200, content
        values: list[float] = json.loads(content)["outputs"][0]["data"]
        return values

    def close(self) -> None:
        self._file.close()
        self.sock.close()


@pytest.fixture
def node(nodes: Nodes, tmp_path: Path) -> RunningNode:
    made = nodes("--fronts", "2")
    deploy(made, "doubling", doubling(tmp_path / "doubling.onnx"))
    return made


@pytest.fixture
def callers(node: RunningNode) -> Iterator[dict[int, Caller]]:
    """A caller at each front, by the front's pid."""
    found: dict[int, Caller] = {}
    others = []
    fronts = fronts_of(node)
    assert len(fronts) == 2
    while len(found) < 2:
        caller = Caller(node)
        caller.call()
        pid = next(pid for pid in fronts if serves(caller.sock, pid))
        if pid in found:
            others.append(caller)
        else:
            found[pid] = caller
    yield found
    for caller in (*found.values(), *others):
        caller.close()


def test_a_killed_front_takes_its_own_connections_with_it_and_another_is_started(
    node: RunningNode, callers: dict[int, Caller]
) -> None:
    killed, living = callers
    os.kill(killed, signal.SIGKILL)
    assert callers[killed].sock.recv(1) == b""
    assert callers[living].call() == [2, 4]
    wait_until(lambda: len(set(fronts_of(node)) - {killed}) == 2, "another front runs")
    again = next(iter(set(fronts_of(node)) - {killed, living}))

    def answers() -> bool:
        caller = Caller(node)
        try:
            return caller.call() == [2, 4] and serves(caller.sock, again)
        finally:
            caller.close()

    wait_until(answers, "the new front answers")


def test_nothing_of_a_killed_node_goes_on(node: RunningNode, callers: dict[int, Caller]) -> None:
    node.process.send_signal(signal.SIGKILL)
    node.process.wait(30)
    for pid, caller in callers.items():
        assert caller.sock.recv(1) == b""
        wait_until(lambda pid=pid: gone(pid), "the front has ended")  # type: ignore[misc]


def test_a_caller_that_goes_is_gone_for_the_node_too(node: RunningNode, tmp_path: Path) -> None:
    deploy(node, "counting", counting(tmp_path / "counting.onnx"))
    caller = Caller(node)
    caller.send("counting", {"inputs": [{"name": "turns", "shape": [1], "datatype": "INT64", "data": [FOR_EVER]}]})

    def calls_at_work() -> int:
        told = requests.get(f"{node.url}/v1/models/counting", headers=node.headers, timeout=30).json()
        return sum(worker["in_flight"] for worker in told["workers"])

    wait_until(lambda: calls_at_work() == 1, "the call is at work")
    caller.close()
    # Were it still waited for, the node would wait with it, and be cut off.
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(30) == 0
    assert "cut off" not in node.log.read_text()


def test_fronts_import_no_model_runtime_and_open_no_catalogue(fronted: RunningNode) -> None:
    assert len(fronts_of(fronted)) == 3
    for pid in fronts_of(fronted):
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert "uvloop" in mapped
        assert not [word for word in ("numpy", "onnxruntime", "sqlite", "aiohttp") if word in mapped]


@pytest.mark.parametrize("fronts", ["1", "2"])
def test_a_second_node_does_not_share_the_port_in_silence(fronted: RunningNode, tmp_path: Path, fronts: str) -> None:
    command = [sys.executable, "-m", "appliance.cli.main", "serve", "--fronts", fronts, "--http", fronted.http]
    command += ["--grpc", "off", "--data-dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "could not start" in ended.stderr


def test_nobody_is_believed_who_introduces_himself(fronted: RunningNode) -> None:
    host, port = fronted.http.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.sendall(b"PROXY TCP4 10.0.0.1 10.0.0.2 5 80\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        with sock.makefile("rb") as answer:
            assert answer.readline().split()[1] == b"400"

"""What the node holds when its processes are killed, hang or are told to end. Real processes, real kills."""

import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from appliance.core.own_program import own_command
from tests.conftest import RunningNode, stop_node
from tests.process.models import bundle, counting, doubling

FOR_EVER = 10**15  # turns of the counting model
QUICK = 3


def ask(
    node: RunningNode, path: str, body: Any = None, *, method: str | None = None, deadline_ms: float | None = None
) -> Any:
    """One request with the admin key; the JSON answer. Raises HTTPError for other statuses than 2xx."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(node.url + path, data, node.headers, method=method)
    request.add_header("Content-Type", "application/json")
    if deadline_ms is not None:
        request.add_header("X-Ingle-Deadline-Ms", str(deadline_ms))
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def refusal(node: RunningNode, path: str, body: Any) -> tuple[int, dict[str, str]]:
    """The status and the error of a request that must fail."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(node, path, body)
    with caught.value as error:
        return error.code, json.loads(error.read())


def deploy(node: RunningNode, name: str, file: Path) -> None:
    ask(node, f"/v1/models/{name}", file.read_bytes(), method="PUT")


def double(node: RunningNode, number: float) -> float:
    value = ask(node, "/v1/models/doubling", [number, 0])["outputs"]["y"][0][0]
    assert isinstance(value, float)
    return value


def workers(node: RunningNode, name: str) -> list[int]:
    return [worker["pid"] for worker in ask(node, f"/v1/models/{name}")["workers"]]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Looks again and again, and gives up after half a minute."""
    ends_s = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends_s, f"it never came that {what}"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def one(nodes: Callable[..., RunningNode], tmp_path: Path) -> RunningNode:
    """A node of this test's own, with the doubling model in it."""
    node = nodes()
    deploy(node, "doubling", doubling(tmp_path / "doubling.onnx"))
    return node


def test_no_call_fails_when_its_worker_is_killed_again_and_again(one: RunningNode) -> None:
    stop = threading.Event()

    def call_until_told(start: int) -> int:
        calls = 0
        while not stop.is_set():
            assert double(one, start + calls) == 2.0 * (start + calls)
            calls += 1
        return calls

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(call_until_told, 1000 * index) for index in range(4)]
        killed: set[int] = set()
        try:
            while len(killed) < 5:
                wait_until(lambda: bool(set(workers(one, "doubling")) - killed - {0}), "another worker serves")
                pid = next(iter(set(workers(one, "doubling")) - killed - {0}))
                double(one, 1.0)  # a success between the deaths
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        finally:
            stop.set()
        assert all(caller.result() > 0 for caller in callers)


def test_a_call_that_hangs_its_worker_fails_alone(nodes: Callable[..., RunningNode], tmp_path: Path) -> None:
    node = nodes()
    limited = bundle(tmp_path / "c.ingle", counting(tmp_path / "c.onnx"), "[limits]\nrun_seconds = 0.5\n")
    deploy(node, "counting", limited)
    with ThreadPoolExecutor(9) as pool:
        poison = pool.submit(refusal, node, "/v1/models/counting", {"turns": [FOR_EVER]})
        others = [pool.submit(ask, node, "/v1/models/counting", {"turns": [QUICK + i]}) for i in range(8)]
        assert [other.result()["outputs"]["y"] for other in others] == [[QUICK + i] for i in range(8)]
        status, error = poison.result()
    assert status == 500
    assert "limit of 0.5 s" in error["error"]
    assert ask(node, "/v1/models/counting", {"turns": [QUICK]})["outputs"]["y"] == [QUICK]


def test_a_model_that_dies_with_no_success_between_is_set_aside_and_a_load_forgives_it(
    nodes: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = nodes()
    limited = bundle(tmp_path / "c.ingle", counting(tmp_path / "c.onnx"), "[limits]\nrun_seconds = 0.2\n")
    deploy(node, "counting", limited)
    statuses = [refusal(node, "/v1/models/counting", {"turns": [FOR_EVER]})[0] for _ in range(4)]
    assert statuses[0] == 500
    assert statuses[-1] == 503
    status, error = refusal(node, "/v1/models/counting", {"turns": [QUICK]})
    assert status == 503
    assert "set aside" in error["error"]
    shown = ask(node, "/v1/models/counting")
    assert shown["state"] == "set_aside"
    assert "limit of 0.2 s" in shown["reason"]
    ask(node, "/v2/repository/models/counting/load", {})
    assert ask(node, "/v1/models/counting", {"turns": [QUICK]})["outputs"]["y"] == [QUICK]


def test_a_killed_zygote_is_replaced_and_calls_go_on(one: RunningNode) -> None:
    assert double(one, 1.0) == 2.0
    worker = workers(one, "doubling")[0]
    zygote = parent(worker)
    assert parent(zygote) == one.process.pid
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: gone(worker), "the zygote's worker dies with it")
    assert double(one, 2.0) == 4.0
    assert parent(workers(one, "doubling")[0]) != zygote


def test_a_zygote_whose_gateway_went_with_words_unread_ends_without_a_fault() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        zygote = subprocess.Popen(
            own_command("zygote", str(theirs.fileno())), pass_fds=[theirs.fileno()], stderr=subprocess.PIPE
        )
    select.select([ours], [], [], 60)  # it says that it is ready, which nobody reads: its next read is refused
    ours.close()
    _, said = zygote.communicate(timeout=30)
    assert (zygote.returncode, said) == (0, b"")


def test_nothing_outlives_a_killed_gateway(one: RunningNode) -> None:
    double(one, 1.0)
    worker = workers(one, "doubling")[0]
    zygote = parent(worker)
    one.process.kill()
    one.process.wait()
    wait_until(lambda: gone(worker) and gone(zygote), "worker and zygote end with the gateway")


def test_a_restarted_node_has_what_it_had(one: RunningNode, nodes: Callable[..., RunningNode]) -> None:
    one.process.kill()
    one.process.wait()
    again = nodes(data_dir=one.data_dir)
    assert again.admin_key == one.admin_key
    assert double(again, 3.0) == 6.0


def test_a_second_node_on_the_same_data_folder_is_refused(one: RunningNode, nodes: Callable[..., RunningNode]) -> None:
    with pytest.raises(RuntimeError, match="nother node has the data folder"):
        nodes(data_dir=one.data_dir)


def test_sigterm_finishes_the_calls_in_flight_and_refuses_new_ones(
    nodes: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = nodes()
    deploy(node, "counting", counting(tmp_path / "c.onnx"))
    ask(node, "/v1/models/counting", {"turns": [QUICK]})
    (worker,) = workers(node, "counting")
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(ask, node, "/v1/models/counting", {"turns": [QUICK]})
        wait_until(lambda: _in_flight(node) == 1, "the call is in flight")
        node.process.send_signal(signal.SIGTERM)
        wait_until(lambda: _refuses(node), "new calls are refused")
        os.kill(worker, signal.SIGCONT)
        assert call.result()["outputs"]["y"] == [QUICK]
    assert stop_node(node) == 0


def _in_flight(node: RunningNode) -> int:
    return sum(worker["in_flight"] for worker in ask(node, "/v1/models/counting")["workers"])


def _refuses(node: RunningNode) -> bool:
    try:
        ask(node, "/v1/models/counting", {"turns": [QUICK]}, deadline_ms=50)
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 503
    except (urllib.error.URLError, ConnectionError):
        return True
    return False


def test_a_model_starts_at_its_first_call_and_sleeps_when_idle(
    nodes: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = nodes("--workers-idle-s", "0.2")
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    assert workers(node, "doubling") == []
    assert double(node, 1.0) == 2.0
    wait_until(lambda: workers(node, "doubling") == [], "the idle worker is ended")
    assert ask(node, "/v1/models/doubling")["state"] == "asleep"
    assert double(node, 2.0) == 4.0


def test_workers_have_no_network_no_new_privileges_and_the_zygote_has_one_thread(one: RunningNode) -> None:
    double(one, 1.0)
    worker = workers(one, "doubling")[0]
    zygote = parent(worker)
    assert [entry.name for entry in Path(f"/proc/{zygote}/task").iterdir()] == [str(zygote)]
    assert "NoNewPrivs:\t1" in Path(f"/proc/{worker}/status").read_text()
    assert Path(f"/proc/{worker}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    limits = Path(f"/proc/{worker}/limits").read_text()
    assert "Max core file size        0" in limits


def test_a_worker_holds_no_descriptor_of_another(one: RunningNode, tmp_path: Path) -> None:
    deploy(one, "second", doubling(tmp_path / "second.onnx"))
    double(one, 1.0)
    ask(one, "/v1/models/second", [1, 2])
    sockets = [
        {str(link) for link in map(Path.readlink, Path(f"/proc/{pid}/fd").iterdir()) if "socket" in str(link)}
        for pid in (*workers(one, "doubling"), *workers(one, "second"))
    ]
    assert len(sockets) == 2
    assert not sockets[0] & sockets[1]
    assert all(len(found) == 1 for found in sockets)

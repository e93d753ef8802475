"""What a node does at its bounds: bytes, connections, descriptors, uploads, heads, depth, callers that do not read. It
says so, others are served, and it goes on when there is room again."""

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import tritonclient.grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.conftest import RunningNode, start_node, stop_node
from tests.process.models import doubling
from tests.process.test_faults import deploy, double, wait_until, workers

grpc = tritonclient.grpc.grpc
Start = Callable[..., RunningNode]
MIB = 2**20


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node that holds 4 MiB of calls and takes six connections and one upload at once."""
    folder = tmp_path_factory.mktemp("small")
    flags = ("--gateway-max-held", "4MiB", "--gateway-max-connections", "6", "--gateway-max-uploads", "1")
    node = start_node(folder, *flags, "--routing-max-replicas", "1", "--open", str(doubling(folder / "doubling.onnx")))
    yield node
    assert stop_node(node) == 0


def connect(node: RunningNode) -> socket.socket:
    host, port = node.http.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def head(node: RunningNode, method: str, path: str, length: int, *lines: str) -> bytes:
    first = (
        f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {node.admin_key}\r\nContent-Length: {length}\r\n"
    )
    return (first + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


def infer_request(node: RunningNode, rows: int, *lines: str, model: str = "doubling") -> bytes:
    tensor = {"name": "x", "shape": [rows, 2], "datatype": "FP32", "parameters": {"binary_data_size": rows * 8}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    lines = (f"Inference-Header-Content-Length: {len(text)}", *lines)
    return head(node, "POST", f"/v2/models/{model}/infer", len(text) + rows * 8, *lines) + text + bytes(rows * 8)


def status_of(sock: socket.socket) -> int:
    """The status of the next answer; 0 where the connection ends instead."""
    with sock.makefile("rb") as file:
        first = file.readline()
    return int(first.split()[1]) if first else 0


@pytest.fixture
def stopped(small: RunningNode) -> Iterator[int]:
    """Its worker, which answers nothing until the test is over or lets it go on."""
    double(small, 1.0)
    (pid,) = workers(small, "doubling")
    os.kill(pid, signal.SIGSTOP)
    yield pid
    os.kill(pid, signal.SIGCONT)


def held_call(node: RunningNode) -> socket.socket:
    """A call of 3 MiB whose answer does not come."""
    sock = connect(node)
    sock.sendall(infer_request(node, 3 * MIB // 8))
    wait_until(
        lambda: requests.get(f"{node.url}/v1/models/doubling", timeout=30).json()["workers"][0]["in_flight"] == 1, ""
    )
    return sock


def test_a_call_beyond_the_bytes_held_at_once_is_told_to_come_again(small: RunningNode, stopped: int) -> None:
    with held_call(small) as first:
        for lines in ((), ("X-Ingle-Pin: local",)):
            with connect(small) as sock:
                sock.sendall(infer_request(small, 2 * MIB // 8, *lines))
                assert status_of(sock) == 503
        content = json.dumps([[1, 2]] * 300_000).encode()
        plain = requests.post(f"{small.url}/v1/models/doubling", content, timeout=30)
        assert (plain.status_code, plain.json()["code"]) == (503, "unavailable")
        assert int(plain.headers["Retry-After"]) >= 1
        message = service_pb2.ModelInferRequest(model_name="doubling")
        message.inputs.add(name="x", datatype="FP32", shape=[2 * MIB // 8, 2])
        message.raw_input_contents.append(bytes(2 * MIB))
        with grpc.insecure_channel(small.grpc) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        os.kill(stopped, signal.SIGCONT)
        assert status_of(first) == 200
    with connect(small) as sock:
        sock.sendall(infer_request(small, 2 * MIB // 8))
        assert status_of(sock) == 200


def test_a_call_whose_caller_has_gone_is_held_no_longer(small: RunningNode, stopped: int) -> None:
    held_call(small).close()
    os.kill(stopped, signal.SIGCONT)

    def taken() -> bool:
        with connect(small) as sock:
            sock.sendall(infer_request(small, 2 * MIB // 8))
            return status_of(sock) == 200

    wait_until(taken, "there is room again")


def test_a_compressed_body_counts_as_what_it_may_become(small: RunningNode, stopped: int) -> None:
    import gzip

    with held_call(small):
        content = gzip.compress(b"[" + b"[1,2]," * 300_000 + b"[1,2]]")
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        answer = requests.post(f"{small.url}/v1/models/doubling", content, headers=headers, timeout=30)
        assert answer.status_code == 503
        os.kill(stopped, signal.SIGCONT)


def test_a_strangers_body_is_not_waited_for(small: RunningNode) -> None:
    with connect(small) as sock:
        stranger = head(small, "POST", "/v2/models/doubling/infer", 100 * MIB)
        sock.sendall(stranger.replace(small.admin_key.encode(), b"sim" + b"0" * 25) + b"{")
        assert status_of(sock) == 401
        assert sock.recv(1) == b""


def test_connections_beyond_the_bound_are_refused_and_the_others_served(small: RunningNode) -> None:
    live = head(small, "GET", "/v2/health/live", 0)
    with contextlib.ExitStack() as stack:
        kept: list[socket.socket] = []

        def all_taken() -> bool:
            """Those of earlier tests may not be gone yet."""
            kept.append(stack.enter_context(connect(small)))
            kept[-1].sendall(live)
            if status_of(kept[-1]) != 200:
                kept.pop()
            return len(kept) == 6

        wait_until(all_taken, "six are taken")
        with connect(small) as refused:
            assert status_of(refused) == 503
        kept[0].sendall(infer_request(small, 1))
        assert status_of(kept[0]) == 200
    wait_until(lambda: requests.get(f"{small.url}/livez", timeout=30).ok, "there is room again")


def test_uploads_beyond_the_bound_are_told_to_come_again(small: RunningNode, tmp_path: Path) -> None:
    model = doubling(tmp_path / "d.onnx").read_bytes()
    with connect(small) as sock:
        sock.sendall(head(small, "PUT", "/v1/models/bounds/one", len(model)) + model[:10])
        wait_until(lambda: any((small.data_dir / "incoming").iterdir()), "the upload has begun")
        url = f"{small.url}/v1/models/bounds/two"
        second = requests.put(url, model, headers=small.headers, timeout=30)
        assert (second.status_code, second.json()["code"]) == (503, "unavailable")
        assert int(second.headers["Retry-After"]) >= 1
        sock.sendall(model[10:])
        assert status_of(sock) == 201
    assert requests.put(url, model, headers=small.headers, timeout=30).status_code == 201


@pytest.mark.parametrize(
    "lines", [("X-Long: " + "x" * 20_000,), tuple(f"X-{number}: 1" for number in range(200))], ids=["long", "many"]
)
@pytest.mark.parametrize("path", ["/v2/models/doubling/infer", "/v1/models"])
def test_a_head_that_is_too_large_is_431(small: RunningNode, path: str, lines: tuple[str, ...]) -> None:
    with connect(small) as sock:
        sock.sendall(head(small, "POST", path, 0, *lines))
        assert status_of(sock) == 431


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/models/doubling/infer"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v1/keys"),
        ("POST", "/v1/models/doubling"),
    ],
)
@pytest.mark.parametrize("word", ["[", '{"a":'])
def test_json_too_deep_is_a_bad_request(small: RunningNode, method: str, path: str, word: str) -> None:
    headers = {**small.headers, "Content-Type": "application/json"}
    answer = requests.request(method, small.url + path, data=word * 100_000, headers=headers, timeout=30)
    assert (answer.status_code, answer.json().get("code", "bad_input")) == (400, "bad_input")


def test_thousands_of_refused_requests_in_one_write_are_all_answered(small: RunningNode) -> None:
    request = head(small, "POST", "/v2/models/nothing/infer", 2) + b"{}"
    count = 3000
    with connect(small) as sock:
        reader = sock.makefile("rb")
        sent = 0
        for _ in range(count // 100):
            sock.sendall(request * 100)
            for _ in range(100):
                assert reader.readline().split()[1] == b"404"
                length = 0
                while line := reader.readline().strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split()[1])
                reader.read(length)
                sent += 1
        assert sent == count
        reader.close()


def test_a_caller_that_reads_nothing_is_made_to_wait(small: RunningNode) -> None:
    request = infer_request(small, 50_000)  # 400 KB each way
    with connect(small) as sock:
        sock.setblocking(False)
        left, sent_bytes = b"", 0
        while select.select([], [sock], [], 1.0)[1]:
            left = left or request
            size = sock.send(left)
            left, sent_bytes = left[size:], sent_bytes + size
            assert sent_bytes < 64 * MIB, "the node takes call after call though nobody reads the answers"
        assert double(small, 3.0) == 6.0


def test_a_node_with_few_descriptors_serves_on_and_recovers(nodes: Start, tmp_path: Path) -> None:
    node = nodes("--open", descriptors=96)
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    host, grpc_port = node.grpc.split(":")
    with contextlib.ExitStack() as stack:
        with connect(node) as kept:
            kept.sendall(infer_request(node, 1))
            assert status_of(kept) == 200
            for _ in range(100):
                stack.enter_context(connect(node))
                stack.enter_context(socket.create_connection((host, int(grpc_port)), timeout=30))
            kept.sendall(infer_request(node, 1))
            assert status_of(kept) == 200
            wait_until(lambda: answers(node, kept, "doubling") == 200, "a worker is there, or is started again")
    wait_until(lambda: alive(node), "connections are taken again")
    assert double(node, 2.0) == 4.0


def test_no_descriptor_for_a_worker_is_a_sentence_and_passes(nodes: Start, tmp_path: Path) -> None:
    node = nodes("--open")
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    limit = _limits(node.process.pid)
    with connect(node) as kept, connect(node) as other:
        live = head(node, "GET", "/v2/health/live", 0)
        for sock in (kept, other):
            sock.sendall(live)
            assert status_of(sock) == 200
        open_now = len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))
        _limit(node.process.pid, (open_now + 2, limit[1]))
        assert answers(node, kept, "doubling") == 503
        kept.sendall(live)
        assert status_of(kept) == 200
        other.sendall(head(node, "PUT", "/v1/models/other", 8) + b"no model")
        assert status_of(other) in (422, 503)
        _limit(node.process.pid, limit)
        wait_until(lambda: answers(node, kept, "doubling") == 200, "a worker is started")


def answers(node: RunningNode, sock: socket.socket, model: str) -> int:
    sock.sendall(infer_request(node, 1, model=model))
    status = status_of(sock)
    while select.select([sock], [], [], 0.05)[0]:  # what is left of the answer
        if not sock.recv(65536):
            break
    return status


def alive(node: RunningNode) -> bool:
    try:
        return requests.get(f"{node.url}/livez", timeout=30).ok
    except requests.ConnectionError:
        return False


def _limits(pid: int) -> Any:
    import resource

    return resource.prlimit(pid, resource.RLIMIT_NOFILE)


def _limit(pid: int, limits: tuple[int, int]) -> None:
    import resource

    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

"""Deadlines and callers that hang up, on every front: what has begun ends, what only waits is never run."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc
from served import SLOW, deploy, onnx_bytes
from tritonclient.grpc import service_pb2, service_pb2_grpc
from zmq_caller import ZmqCaller, tensor

from appliance.core.client_frames import Call
from tests.conftest import RunningNode, start_node, stop_node
from tests.process.test_faults import ask, wait_until, workers

grpc = tritonclient.grpc.grpc
WAITING = 12  # callers that hang up: more than a worker is given ahead of time


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node with one worker of a model whose calls share no run."""
    node = start_node(tmp_path_factory.mktemp("gone"), "--routing-max-replicas", "1")
    deploy(node, "gone/slow", onnx_bytes(SLOW))
    assert infer(node).ok
    yield node
    assert stop_node(node) == 0


def body() -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "turns", "shape": [], "datatype": "INT64", "data": [1]},
            {"name": "x", "shape": [64, 64], "datatype": "FP32", "data": [0.1] * 4096},
        ],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }


def infer(node: RunningNode) -> requests.Response:
    return requests.post(f"{node.url}/v2/models/gone/slow/infer", json=body(), headers=node.headers, timeout=60)


def message() -> Any:
    made = service_pb2.ModelInferRequest(model_name="gone/slow")
    made.inputs.add(name="turns", datatype="INT64", shape=[])
    made.inputs.add(name="x", datatype="FP32", shape=[64, 64])
    made.raw_input_contents.extend([np.int64(1).tobytes(), bytes(64 * 64 * 4)])
    return made


def statistics(node: RunningNode) -> dict[str, Any]:
    (row,) = ask(node, "/v2/models/gone/slow/stats")["model_stats"]
    assert isinstance(row, dict)
    return row


def runs(node: RunningNode) -> int:
    return int(statistics(node)["execution_count"])


def gone(node: RunningNode) -> int:
    """Calls that ended because their callers had gone, by the node's metrics."""
    lines = requests.get(f"{node.url}/metrics", headers=node.headers, timeout=60).text.splitlines()
    counts = [line for line in lines if line.startswith("ingle_calls_total") and "gone/slow" in line]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in counts if 'outcome="gone"' in line)


def owed(node: RunningNode) -> int:
    shown = ask(node, "/v1/models/gone/slow")
    return int(shown["waiting"]) + sum(worker["in_flight"] for worker in shown["workers"])


def raw_call(node: RunningNode, more: str = "", path: str = "/v2/models/gone/slow/infer") -> bytes:
    content = json.dumps(body() if path.startswith("/v2") else {"turns": 1, "x": [[0.1] * 64] * 64}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {node.admin_key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n{more}\r\n"
    return head.encode() + content


def connections(node: RunningNode, *requested: bytes) -> list[socket.socket]:
    host, port = node.http.split(":")
    opened = []
    for content in requested:
        opened.append(socket.create_connection((host, int(port)), timeout=30))
        opened[-1].sendall(content)
    return opened


@pytest.fixture
def busy(served: RunningNode) -> Iterator[int]:
    """The model is busy: its worker is stopped, and has one call already. Gives the runs that were counted before."""
    before = runs(served)
    wait_until(lambda: owed(served) == 0, "nothing is owed")
    (pid,) = workers(served, "gone/slow")
    os.kill(pid, signal.SIGSTOP)
    try:
        (first,) = connections(served, raw_call(served))
        wait_until(lambda: owed(served) == 1, "the model is busy")
        yield before
        go_on(served, pid)
        assert first.recv(12) == b"HTTP/1.1 200"
        first.close()
    finally:
        os.kill(pid, signal.SIGCONT)


def go_on(node: RunningNode, pid: int) -> None:
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: owed(node) == 0, "nothing is owed")


def all_but_few_never_ran(node: RunningNode, before: int) -> bool:
    """What the worker had been given ahead of time is run; the rest is not."""
    go_on(node, workers(node, "gone/slow")[0])
    assert infer(node).ok
    return runs(node) - before <= 2 + WAITING // 2


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("", "/v2/models/gone/slow/infer"),
        ("X-Ingle-Pin: local\r\n", "/v2/models/gone/slow/infer"),
        ("", "/v1/models/gone/slow"),
    ],
)
def test_http_callers_that_hang_up_are_not_served(served: RunningNode, busy: int, more: str, path: str) -> None:
    dropped = gone(served)
    opened = connections(served, *([raw_call(served, more, path)] * WAITING))
    wait_until(lambda: owed(served) == WAITING + 1, "all have come")
    for sock in opened:
        sock.close()
    wait_until(lambda: gone(served) - dropped == WAITING, "all have gone")
    assert all_but_few_never_ran(served, busy)


def cancel_calls(stub: Any, key: Any, all_there: Callable[[], None]) -> None:
    futures = [stub.ModelInfer.future(message(), metadata=key) for _ in range(WAITING)]
    all_there()
    for future in futures:
        future.cancel()


def end_stream(stub: Any, key: Any, all_there: Callable[[], None]) -> None:
    stream = stub.ModelStreamInfer(iter([message()] * WAITING), metadata=key)
    all_there()
    stream.cancel()


@pytest.mark.parametrize("hang_up", [cancel_calls, end_stream])
def test_grpc_callers_that_hang_up_are_not_served(
    served: RunningNode, busy: int, hang_up: Callable[[Any, Any, Callable[[], None]], None]
) -> None:
    dropped = gone(served)
    with grpc.insecure_channel(served.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def all_there() -> None:
            wait_until(lambda: owed(served) == WAITING + 1, "all have come")

        hang_up(stub, (("authorization", served.admin_key),), all_there)
        wait_until(lambda: gone(served) - dropped == WAITING, "all have gone")
    assert all_but_few_never_ran(served, busy)


def test_zeromq_callers_that_hang_up_are_not_served(served: RunningNode, busy: int) -> None:
    dropped = gone(served)
    turns, x = np.array(1), np.zeros((64, 64), np.float32)
    tensors = [tensor("turns", turns, "INT64"), tensor("x", x)]
    with ZmqCaller(served.zmq) as caller:
        for number in range(1, WAITING + 1):
            head = Call(number, "gone/slow", tensors=tensors, key=served.admin_key)
            caller.call(head, turns.tobytes(), x.tobytes())
        wait_until(lambda: owed(served) == WAITING + 1, "all have come")
    wait_until(lambda: gone(served) - dropped == WAITING, "all have gone")
    assert all_but_few_never_ran(served, busy)


@pytest.mark.parametrize("path", ["/v2/models/gone/slow/infer", "/v1/models/gone/slow"])
def test_a_deadline_in_the_header_ends_the_call_with_504(served: RunningNode, busy: int, path: str) -> None:
    content = body() if path.startswith("/v2") else {"turns": 1, "x": [[0.1] * 64] * 64}
    headers = {**served.headers, "X-Ingle-Deadline-Ms": "100"}
    answer = requests.post(served.url + path, json=content, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline")
    assert answer.headers["X-Ingle-Call"]


def test_a_deadline_in_grpcs_metadata_or_of_grpc_itself_ends_the_call(served: RunningNode, busy: int) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        key = ("authorization", served.admin_key)
        for metadata, timeout in (((key, ("x-ingle-deadline-ms", "100")), 30.0), ((key,), 0.2)):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(message(), metadata=metadata, timeout=timeout)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED

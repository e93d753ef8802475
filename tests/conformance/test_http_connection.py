"""One connection to a real node: calls answered the quick way and the long way take turns on it, cut and joined as a
network may cut and join them, and both ways say the same."""

import gzip
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningNode
from tests.process.models import doubling
from tests.process.test_faults import deploy

BODY = b'{"id":"7","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'


@pytest.fixture(scope="module", params=["node", "fronted"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunningNode:
    node: RunningNode = request.getfixturevalue(request.param)
    deploy(node, "wire/doubling", doubling(Path(tmp_path_factory.mktemp("wire"), "d.onnx")))
    return node


@pytest.fixture
def wire(served: RunningNode) -> Iterator[socket.socket]:
    host, port = served.http.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        yield sock


def request(
    node: RunningNode,
    body: bytes = BODY,
    *,
    model: str = "wire/doubling",
    method: str = "POST",
    path: str = "",
    more: str = "",
) -> bytes:
    target = path or f"/v2/models/{model}/infer"
    length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {node.admin_key}\r\n{length}{more}\r\n"
    return head.encode() + (body if method == "POST" else b"")


class Reader:
    """Reads whole answers off a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rb")

    def read(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, self._file.read(int(headers.get("content-length", 0)))


def doubled(answer: tuple[int, dict[str, str], bytes]) -> list[float]:
    assert answer[0] == 200, answer
    values = json.loads(answer[2])["outputs"][0]["data"]
    assert isinstance(values, list)
    return values


def test_the_quick_way_and_the_long_way_take_turns_on_one_connection(served: RunningNode, wire: socket.socket) -> None:
    reader = Reader(wire)
    for _ in range(3):
        wire.sendall(request(served))
        assert doubled(reader.read()) == [2, 4]
        wire.sendall(request(served, method="GET", path="/v2/health/ready"))
        assert reader.read()[0] == 200
        wire.sendall(request(served, more="X-Ingle-Deadline-Ms: 10000\r\n"))
        assert doubled(reader.read()) == [2, 4]


def test_a_request_that_comes_byte_by_byte_is_answered(served: RunningNode, wire: socket.socket) -> None:
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = Reader(wire)
    for byte in request(served):
        wire.sendall(bytes([byte]))
    assert doubled(reader.read()) == [2, 4]
    wire.sendall(request(served))
    assert doubled(reader.read()) == [2, 4]


@pytest.mark.parametrize("cut", [1, 17, 60, 200])
def test_requests_sent_before_the_answers_are_answered_in_order(
    served: RunningNode, wire: socket.socket, cut: int
) -> None:
    bodies = [BODY.replace(b"[1,2]}", b"[%d,2]}" % number) for number in range(20)]
    health = request(served, method="GET", path="/v2/health/live")
    joined = b"".join(request(served, body) for body in bodies) + health + request(served)
    wire.sendall(joined[:cut])
    wire.sendall(joined[cut:])
    reader = Reader(wire)
    assert [doubled(reader.read())[0] for _ in bodies] == [2.0 * number for number in range(20)]
    assert reader.read()[0] == 200
    assert doubled(reader.read()) == [2, 4]


def large_request(node: RunningNode, rows: int) -> bytes:
    """A call whose body is read straight into its place: the numbers from 0 on, in binary form."""
    tensor = struct.pack(f"<{2 * rows}f", *range(2 * rows))
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [rows, 2],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(tensor)},
                }
            ]
        }
    ).encode()
    return request(node, head + tensor, more=f"Inference-Header-Content-Length: {len(head)}\r\n")


def test_large_bodies_are_read_whole_and_what_follows_them_is_another_request(
    served: RunningNode, wire: socket.socket
) -> None:
    reader, large = Reader(wire), large_request(served, 100_000)
    for cut in (100, 70_000, len(large) - 1):
        wire.sendall(large[:cut])
        wire.sendall(large[cut:] + request(served))
        assert doubled(reader.read())[-1] == 2 * 199_999
        assert doubled(reader.read()) == [2, 4]
    wire.sendall(large + large + request(served, method="GET", path="/v2/health/live"))
    assert doubled(reader.read())[-1] == doubled(reader.read())[-1] == 2 * 199_999
    assert reader.read()[0] == 200


def test_a_caller_that_goes_in_the_middle_of_a_large_body_harms_nobody(served: RunningNode) -> None:
    host, port = served.http.split(":")
    large = large_request(served, 100_000)
    for sent in (100, 70_000, len(large) - 1):
        with socket.create_connection((host, int(port)), timeout=30) as gone:
            gone.sendall(large[:sent])
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(large[:70_000])
        wire.shutdown(socket.SHUT_WR)
        assert wire.recv(1) == b""
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(large)
        assert doubled(Reader(wire).read())[-1] == 2 * 199_999
        wire.sendall(large)
        wire.shutdown(socket.SHUT_WR)  # as if it had gone: nothing is written to it, unless the answer was there before
        told = b"".join(iter(lambda: wire.recv(65536), b""))
        assert not told or told.startswith(b"HTTP/1.1 200 OK\r\n")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(large)
        assert doubled(Reader(wire).read())[-1] == 2 * 199_999


@pytest.mark.parametrize(
    ("body", "model", "more"),
    [
        (BODY, "wire/doubling", ""),
        (BODY, "wire/nothing", ""),
        (b"{", "wire/doubling", ""),
        (BODY.replace(b"FP32", b"INT8"), "wire/doubling", ""),
        (BODY.replace(b"[1,2]}", b"[1,2,3]}"), "wire/doubling", ""),
        (BODY.replace(b'"id"', b'"parameters":{"binary_data_output":true},"id"'), "wire/doubling", ""),
        (BODY, "wire/doubling", "Inference-Header-Content-Length: 9\r\n"),
    ],
)
def test_both_ways_give_the_same_answer(
    served: RunningNode, wire: socket.socket, body: bytes, model: str, more: str
) -> None:
    reader = Reader(wire)
    answers = []
    for way in ("", "X-Ingle-Pin: local\r\n"):
        wire.sendall(request(served, body, model=model, more=more + way))
        status, headers, content = reader.read()
        told = {name: value for name, value in headers.items() if name not in ("date", "server", "x-ingle-call")}
        answers.append((status, told, content))
    assert answers[0] == answers[1]


def test_both_ways_compress_what_is_large(served: RunningNode, wire: socket.socket) -> None:
    values = list(range(2000))
    tensor = {"name": "x", "shape": [1000, 2], "datatype": "FP32", "data": values}
    body = json.dumps({"inputs": [tensor]}).encode()
    reader = Reader(wire)
    for way in ("", "X-Ingle-Pin: local\r\n"):
        wire.sendall(request(served, body, more="Accept-Encoding: gzip\r\n" + way))
        status, headers, content = reader.read()
        assert headers["content-encoding"] == "gzip"
        assert doubled((status, headers, gzip.decompress(content))) == [2.0 * value for value in values]


def test_a_connection_that_asks_to_be_closed_is_closed_after_its_answer(
    served: RunningNode, wire: socket.socket
) -> None:
    wire.sendall(request(served, more="Connection: close\r\n"))
    reader = Reader(wire)
    assert doubled(reader.read()) == [2, 4]
    assert wire.recv(1) == b""


def test_an_upload_whose_bytes_look_like_a_call_stays_an_upload(served: RunningNode, wire: socket.socket) -> None:
    inner = request(served)
    outer = request(served, inner, path="/v1/models/wire/hostile").replace(b"POST", b"PUT", 1)
    head_bytes = len(outer) - len(inner)
    wire.sendall(outer[:head_bytes])
    wire.sendall(inner)
    reader = Reader(wire)
    status, _, content = reader.read()
    assert status == 422, content
    assert re.search("ONNX", json.loads(content)["error"])


def test_a_wrong_key_is_refused_the_quick_way_too(served: RunningNode, wire: socket.socket) -> None:
    wire.sendall(request(served).replace(served.admin_key.encode(), b"sim" + b"x" * 25))
    status, headers, _ = Reader(wire).read()
    assert (status, headers["www-authenticate"]) == (401, "Bearer")


def test_a_caller_that_goes_before_its_answer_harms_nobody(served: RunningNode) -> None:
    host, port = served.http.split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=30) as sock:
            sock.sendall(request(served))
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.sendall(request(served))
        assert doubled(Reader(sock).read()) == [2, 4]

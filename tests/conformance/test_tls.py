"""TLS on both fronts: unmodified clients, the command line, connections cut as networks cut them, and those who mistake
whom they talk to."""

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import tritonclient.grpc
import tritonclient.http
from test_http_connection import BODY, Reader, doubled, request

from appliance.client import Client
from appliance.core.errors import BadInputError, UnavailableError
from appliance.core.names import parse_name
from tests.conftest import RunningNode, start_node, stop_node
from tests.process.models import doubling
from tests.process.test_faults import wait_until


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("tls")
    running = start_node(folder, "--tls", "self", str(doubling(folder / "doubling.onnx")))
    yield running._replace(url=f"https://{running.http}")
    assert stop_node(running) == 0


@pytest.fixture
def ca_file(secure: RunningNode) -> str:
    return str(secure.data_dir / "tls.crt")


@pytest.fixture
def wire(secure: RunningNode, ca_file: str) -> Iterator[ssl.SSLSocket]:
    host, port = secure.http.split(":")
    context = ssl.create_default_context(cafile=ca_file)
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        with context.wrap_socket(sock, server_hostname="localhost") as wrapped:
            yield wrapped


def fingerprint(node: RunningNode) -> str:
    return str(json.loads((node.data_dir / "node.json").read_text())["tls_fingerprint"])


def test_tritons_own_clients_call_over_tls(secure: RunningNode, ca_file: str) -> None:
    key = {"authorization": f"Bearer {secure.admin_key}"}
    port = secure.http.split(":")[1]
    with tritonclient.http.InferenceServerClient(
        f"localhost:{port}", ssl=True, ssl_options={"ca_certs": ca_file}
    ) as http:
        values = tritonclient.http.InferInput("x", [1, 2], "FP32").set_data_from_numpy(np.ones((1, 2), np.float32))
        assert http.infer("doubling", [values], headers={**key}).as_numpy("y").tolist() == [[2, 2]]
    with tritonclient.grpc.InferenceServerClient(secure.grpc, ssl=True, root_certificates=ca_file) as grpc:
        asked = tritonclient.grpc.InferInput("x", [1, 2], "FP32").set_data_from_numpy(np.ones((1, 2), np.float32))
        assert grpc.infer("doubling", [asked], headers={**key}).as_numpy("y").tolist() == [[2, 2]]


def test_requests_sent_before_the_answers_are_answered_in_order_over_tls(
    secure: RunningNode, wire: ssl.SSLSocket
) -> None:
    bodies = [BODY.replace(b"[1,2]}", b"[%d,2]}" % number) for number in range(20)]
    calls = [request(secure, body, model="doubling") for body in bodies]
    health = request(secure, method="GET", path="/v2/health/live")
    wire.sendall(b"".join(calls) + health + calls[3])
    reader = Reader(wire)
    assert [doubled(reader.read())[0] for _ in bodies] == [2.0 * number for number in range(20)]
    assert reader.read()[0] == 200
    assert doubled(reader.read()) == [6, 4]


@pytest.mark.parametrize("more", ["", "X-Ingle-Pin: local\r\n"])
def test_large_bodies_go_both_ways_over_tls(secure: RunningNode, wire: ssl.SSLSocket, more: str) -> None:
    rows = 500_000  # 4 MB in, 4 MB out
    head = {
        "inputs": [{"name": "x", "shape": [rows, 2], "datatype": "FP32", "parameters": {"binary_data_size": rows * 8}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    values = np.arange(rows * 2, dtype=np.float32)
    length = f"Inference-Header-Content-Length: {len(text)}\r\n"
    wire.sendall(request(secure, text + values.tobytes(), model="doubling", more=length + more))
    status, headers, content = Reader(wire).read()
    assert status == 200, content
    answered = np.frombuffer(content[int(headers["inference-header-content-length"]) :], np.float32)
    assert np.array_equal(answered, values * 2)


def test_a_caller_who_speaks_in_the_clear_or_garbage_is_cut_off_and_others_are_served(
    secure: RunningNode, wire: ssl.SSLSocket
) -> None:
    host, port = secure.http.split(":")
    for garbage in (b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", os.urandom(4096), b"\x16\x03\x01"):
        with socket.create_connection((host, int(port)), timeout=30) as sock:
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
            try:
                while sock.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    wire.sendall(request(secure, model="doubling"))
    assert doubled(Reader(wire).read()) == [2, 4]


def test_the_python_client_believes_a_fingerprint_or_a_file_and_nothing_else(secure: RunningNode, ca_file: str) -> None:
    name, content = parse_name("doubling"), b"[1, 2]"
    pinned = Client(secure.url, secure.admin_key, fingerprint=fingerprint(secure).upper())
    with pinned, Client(secure.url, secure.admin_key, ca_file=Path(ca_file)) as by_file:
        for client in (pinned, by_file):
            assert client.call(name, content, "application/json").outputs == {"y": [[2, 4]]}
    with Client(secure.url, secure.admin_key) as stranger, pytest.raises(UnavailableError, match="--fingerprint"):
        stranger.models()
    with (
        Client(secure.url, fingerprint="0" * 64) as mistaken,
        pytest.raises(UnavailableError, match="another certificate"),
    ):
        mistaken.models()
    with pytest.raises(BadInputError, match="64 hexadecimal"):
        Client(secure.url, fingerprint="12")


def ingle(*arguments: str, data_dir: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INGLE_")}
    if data_dir is not None:
        environ["INGLE_DATA_DIR"] = str(data_dir)
    command = [sys.executable, "-m", "appliance.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)


def test_the_command_line_needs_no_flag_on_the_nodes_own_box(secure: RunningNode, ca_file: str) -> None:
    assert "local/doubling" in ingle("models", data_dir=secure.data_dir).stdout
    remote = ("models", "--node", secure.url, "--key", secure.admin_key)
    assert "local/doubling" in ingle(*remote, "--ca", ca_file).stdout
    assert "local/doubling" in ingle(*remote, "--fingerprint", fingerprint(secure)).stdout
    refused = ingle(*remote)
    assert refused.returncode == 5
    assert "--fingerprint" in refused.stderr
    assert fingerprint(secure) in ingle("doctor", data_dir=secure.data_dir).stdout


def test_the_certificate_is_the_same_after_a_restart_and_told_at_the_start(nodes: object, tmp_path: Path) -> None:
    first = nodes("--tls", "self")  # type: ignore[operator]
    told = fingerprint(first)
    wait_until(lambda: told in first.log.read_text(), "the start is announced")
    assert stop_node(first) == 0
    again = nodes("--tls", "self", data_dir=first.data_dir)  # type: ignore[operator]
    assert fingerprint(again) == told
    response = requests.get(f"https://{again.http}/livez", verify=str(again.data_dir / "tls.crt"), timeout=30)
    assert response.ok


def test_files_that_do_not_fit_keep_the_node_from_starting_with_a_sentence(secure: RunningNode, tmp_path: Path) -> None:
    own, public = str(secure.data_dir / "tls.pem"), str(secure.data_dir / "tls.crt")
    serve = ("serve", "--http", "127.0.0.1:0", "--grpc", "off", "--zmq", "off", "--mesh", "off")
    data = tmp_path / "data"
    refused = ingle(*serve, "--tls-cert", public, "--tls-key", public, data_dir=data)
    assert refused.returncode == 1
    assert "no private key" in refused.stderr
    assert "Traceback" not in refused.stderr
    absent = str(tmp_path / "absent.pem")
    for flags in (("--tls-cert", absent, "--tls-key", own), ("--mesh", "127.0.0.1:0", "--mesh-key-file", absent)):
        missing = ingle(*serve, *flags, data_dir=data)
        assert missing.returncode == 3
        assert f"{absent} is not there" in missing.stderr
    for flags in (("--tls-cert", own), ("--tls", "self", "--tls-cert", own, "--tls-key", own), ("--tls", "other")):
        assert ingle(*serve, *flags, data_dir=data).returncode == 2

"""Triton servers as peers for their models. The servers are nodes without a mesh, by their V2 gRPC fronts alone."""

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import tritonclient.grpc
import tritonclient.http
from served import ADD_ONE, ECHO_TEXT, bundle, deploy, onnx_bytes
from tritonclient.utils import InferenceServerException

from appliance.client import Client
from appliance.core.errors import BadInputError, ConflictError, IngleError, NotFoundError, UnavailableError
from tests.conftest import RunningNode, start_node, stop_node

SUM = """g (float[N,2] x, float[N,2] state) => (float[N,2] y, float[N,2] stateN)
{y = Add(x, state) \n stateN = Identity(y)}"""
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def until(condition: Callable[[], bool], what: str) -> None:
    ends_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends_s, f"not in time: {what}"
        time.sleep(0.01)


class Site:
    """`here` is the node that is asked, `servers` are two that it was told of."""

    def __init__(self, folder: Path, here: RunningNode) -> None:
        self.folder = folder
        self.here = here
        self.servers: list[RunningNode] = []
        self.client = Client(here.url, here.admin_key)

    def standing(self, server: RunningNode) -> str:
        found = [node for node in self.client.nodes().nodes if node.name == f"triton://{server.grpc}"]
        return found[0].standing if found else ""

    def all_told(self) -> bool:
        """Whether each server that was added is known to have models."""
        servers = [node for node in self.client.nodes().nodes if node.outside]
        return len(servers) == 2 and all(server.models for server in servers)

    def has(self, name: str) -> bool:
        return any(model.model == name for model in self.client.models())

    def state(self, name: str) -> str:
        return next((model.state for model in self.client.models() if model.model == name), "")

    def add(self, name: str) -> float:
        """A call of ADD_ONE over gRPC; what it took."""
        began_s = time.monotonic()
        with tritonclient.grpc.InferenceServerClient(self.here.grpc) as client:
            given = tritonclient.grpc.InferInput("x", [2, 3], "FP32")
            given.set_data_from_numpy(ROWS)
            result = client.infer(name, [given], headers={"authorization": f"Bearer {self.here.admin_key}"})
        assert np.array_equal(result.as_numpy("y"), ROWS + 1)
        return time.monotonic() - began_s


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The last test kills one of its servers, and puts another in its place."""
    tmp_path = tmp_path_factory.mktemp("site")
    key = tmp_path / "mesh.key"
    key.write_text(secrets.token_hex(32))
    flags = ("--mesh", "127.0.0.1:0", "--mesh-key-file", str(key), "--federation-discover", "false", "--name", "here")
    made = Site(tmp_path, start_node(tmp_path / "here", *flags))
    try:
        for number in range(2):
            made.servers.append(server := start_node(tmp_path / f"server{number}", "--open"))
            deploy(server, "local/add", onnx_bytes(ADD_ONE))
        yield made
    finally:
        made.client.close()
        for node in (made.here, *made.servers):
            if node.process.poll() is None:
                stop_node(node)


def test_a_servers_models_are_called_by_every_front(site: Site) -> None:
    server = site.servers[0]
    deploy(server, "local/echo", onnx_bytes(ECHO_TEXT))
    deploy(server, "local/sum", bundle(onnx_bytes(SUM), manifest_toml='[[state]]\ninput = "state"\noutput = "stateN"'))
    added = site.client.add_server(f"triton://{server.grpc}")
    assert (added.server, added.owner) == (f"triton://{server.grpc}", "triton")
    until(lambda: site.has("triton/echo"), "the server's models are in the catalogue")
    site.add("triton/add")
    assert not site.has("triton/sum"), "what keeps state is not offered"
    with Client(f"tcp://{site.here.zmq}", site.here.admin_key) as over_zmq:
        assert np.array_equal(over_zmq.infer("triton/add", {"x": ROWS}).outputs["y"], ROWS + 1)
    with tritonclient.http.InferenceServerClient(site.here.http) as client:
        words = tritonclient.http.InferInput("s", [2], "BYTES")
        words.set_data_from_numpy(np.array(["é", ""], dtype=object))
        result = client.infer("triton/echo", [words], headers=site.here.headers)
        assert [word.decode() for word in result.as_numpy("t")] == ["é", ""]
        rows = tritonclient.http.InferInput("x", [2, 3], "FP32")
        rows.set_data_from_numpy(ROWS)
        best = [tritonclient.http.InferRequestedOutput("y", class_count=1)]
        result = client.infer("triton/add", [rows], outputs=best, headers=site.here.headers)
        assert [row[0] for row in result.as_numpy("y")] == [b"3.000000:2", b"6.000000:2"]
        client.load_model("triton/add", headers=site.here.headers)
        as_json = [tritonclient.http.InferRequestedOutput("y", binary_data=False)]
        rows.set_data_from_numpy(ROWS, binary_data=False)
        result = client.infer("triton/add", [rows], outputs=as_json, headers=site.here.headers)
        assert np.array_equal(result.as_numpy("y"), ROWS + 1)
        best = [tritonclient.http.InferRequestedOutput("y", binary_data=False, class_count=1)]
        result = client.infer("triton/add", [rows], outputs=best, headers=site.here.headers)
        assert [row[0] for row in result.as_numpy("y")] == ["3.000000:2", "6.000000:2"]
        with pytest.raises(InferenceServerException, match="input"):
            client.infer("triton/add", [words], headers=site.here.headers)
    plain = requests.post(
        f"{site.here.url}/v1/models/triton/add", json={"x": [[1, 2, 3]]}, headers=site.here.headers, timeout=60
    )
    assert (plain.json()["outputs"], plain.json()["node"]) == ({"y": [[2.0, 3.0, 4.0]]}, f"triton://{server.grpc}")
    wrong = requests.post(
        f"{site.here.url}/v1/models/triton/add", json={"x": ["one"]}, headers=site.here.headers, timeout=60
    )
    assert wrong.status_code == 400, wrong.text
    with pytest.raises(ConflictError, match="ingle mesh remove"):
        site.client.delete("triton/add")
    site.client.remove_server(f"triton://{server.grpc}")
    until(lambda: not site.has("triton/add"), "the server's models are gone")
    with pytest.raises(NotFoundError):
        site.client.remove_server(f"triton://{server.grpc}")


def test_an_address_where_no_server_answers_is_not_added(site: Site) -> None:
    with pytest.raises(UnavailableError, match="no Triton server answers at"):
        site.client.add_server(f"triton://{site.here.http}")
    with pytest.raises(BadInputError, match="needs no adding"):
        site.client.add_server(f"triton://{site.here.grpc}")
    assert len(site.client.nodes().nodes) == 1


def test_one_name_with_two_signatures_is_a_conflict_and_is_not_answered_until_one_is_gone(site: Site) -> None:
    first, second = site.servers
    deploy(first, "local/odd", onnx_bytes(ADD_ONE))
    deploy(second, "local/odd", onnx_bytes(ECHO_TEXT))
    for server in site.servers:
        site.client.add_server(f"triton://{server.grpc}")
    until(site.all_told, "both servers have told what they have")
    until(lambda: site.has("triton/add") and site.state("triton/odd") == "conflict", "nobody is to answer for either")
    with pytest.raises(InferenceServerException, match="different content"):
        site.add("triton/odd")
    site.client.remove_server(f"triton://{second.grpc}")
    until(lambda: site.state("triton/odd") != "conflict", "one is left")
    site.add("triton/odd")


def test_no_call_is_lost_where_one_of_two_servers_is_killed_and_one_that_comes_back_is_called_again(
    site: Site,
) -> None:
    for server in site.servers:
        site.client.add_server(f"triton://{server.grpc}", "twin")
    until(lambda: all(site.standing(server) == "alive" for server in site.servers), "both servers live")
    until(site.all_told, "both are known to have the model")
    ended = threading.Event()
    failed: list[Exception] = []
    answered = 0

    def call_on() -> None:
        nonlocal answered
        while not ended.is_set():
            try:
                site.add("twin/add")
                answered += 1
            except (InferenceServerException, IngleError) as error:
                failed.append(error)

    callers = [threading.Thread(target=call_on) for _ in range(4)]
    for caller in callers:
        caller.start()
    until(lambda: answered > 50, "calls are answered")
    victim, other = site.servers
    victim.process.send_signal(signal.SIGKILL)
    victim.process.wait()
    before = answered
    until(lambda: answered > before + 50 and site.standing(victim) == "dead", "calls go on, and its death is known")
    again = start_node(site.folder / "server0", "--open", "--grpc", victim.grpc)
    site.servers.append(again)
    until(lambda: site.standing(again) == "alive", "who comes back is seen")
    other.process.send_signal(signal.SIGSTOP)
    until(lambda: site.standing(other) == "dead", "who is frozen is given up")
    before = answered
    until(lambda: answered > before + 50, "who came back is called")
    other.process.send_signal(signal.SIGCONT)
    until(lambda: site.standing(other) == "alive", "who goes on is seen")
    ended.set()
    for caller in callers:
        caller.join()
    assert not failed, failed[:3]

"""Every front of a node that has no model answers with those of another node, as that one would itself."""

import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils.shared_memory as shm
from served import ADD_ONE, ECHO_TEXT, bundle, deploy, make_key, onnx_bytes
from tritonclient.utils import InferenceServerException

from appliance.client import Client
from tests.conftest import RunningNode, start_node, stop_node

# Adds up what it is given; the state stays with the node.
SUM = """g (float[N,2] x, float[N,2] state) => (float[N,2] y, float[N,2] stateN)
{y = Add(x, state) \n stateN = Identity(y)}"""
STATE = '[[state]]\ninput = "state"\noutput = "stateN"\n'
LABELLED = 'labels = ["one", "two", "three"]\n'
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
LARGE = np.arange(3 * 50_000, dtype=np.float32).reshape(-1, 3)
CLIENTS = {"http": tritonclient.http, "grpc": tritonclient.grpc}


def until(condition: Callable[[], bool], what: str) -> None:
    ends_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends_s, f"not in time: {what}"
        time.sleep(0.01)


def told_of(node: RunningNode) -> list[str]:
    answer = requests.get(f"{node.url}/v1/models", headers=node.headers, timeout=60).json()
    return [model["model"] for model in answer["models"]]


class Pair:
    """`holder` has the models, `here` is asked."""

    def __init__(self, here: RunningNode, holder: RunningNode) -> None:
        self.here = here
        self.holder = holder
        self.headers = here.headers

    @property
    def grpc_headers(self) -> dict[str, str]:
        """A new dict each time: tritonclient writes into the one that it is given."""
        return {"authorization": f"Bearer {self.here.admin_key}"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes of one mesh, which met by an address that one was told."""
    folder = tmp_path_factory.mktemp("mesh")
    key = folder / "mesh.key"
    key.write_text(secrets.token_hex(32))
    flags = ("--mesh", "127.0.0.1:0", "--mesh-key-file", str(key), "--federation-discover", "false")
    flags += ("--federation-spread", "false")  # however slow this machine is, the models stay where they are
    holder = start_node(folder / "holder", *flags, "--name", "holder", "--federation-tags", "gpu")
    try:
        mesh = json.loads((folder / "holder" / "ready.json").read_text())["mesh"]
        more = ("--name", "here", "--join", mesh, "--allow-shared-memory")
        here = start_node(folder / "here", *flags, *more)
        try:
            deploy(holder, "there/add", bundle(onnx_bytes(ADD_ONE), manifest_toml=LABELLED))
            deploy(holder, "there/echo", onnx_bytes(ECHO_TEXT))
            deploy(holder, "there/sum", bundle(onnx_bytes(SUM), manifest_toml=STATE))
            until(lambda: len(told_of(here)) == 3, "the models of the other node are told of here")
            yield Pair(here, holder)
        finally:
            assert stop_node(here) == 0
    finally:
        assert stop_node(holder) == 0


def asked(module: Any, name: str, rows: np.ndarray[Any, Any], binary: bool = True) -> Any:
    given = module.InferInput(name, list(rows.shape), "FP32")
    given.set_data_from_numpy(rows, *([] if module is tritonclient.grpc else [binary]))
    return given


@pytest.mark.parametrize("rows", [ROWS, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("front", ["http", "http, JSON", "grpc"])
def test_v2_answers_with_what_another_node_has(pair: Pair, front: str, rows: np.ndarray[Any, Any]) -> None:
    name = front.partition(",")[0]
    module = CLIENTS[name]
    with module.InferenceServerClient(getattr(pair.here, name)) as client:
        binary = "JSON" not in front
        more = {"outputs": [module.InferRequestedOutput("y", binary_data=binary)]} if name == "http" else {}
        given = [asked(module, "x", rows, binary)]
        result = client.infer("there/add", given, headers=pair.grpc_headers, **more)
        assert np.array_equal(result.as_numpy("y"), rows + 1)
        described = client.get_model_metadata("there/add", headers=pair.grpc_headers)
        assert "versions" in str(described)
        assert client.is_model_ready("there/add", headers=pair.grpc_headers)
        index = client.get_model_repository_index(headers=pair.grpc_headers)
        assert "there/add" in str(index)
        client.load_model("there/add", headers=pair.grpc_headers)


def test_what_calls_carried_is_not_kept_when_they_are_over(pair: Pair) -> None:
    gateways = [psutil.Process(node.process.pid) for node in (pair.here, pair.holder)]
    with tritonclient.http.InferenceServerClient(pair.here.http) as client:
        given = [asked(tritonclient.http, "x", np.zeros((100_000, 3), np.float32))]  # 1.2 MB there, and as much back
        for turn in range(150):
            client.infer("there/add", given, headers=pair.grpc_headers)
            if turn == 20:  # by then buffers and arenas have their size
                before_bytes = [gateway.memory_info().rss for gateway in gateways]
        grown_bytes = [
            gateway.memory_info().rss - before for gateway, before in zip(gateways, before_bytes, strict=True)
        ]
    assert max(grown_bytes) < 64 * 2**20


def test_texts_and_classification_come_from_another_node(pair: Pair) -> None:
    with tritonclient.grpc.InferenceServerClient(pair.here.grpc) as client:
        words = np.array(["é", "", "longer"], dtype=object)
        given = tritonclient.grpc.InferInput("s", [3], "BYTES")
        given.set_data_from_numpy(words)
        result = client.infer("there/echo", [given], headers=pair.grpc_headers)
        assert [word.decode() for word in result.as_numpy("t")] == list(words)
        wanted = [tritonclient.grpc.InferRequestedOutput("y", class_count=1)]
        result = client.infer(
            "there/add", [asked(tritonclient.grpc, "x", ROWS)], outputs=wanted, headers=pair.grpc_headers
        )
        assert [row[0].decode().split(":")[2] for row in result.as_numpy("y")] == ["three", "three"]


def test_a_stream_is_answered_by_another_node(pair: Pair) -> None:
    answers: list[Any] = []
    with tritonclient.grpc.InferenceServerClient(pair.here.grpc) as client:
        client.start_stream(lambda result, error: answers.append(error or result), headers=pair.grpc_headers)
        for number in range(5):
            given = [asked(tritonclient.grpc, "x", ROWS)]
            client.async_stream_infer("there/add", given, request_id=str(number))
        until(lambda: len(answers) == 5, "five answers")
        client.stop_stream()
    assert all(np.array_equal(answer.as_numpy("y"), ROWS + 1) for answer in answers)


def test_a_plain_call_says_who_ran_it_and_why(pair: Pair) -> None:
    url = f"{pair.here.url}/v1/models/there/add"
    answer = requests.post(url, json=[1, 2, 3], headers={**pair.headers, "X-Ingle-Explain": "1"}, timeout=60)
    assert answer.ok, answer.text
    told = answer.json()
    assert (told["outputs"]["y"], told["node"], answer.headers["X-Ingle-Node"]) == (
        [[2.0, 3.0, 4.0]],
        "holder",
        "holder",
    )
    assert told["labels"][0][0]["label"] == "three"
    route = json.loads(answer.headers["X-Ingle-Route"])
    assert [candidate["node"] for candidate in route["candidates"]] == ["holder"]
    assert route["asked"][0]["node"] == "holder"
    record = requests.get(f"{pair.here.url}/v1/calls/{told['call']}", headers=pair.headers, timeout=60).json()
    assert (record["node"], record["status"]) == ("holder", "ok")
    assert record["route"]["candidates"]
    there = requests.get(f"{pair.holder.url}/v1/calls/{told['call']}", headers=pair.holder.headers, timeout=60)
    assert there.json()["node"] == "holder"


@pytest.mark.parametrize(
    ("pin", "status"), [("local", 503), ("node:here", 503), ("node:holder", 200), ("tag:gpu", 200), ("tag:tpu", 503)]
)
def test_a_pin_says_where_it_must_run(pair: Pair, pin: str, status: int) -> None:
    url = f"{pair.here.url}/v1/models/there/add"
    answer = requests.post(url, json=[1, 2, 3], headers={**pair.headers, "X-Ingle-Pin": pin}, timeout=60)
    assert answer.status_code == status, answer.text
    assert status == 200 or answer.json()["error"]


def test_over_zeromq_another_node_answers(pair: Pair) -> None:
    with Client(f"tcp://{pair.here.zmq}", pair.here.admin_key) as client:
        answer = client.infer("there/add", {"x": LARGE})
        assert np.array_equal(answer.outputs["y"], LARGE + 1)
        assert answer.node == "holder"


def test_generate_is_answered_by_another_node(pair: Pair) -> None:
    url = f"{pair.here.url}/v2/models/there/add/generate"
    answer = requests.post(url, json={"x": [[1, 2, 3]]}, headers=pair.headers, timeout=60)
    assert answer.ok, answer.text
    assert answer.json()["y"] == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("front", ["http", "grpc"])
def test_a_sequence_stays_on_the_node_that_began_it(pair: Pair, front: str) -> None:
    module = CLIENTS[front]
    with module.InferenceServerClient(getattr(pair.here, front)) as client:

        def step(value: float, number: int, start: bool = False, end: bool = False) -> float:
            given = [asked(module, "x", np.full((1, 2), value, np.float32))]
            how = {"sequence_id": number, "sequence_start": start, "sequence_end": end}
            return float(client.infer("there/sum", given, headers=pair.grpc_headers, **how).as_numpy("y")[0, 0])

        first, second = 7, 8
        assert step(1, first, start=True) == 1
        assert step(10, second, start=True) == 10
        assert step(2, first) == 3
        assert step(20, second) == 30
        assert step(3, first, end=True) == 6
        with pytest.raises(InferenceServerException, match="no sequence"):
            step(4, first)


@pytest.mark.parametrize("front", ["http", "grpc"])
def test_callers_memory_is_filled_with_another_nodes_answer(pair: Pair, front: str) -> None:
    module = CLIENTS[front]
    name, size = f"ingle-test-{uuid.uuid4().hex}", LARGE.nbytes
    region = shm.create_shared_memory_region("r", name, 2 * size)
    try:
        shm.set_shared_memory_region(region, [LARGE])
        with module.InferenceServerClient(getattr(pair.here, front)) as client:
            client.register_system_shared_memory("r", name, 2 * size, headers=pair.grpc_headers)
            given = module.InferInput("x", list(LARGE.shape), "FP32")
            given.set_shared_memory("r", size)
            wanted = module.InferRequestedOutput("y")
            wanted.set_shared_memory("r", size, offset=size)
            client.infer("there/add", [given], outputs=[wanted], headers=pair.grpc_headers)
            client.unregister_system_shared_memory(headers=pair.grpc_headers)
        found = shm.get_contents_as_numpy(region, np.float32, list(LARGE.shape), offset=size)
        assert np.array_equal(found, LARGE + 1)
        del found
    finally:
        shm.destroy_shared_memory_region(region)


def test_what_is_wrong_with_a_call_is_said_as_on_the_node_itself(pair: Pair) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    answers = [
        requests.post(f"{node.url}/v2/models/there/add/infer", json=body, headers=node.headers, timeout=60)
        for node in (pair.here, pair.holder)
    ]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()
    content = {**pair.headers, "Content-Type": "image/png"}
    broken = requests.post(f"{pair.here.url}/v1/models/there/add", b"no png", headers=content, timeout=60)
    assert 400 <= broken.status_code < 500, broken.text


def test_a_key_that_one_node_made_is_good_on_the_other(pair: Pair) -> None:
    key = make_key(pair.holder, "call:there/*")
    url = f"{pair.here.url}/v1/models/there/add"
    headers = {"Authorization": f"Bearer {key}"}
    until(lambda: requests.post(url, json=[1, 2, 3], headers=headers, timeout=60).ok, "the key is known here")
    refused = requests.delete(url, headers=headers, timeout=60)
    assert refused.status_code == 403
    ids = [
        one["id"] for one in requests.get(f"{pair.here.url}/v1/keys", headers=pair.headers, timeout=60).json()["keys"]
    ]
    newest = ids[-1]
    assert requests.delete(f"{pair.here.url}/v1/keys/{newest}", headers=pair.headers, timeout=60).ok
    there = f"{pair.holder.url}/v1/models/there/add"
    until(
        lambda: requests.post(there, json=[1, 2, 3], headers=headers, timeout=60).status_code == 401,
        "the key is revoked there",
    )


def test_an_alias_that_is_set_here_holds_there(pair: Pair) -> None:
    alias = f"{pair.here.url}/v1/models/there/echo/aliases/prod"
    assert requests.put(alias, json={"version": "1.0.0"}, headers=pair.headers, timeout=60).ok
    there = f"{pair.holder.url}/v1/models/there/echo:prod"
    until(lambda: requests.get(there, headers=pair.holder.headers, timeout=60).ok, "the alias is known there")


def test_a_version_that_is_deployed_here_comes_after_those_of_the_other_node(pair: Pair, tmp_path: Path) -> None:
    other = ADD_ONE.replace("{1}", "{2}")
    deploy(pair.here, "there/add", onnx_bytes(other))
    url = f"{pair.here.url}/v1/models/there/add"
    newer = requests.post(url, json=[1, 2, 3], headers=pair.headers, timeout=60).json()
    assert (newer["version"], newer["node"], newer["outputs"]["y"]) == ("1.1.0", "here", [[3.0, 4.0, 5.0]])
    older = requests.post(f"{url}:1.0.0", json=[1, 2, 3], headers=pair.headers, timeout=60).json()
    assert (older["node"], older["outputs"]["y"]) == ("holder", [[2.0, 3.0, 4.0]])
    until(
        lambda: (
            requests.post(
                f"{pair.holder.url}/v1/models/there/add", json=[1, 2, 3], headers=pair.holder.headers, timeout=60
            ).json()["version"]
            == "1.1.0"
        ),
        "the new version is the default there too",
    )
    same = requests.put(
        f"{pair.holder.url}/v1/models/there/add:1.1.0", onnx_bytes(ADD_ONE), headers=pair.holder.headers
    )
    assert same.status_code == 409

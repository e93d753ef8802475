"""A key's rate and quota on every front, for unmodified clients: what passes, what is told to come again and when."""

from pathlib import Path
from typing import Any

import pytest
import requests
import tritonclient.grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from appliance.client import Client
from tests.conftest import RunningNode
from tests.process.models import doubling
from tests.process.test_faults import deploy

grpc = tritonclient.grpc.grpc
BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


@pytest.fixture(scope="module")
def served(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> RunningNode:
    deploy(node, "limits/doubling", doubling(Path(tmp_path_factory.mktemp("limits"), "d.onnx")))
    return node


def key_of(node: RunningNode, **limits: Any) -> str:
    with Client(node.url, node.admin_key) as client:
        return client.create_key("limited", ["call"], **limits).key


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v2/models/limits/doubling/infer", {}),
        ("/v2/models/limits/doubling/infer", {"X-Ingle-Pin": "local"}),
        ("/v1/models/limits/doubling", {}),
    ],
)
def test_http_says_429_and_when_to_come_again(served: RunningNode, path: str, more: dict[str, str]) -> None:
    key = key_of(served, rate="1/hour", burst=2)
    body = BODY if path.startswith("/v2") else [1, 2]
    headers = {"Authorization": f"Bearer {key}", **more}
    answers = [requests.post(served.url + path, json=body, headers=headers, timeout=30) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 3500 < int(answers[2].headers["Retry-After"]) <= 3600
    assert answers[2].json()["code"] == "busy"
    assert "1/hour" in answers[2].json()["error"]


def test_grpc_says_resource_exhausted_and_when_to_come_again(served: RunningNode) -> None:
    key = key_of(served, quota="1/month")
    message = service_pb2.ModelInferRequest(model_name="limits/doubling")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    message.raw_input_contents.append(bytes(8))
    with grpc.insecure_channel(served.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.ModelInfer(message, metadata=(("authorization", key),), timeout=30)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(message, metadata=(("authorization", key),), timeout=30)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "quota of 1/month" in caught.value.details()
    assert 0 < int(dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"]) < 2**31


def test_calls_that_are_malformed_or_forbidden_use_nothing_up(served: RunningNode) -> None:
    headers = {"Authorization": f"Bearer {key_of(served, quota='1/month')}"}
    url = f"{served.url}/v2/models/limits/doubling/infer"
    wrong = {"inputs": [{"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    statuses = [requests.post(url, json=body, headers=headers, timeout=30).status_code for body in (wrong, BODY, BODY)]
    assert statuses == [400, 200, 429]


def test_limits_are_listed_changed_and_taken_away(served: RunningNode) -> None:
    with Client(served.url, served.admin_key) as client:
        made = client.create_key("phone", ["call"], rate="5/min", burst=9, quota="10/day")
        assert (made.rate, made.burst, made.quota) == ("5/min", 9, "10/day")
        changed = client.limit_key(made.id, quota="20/day")
        assert (changed.rate, changed.burst, changed.quota) == ("5/min", 9, "20/day")
        client.limit_key(made.id, rate="", burst=0)
        listed = client.keys()
    found = next(key for key in listed if key.id == made.id)
    assert (found.rate, found.burst, found.quota, found.used_calls) == ("", 0, "20/day", 0)


@pytest.mark.parametrize("limits", [{"rate": "often"}, {"rate": "0/s"}, {"quota": "1/s"}, {"burst": -1}, {"other": 1}])
def test_what_is_no_limit_is_refused(served: RunningNode, limits: dict[str, Any]) -> None:
    body = {"label": "x", "scopes": ["call"], **limits}
    answer = requests.post(f"{served.url}/v1/keys", json=body, headers=served.headers, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")

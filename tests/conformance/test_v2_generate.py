"""V2's generate over HTTP: flat JSON in and out, at once and as a server-sent event."""

import json
from typing import Any

import pytest
import requests
from served import ADD_ONE, ECHO_TEXT, deploy, make_key, onnx_bytes

from tests.conftest import RunningNode

TWO = """g (float[N,3] x, string[N] word, float[N,1] by) => (float[N,3] y, string[N] same, float[N] sum)
<int64[1] axis = {1}> {y = Mul(x, by) \n same = Identity(word) \n sum = ReduceSum<keepdims=0>(y, axis)}"""


@pytest.fixture(scope="module")
def url(node: RunningNode) -> str:
    deploy(node, "gen/add", onnx_bytes(ADD_ONE))
    deploy(node, "gen/echo", onnx_bytes(ECHO_TEXT))
    deploy(node, "gen/two", onnx_bytes(TWO))
    return f"{node.url}/v2/models/gen"


def ask(node: RunningNode, url: str, body: Any, **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(url, data, headers={**node.headers, **headers}, timeout=60)


def test_members_become_inputs_with_a_batch_axis_and_outputs_become_members(node: RunningNode, url: str) -> None:
    asked = {"x": [1, 2, 3], "word": "größer", "parameters": {"by": [2], "timeout": 30_000_000, "temperature": 0.5}}
    answer = ask(node, f"{url}/two/generate", {**asked, "id": "seven"})
    assert answer.json() == {
        "model_name": "gen/two",
        "model_version": "1",
        "id": "seven",
        "y": [2.0, 4.0, 6.0],
        "same": "größer",
        "sum": 12.0,
    }
    assert answer.headers["X-Ingle-Call"]


def test_rows_are_taken_too_and_a_version_may_be_named(node: RunningNode, url: str) -> None:
    answer = ask(node, f"{url}/add/versions/1/generate", {"x": [[1, 2, 3], [4, 5, 6]]})
    assert answer.json()["y"] == [2, 3, 4, 5, 6, 7]


def test_a_stream_is_one_event(node: RunningNode, url: str) -> None:
    answer = ask(node, f"{url}/echo/generate_stream", {"s": "one\ntwo"})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    event = answer.content.removeprefix(b"data: ").removesuffix(b"\n\n")
    assert answer.content == b"data: %b\n\n" % event
    assert b"\n" not in event
    assert json.loads(event)["t"] == "one\ntwo"


@pytest.mark.parametrize("path", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("model", "body", "status", "words"),
    [
        ("add", {"x": [1, 2, 3], "z": 1}, 400, "no input 'z'"),
        ("add", {"x": [1, 2]}, 400, "x"),
        ("add", {"x": "word"}, 400, "x"),
        ("add", {}, 400, "x"),
        ("add", [1, 2], 400, "JSON object"),
        ("add", b"{", 400, "JSON object"),
        ("add", b"", 400, "JSON object"),
        ("add", {"x": [1, 2, 3], "id": 7}, 400, "JSON object"),
        ("add", {"x": [1, 2, 3], "parameters": 7}, 400, "JSON object"),
        ("add", {"x": [1, 2, 3], "parameters": {"priority": -1}}, 400, "priority"),
        ("add", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, " "),
        ("none", {"x": 1}, 404, "gen/none"),
    ],
)
def test_what_is_wrong_is_told_with_a_status(
    node: RunningNode, url: str, path: str, model: str, body: Any, status: int, words: str
) -> None:
    answer = ask(node, f"{url}/{model}/{path}", body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json"), answer.text
    assert words in answer.json()["error"]


def test_a_key_must_be_for_the_model(node: RunningNode, url: str) -> None:
    other = make_key(node, "call:gen/echo")
    answer = ask(node, f"{url}/add/generate", {"x": [1, 2, 3]}, Authorization=f"Bearer {other}")
    assert answer.status_code == 403

"""Plain calls to a real node: contents in, outputs and labels out, with who answered and where the time went."""

import gzip
import io
import subprocess
import wave
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from served import ADD_ONE, ECHO_TEXT, bundle, deploy, make_key, onnx_bytes

from tests.conftest import RunningNode

PLUS_ONE = onnx_bytes(ADD_ONE)
MEAN_COLOUR = "g (float[N,3,8,8] picture) => (float[N,3] colour) {colour = ReduceMean <keepdims=0> (picture, axes)}"
MEAN_COLOUR = MEAN_COLOUR.replace("{colour", "<int64[2] axes = {2, 3}> {colour")
LOUDEST = "g (float[1,N] samples) => (float[1] loudest) <int64[1] axes = {1}> "
LOUDEST += "{loudest = ReduceMax <keepdims=0> (samples, axes)}"
TWO_INPUTS = "g (float[N] a, int64[N] b) => (float[N] c) {d = Cast <to=1> (b) \n c = Add(a, d)}"
COLUMNS = '[[input]]\nname = "x"\nas = "columns"\ncolumns = ["a", "b", "c"]\n'
PICTURE = (
    'labels = ["red", "green", "blue"]\ntop_k = 2\n[[input]]\nname = "picture"\nas = "image"\nscale = 0.003921568\n'
)
SOUND = '[[input]]\nname = "samples"\nas = "audio"\nrate = 8000\n'

Call = Callable[..., requests.Response]


@pytest.fixture
def call(node: RunningNode) -> Call:
    """Calls a model of the shared node with a content of a type, as admin."""

    def post(model: str, content: Any = b"[1, 2, 3]", kind: str = "application/json", **headers: str) -> Any:
        asked = {**node.headers, **({"Content-Type": kind} if kind else {})}
        asked.update({name.replace("_", "-"): value for name, value in headers.items()})
        return requests.post(f"{node.url}/v1/models/{model}", content, headers=asked, timeout=60)

    return post


@pytest.fixture(scope="module", autouse=True)
def models(node: RunningNode) -> None:
    deploy(node, "plain/plus", PLUS_ONE)
    deploy(node, "plain/columns", bundle(PLUS_ONE, manifest_toml=COLUMNS, labels_txt="low\nmiddle\nhigh\n"))
    deploy(node, "plain/picture", bundle(onnx_bytes(MEAN_COLOUR), manifest_toml=PICTURE))
    deploy(node, "plain/sound", bundle(onnx_bytes(LOUDEST), manifest_toml=SOUND))
    deploy(node, "plain/text", onnx_bytes(ECHO_TEXT))
    deploy(node, "plain/two", onnx_bytes(TWO_INPUTS))


def test_an_answer_has_the_model_its_outputs_who_answered_and_where_the_time_went(call: Call) -> None:
    answer = call("plain/plus")
    assert answer.headers["Content-Type"].startswith("application/json")
    told = answer.json()
    assert list(told) == ["model", "version", "outputs", "node", "call", "seconds"]
    assert (told["model"], told["version"], told["outputs"]) == ("plain/plus", "1.0.0", {"y": [[2.0, 3.0, 4.0]]})
    assert answer.headers["X-Ingle-Call"] == told["call"]
    assert answer.headers["X-Ingle-Node"] == told["node"]
    assert told["seconds"].keys() == {"queue", "load", "run", "total"}
    assert 0 < told["seconds"]["run"] < told["seconds"]["total"]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"[1, 2, 3]", [[2.0, 3.0, 4.0]]),
        (b"[[1, 2, 3], [4, 5, 6]]", [[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]]),
        (b'{"x": [[1, 2, 3]]}', [[2.0, 3.0, 4.0]]),
    ],
    ids=["a row", "rows", "named"],
)
def test_json_is_a_row_rows_or_inputs_by_name(call: Call, content: bytes, rows: list[list[float]]) -> None:
    assert call("plain/plus", content).json()["outputs"] == {"y": rows}


def test_several_inputs_come_by_name(call: Call) -> None:
    assert call("plain/two", b'{"a": [0.5, 1.5], "b": [1, 2]}').json()["outputs"] == {"c": [1.5, 3.5]}


def test_a_table_is_read_by_its_header_and_labelled_row_by_row(call: Call) -> None:
    told = call("plain/columns", b"c,a,b\n3,1,2\n0,9,0\n", "text/csv").json()
    assert told["outputs"] == {"y": [[2.0, 3.0, 4.0], [10.0, 1.0, 1.0]]}
    best = [row[0] for row in told["labels"]]
    assert best == [{"label": "high", "score": 4.0}, {"label": "low", "score": 10.0}]


def test_a_picture_is_decoded_scaled_and_labelled_best_first(call: Call) -> None:
    for form in ("PNG", "JPEG"):
        file = io.BytesIO()
        Image.new("RGB", (32, 20), (0, 255, 51)).save(file, form)
        told = call("plain/picture", file.getvalue(), f"image/{form.lower()}").json()
        assert np.allclose(told["outputs"]["colour"], [[0.0, 1.0, 0.2]], atol=0.02)
        assert [[row["label"] for row in rows] for rows in told["labels"]] == [["green", "blue"]]


def test_a_recording_becomes_samples(call: Call) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, 8000, 0, "NONE", ""))
        recording.writeframes(np.array([0, 16384, -16384, 8192], "<i2").tobytes())
    told = call("plain/sound", file.getvalue(), "audio/wav").json()
    assert np.allclose(told["outputs"]["loudest"], [0.5], atol=0.01)


def test_a_text_goes_in_as_it_is(call: Call) -> None:
    assert call("plain/text", "héllo, wörld 😀".encode(), "text/plain; charset=utf-8").json()["outputs"] == {
        "t": ["héllo, wörld 😀"]
    }


@pytest.mark.parametrize("model", ["plus", "columns", "text"])
def test_the_example_that_a_model_shows_is_one_it_takes(node: RunningNode, call: Call, model: str) -> None:
    told = requests.get(f"{node.url}/v1/models/plain/{model}", headers=node.headers, timeout=60).json()
    example = told["example"]
    assert example["content_type"] in told["accepts"]
    answer = call(f"plain/{model}", example["body"].encode(), example["content_type"])
    assert answer.status_code == 200, answer.text
    ran = subprocess.run(
        ["bash", "-c", told["curl"].replace("KEY", node.admin_key) + " -sf"], capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout[:8]) == (0, b'{"model"'), told["curl"]


def test_versions_and_aliases_are_called_by_name(node: RunningNode, call: Call) -> None:
    deploy(node, "plain/several:1.0.0", PLUS_ONE)
    deploy(node, "plain/several:1.2.0", onnx_bytes(ADD_ONE.replace("{1}", "{2}")))
    alias = f"{node.url}/v1/models/plain/several/aliases/prod"
    assert requests.put(alias, json={"version": "1.0.0"}, headers=node.headers, timeout=60).ok
    for asked, version, first in [
        ("", "1.2.0", 3.0),
        (":1.0.0", "1.0.0", 2.0),
        (":1", "1.2.0", 3.0),
        (":prod", "1.0.0", 2.0),
    ]:
        told = call(f"plain/several{asked}").json()
        assert (told["version"], told["outputs"]["y"][0][0]) == (version, first)


@pytest.mark.parametrize(
    ("model", "content", "kind", "status", "word"),
    [
        ("plain/nothing", b"1", "application/json", 404, "not_found"),
        ("plain/plus:9", b"1", "application/json", 404, "not_found"),
        ("plain/plus:", b"1", "application/json", 400, "bad_input"),
        ("plain/plus", b"[1, 2]", "application/json", 400, "bad_input"),
        ("plain/plus", b'["a", "b", "c"]', "application/json", 400, "bad_input"),
        ("plain/plus", b'{"z": [[1, 2, 3]]}', "application/json", 400, "bad_input"),
        ("plain/plus", b"{", "application/json", 400, "bad_input"),
        ("plain/plus", b"", "application/json", 400, "bad_input"),
        ("plain/plus", b"[1, 2, 3]", "video/mp4", 415, "unsupported"),
        ("plain/plus", b"\xff\xd8\xff", "image/jpeg", 415, "unsupported"),
        ("plain/columns", b"a,b\n1,2\n", "text/csv", 400, "bad_input"),
        ("plain/picture", b"\x89PNG\r\n\x1a\nbroken", "image/png", 400, "bad_input"),
        ("plain/sound", b"RIFFbroken", "audio/wav", 400, "bad_input"),
        ("plain/text", b"\xff\xfe\xff", "text/plain", 400, "bad_input"),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_sentence(
    call: Call, model: str, content: bytes, kind: str, status: int, word: str
) -> None:
    answer = call(model, content, kind)
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, word), told
    assert told.keys() == {"error", "code"}
    assert "\n" not in told["error"]


@pytest.mark.parametrize("deadline", ["0", "-1", "soon", "", "1e999", "nan", "١٠", "86400001", "1,5"])
def test_a_deadline_that_is_none_is_refused(call: Call, deadline: str) -> None:
    answer = call("plain/plus", X_Ingle_Deadline_Ms=deadline.encode())
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")


def test_a_call_is_given_up_at_its_deadline(node: RunningNode, call: Call) -> None:
    deploy(node, "plain/cold", PLUS_ONE)
    answer = call("plain/cold", X_Ingle_Deadline_Ms="0.001")  # a cold start alone takes longer
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline")
    assert call("plain/cold", X_Ingle_Deadline_Ms="60000").status_code == 200


def test_a_pin_holds_a_call_to_a_node_that_is_there(call: Call) -> None:
    name = call("plain/plus", X_Ingle_Pin="local").json()["node"]
    assert call("plain/plus", X_Ingle_Pin=f"node:{name}").status_code == 200
    for pin, status in [("node:elsewhere", 404), ("tag:gpu", 404), ("here", 400), ("node:", 400), ("", 400)]:
        assert call("plain/plus", X_Ingle_Pin=pin).status_code == status, pin


def test_a_key_calls_only_what_its_scopes_allow(node: RunningNode) -> None:
    address = f"{node.url}/v1/models/plain/plus"
    for scope, status in [("call:plain/plus", 200), ("admin:plain/*", 200), ("call:plain/other", 403)]:
        headers = {"Authorization": f"Simple {make_key(node, scope)}"}
        assert requests.post(address, json=[1, 2, 3], headers=headers, timeout=60).status_code == status
    assert requests.post(address, json=[1, 2, 3], timeout=60).status_code == 401


def test_a_body_that_is_not_compressed_as_it_says_is_refused(call: Call) -> None:
    answer = call("plain/plus", b"[1, 2, 3]", Content_Encoding="gzip")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
    assert call("plain/plus", gzip.compress(b"[1, 2, 3]"), Content_Encoding="gzip").status_code == 200

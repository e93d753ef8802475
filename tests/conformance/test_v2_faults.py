"""Wrong requests over V2 REST get the protocol's error, a sentence and the right status; the next call is answered."""

import contextlib
import gzip
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import pytest
import urllib3
from graphs import graph

MODEL = "col/faults"
TEXTS = "col/faults-texts"
HALVES = "col/faults-halves"


@pytest.fixture(scope="module", params=["node", "fronted"])
def http(request: pytest.FixtureRequest) -> Iterator["Http"]:
    node: Any = request.getfixturevalue(request.param)
    made = Http(node)
    adds = "g (float[N,3] x, int64[N,1] n) => (float[N,3] y) {f = Cast<to = 1>(n) \n y = Add(x, f)}"
    made.deploy(MODEL, graph("faults", adds).model)
    made.deploy(TEXTS, graph("texts", "g (string[N] s) => (string[N] t) {t = Identity(s)}").model)
    made.deploy(HALVES, graph("halves", "g (float16[N] x) => (float16[N] y) {y = Identity(x)}").model)
    yield made
    for name in (MODEL, TEXTS, HALVES):
        made.send("DELETE", f"/v1/models/{name}", None)


class Http:
    """Requests as no client library would send them."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.pool = urllib3.PoolManager(retries=False, timeout=30)

    def deploy(self, name: str, model: bytes) -> None:
        status, body = self.send("PUT", f"/v1/models/{name}", model)
        assert status in (200, 201), body

    def send(self, method: str, path: str, body: bytes | None, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {self.node.admin_key}"}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        answer = self.pool.request(method, self.node.url + path, body=body, headers=sent)
        return answer.status, json.loads(answer.data) if answer.data else None

    def raw(self, request: bytes) -> tuple[int, Any]:
        """The status and the error that the server answers to these bytes."""
        host, port = self.node.http.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it had all
                connection.sendall(request)
            answer = HTTPResponse(connection)
            answer.begin()
            return answer.status, json.loads(answer.read())

    def answers_a_good_call(self) -> None:
        status, body = self.send("POST", f"/v2/models/{MODEL}/infer", json.dumps(good()).encode())
        assert (status, body["outputs"][0]["data"]) == (200, [2.0, 3.0, 4.0])


def good() -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
            {"name": "n", "shape": [1, 1], "datatype": "INT64", "data": [1]},
        ]
    }


def changed(**members: Any) -> dict[str, Any]:
    """A good request whose input x is changed; a member that is None is left out."""
    request = good()
    request["inputs"][0].update(members)
    request["inputs"][0] = {name: value for name, value in request["inputs"][0].items() if value is not None}
    return request


def with_inputs(*inputs: Any) -> dict[str, Any]:
    return {"inputs": [*inputs]}


_X, _N = good()["inputs"]
WRONG_REQUESTS: dict[str, Any] = {
    "a list": [],
    "null": None,
    "a number": 7,
    "no inputs": {},
    "inputs that are an object": {"inputs": {}},
    "inputs that are null": {"inputs": None},
    "an input that is a number": with_inputs(1),
    "an input left out": with_inputs(_X),
    "all inputs left out": with_inputs(),
    "an unknown input": with_inputs(_X, _N, {**_X, "name": "z"}),
    "an input with an empty name": with_inputs({**_X, "name": ""}, _N),
    "an input twice": with_inputs(_X, _X, _N),
    "no name": changed(name=None),
    "a name that is a number": changed(name=1),
    "no shape": changed(shape=None),
    "a shape of texts": changed(shape=["1", "3"]),
    "a shape of fractions": changed(shape=[1.5, 2]),
    "a shape of truths": changed(shape=[True, 3]),
    "a shape that is a number": changed(shape=3),
    "a negative shape": changed(shape=[-1, 3]),
    "two negative sizes": changed(shape=[-1, -3]),
    "a shape beyond 64 bits": changed(shape=[2**70, 3]),
    "a shape whose product overflows": changed(shape=[2**62, 4]),
    "a shape whose product overflows to the right size": changed(shape=[2**63 - 1, 3]),
    "a shape that fits no memory": changed(shape=[2**39, 3]),
    "sixty dimensions": changed(shape=[1] * 60),
    "another rank": changed(shape=[3]),
    "another fixed size": changed(shape=[1, 4], data=[1, 2, 3, 4]),
    "a shape for more data": changed(shape=[2, 3]),
    "a shape for less data": changed(shape=[0, 3]),
    "no datatype": changed(datatype=None),
    "an unknown datatype": changed(datatype="FP31"),
    "a datatype in lower case": changed(datatype="fp32"),
    "another datatype": changed(datatype="INT64"),
    "a datatype for texts": changed(datatype="BYTES"),
    "no data": changed(data=None),
    "data that are an object": changed(data={"0": 1}),
    "data that are a text": changed(data="123"),
    "texts among numbers": changed(data=[1, "2", 3]),
    "null among numbers": changed(data=[1, None, 3]),
    "truths among numbers": changed(data=[True, False, True]),
    "ragged lists": changed(data=[[1, 2], [3]]),
    "lists among numbers": changed(data=[1, [2], 3]),
    "a number beyond the type": with_inputs(_X, {**_N, "data": [2**63]}),
    "a huge number": with_inputs(_X, {**_N, "data": [10**400]}),
    "a fraction for an integer": with_inputs(_X, {**_N, "data": [1.5]}),
    "an unknown output": {**good(), "outputs": [{"name": "z"}]},
    "an output without a name": {**good(), "outputs": [{}]},
    "outputs that are an object": {**good(), "outputs": {"name": "y"}},
    "an output that is a text": {**good(), "outputs": ["y"]},
    "parameters that are a list": {**good(), "parameters": []},
    "an input's parameters that are a text": changed(parameters="x"),
    "binary data that are not there": changed(data=None, parameters={"binary_data_size": 12}),
    "a classification that is a text": {
        **good(),
        "outputs": [{"name": "y", "parameters": {"classification": "two"}}],
    },
    "a region of shared memory": changed(
        data=None, parameters={"shared_memory_region": "r", "shared_memory_byte_size": 12}
    ),
}


@pytest.mark.parametrize("request_", WRONG_REQUESTS.values(), ids=WRONG_REQUESTS.keys())
def test_a_wrong_request_is_refused_with_a_sentence(http: Http, request_: Any) -> None:
    # What is understood and not offered, such as shared memory, has a status of its own.
    check_fault(http.send("POST", f"/v2/models/{MODEL}/infer", json.dumps(request_).encode()), 400, 415)
    http.answers_a_good_call()


NO_JSON = {
    "nothing": b"",
    "half of it": json.dumps(good()).encode()[:-9],
    "more after it": json.dumps(good()).encode() + b"x",
    "no UTF-8": json.dumps(good()).encode().replace(b'"x"', b'"\xff\xfe"'),
    "half a surrogate": json.dumps(good()).encode().replace(b'"x"', b'"\\ud800"'),
    "lists in lists without end": b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":' + b"[" * 200_000,
    "deep and closed data": json.dumps(good()).encode().replace(b"[1, 2, 3]", b"[" * 5000 + b"1,2,3" + b"]" * 5000),
    "a form": b"a=1&b=2",
    "zeros": bytes(100),
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON.keys())
def test_a_body_that_is_no_json_is_refused_with_a_sentence(http: Http, body: bytes) -> None:
    check_fault(http.send("POST", f"/v2/models/{MODEL}/infer", body), 400)
    http.answers_a_good_call()


def test_half_floats_in_json_are_refused_since_the_protocol_has_them_as_binary_only(http: Http) -> None:
    request = with_inputs({"name": "x", "shape": [1], "datatype": "FP16", "data": [1.0]})
    check_fault(http.send("POST", f"/v2/models/{HALVES}/infer", json.dumps(request).encode()), 400)


@pytest.mark.parametrize(
    ("size", "data", "header"),
    [
        (12, bytes(11), None),
        (12, bytes(13), None),
        (11, bytes(11), None),
        (16, bytes(16), None),
        (0, b"", None),
        (-1, bytes(12), None),
        (2**63, bytes(12), None),
        ("12", bytes(12), None),
        (12.5, bytes(12), None),
        (True, bytes(12), None),
        (12, bytes(12), "-1"),
        (12, bytes(12), "99999999"),
        (12, bytes(12), "1"),
        (12, bytes(12), "0"),
        (12, bytes(12), "many"),
        (12, bytes(12), "+7"),
        (12, bytes(12), "9" * 5000),
        (12, bytes(12), "²"),
    ],
)
def test_binary_sizes_that_lie_are_refused(http: Http, size: Any, data: bytes, header: str | None) -> None:
    text = json.dumps(changed(data=None, parameters={"binary_data_size": size})).encode()
    sent = (str(len(text)) if header is None else header).encode("utf-8").decode("latin-1")
    answer = http.send("POST", f"/v2/models/{MODEL}/infer", text + data, Inference_Header_Content_Length=sent)
    check_fault(answer, 400)
    http.answers_a_good_call()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<I", 3) + b"ab",
        struct.pack("<I", 0xFFFFFFFF) + b"ab",
        struct.pack("<I", 2) + b"ab" + b"\0\0",
        struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b",
        struct.pack("<I", 2) + b"\xff\xfe",
        b"",
    ],
    ids=["cut short", "four gigabytes", "a rest", "two for one", "no UTF-8", "none"],
)
def test_texts_whose_lengths_lie_are_refused(http: Http, data: bytes) -> None:
    tensor = {"name": "s", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    text = json.dumps(with_inputs(tensor)).encode()
    answer = http.send("POST", f"/v2/models/{TEXTS}/infer", text + data, Inference_Header_Content_Length=str(len(text)))
    check_fault(answer, 400)


@pytest.mark.parametrize(
    ("encoding", "body", "statuses"),
    [
        ("gzip", b"this is no gzip", (400,)),
        ("gzip", gzip.compress(json.dumps(good()).encode(), mtime=0)[:-12], (400,)),
        ("deflate", b"\xff\xff\xff\xff", (400,)),
        ("deflate", zlib.compress(json.dumps(good()).encode())[:-6], (400,)),
        ("gzip", gzip.compress(b"no JSON", mtime=0), (400,)),
        ("rot13", json.dumps(good()).encode(), (400, 415)),
    ],
)
def test_bad_compression_is_refused(http: Http, encoding: str, body: bytes, statuses: tuple[int, ...]) -> None:
    check_fault(http.send("POST", f"/v2/models/{MODEL}/infer", body, Content_Encoding=encoding), *statuses)
    http.answers_a_good_call()


def test_a_small_body_that_unpacks_to_more_than_is_taken_is_refused(http: Http) -> None:
    packer = zlib.compressobj(9)
    piece = bytes(2**24)
    bomb = b"".join([*(packer.compress(piece) for _ in range(24)), packer.flush()])  # 384 MiB
    check_fault(http.send("POST", f"/v2/models/{MODEL}/infer", bomb, Content_Encoding="deflate"), 400, 413)
    http.answers_a_good_call()


def test_a_body_that_is_too_large_is_refused_before_it_is_all_read(http: Http) -> None:
    head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer {http.node.admin_key}\r\n"
    check_fault(http.raw(head.encode() + b"Content-Length: 1099511627776\r\n\r\n" + bytes(1000)), 413)
    http.answers_a_good_call()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /v2 HTTP/1.1\r\nHost: node\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: node\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(30_000)) + b"\r\n",
        b"GET /v2?" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: node\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: node\r\nContent-Length: -1\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: node\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nNo colon here\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
        b"\0" * 5000 + b"\r\n\r\n",
    ],
    ids=[
        "a long header",
        "many headers",
        "a long line",
        "a negative length",
        "two lengths",
        "no colon",
        "one word",
        "TLS",
        "zeros",
    ],
)
def test_what_is_hardly_http_gets_an_error_in_the_protocols_form(http: Http, request_: bytes) -> None:
    check_fault(http.raw(request_), 400, 413, 414, 431)
    http.answers_a_good_call()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/nothing/infer", 404),
        ("POST", "/v2/models/nobody/nothing/infer", 404),
        ("POST", f"/v2/models/{MODEL}/versions/99/infer", 404),
        ("POST", f"/v2/models/{MODEL}/versions/none/infer", 404),
        ("POST", f"/v2/models/{MODEL}/versions/99999999999999999999/infer", 404),
        ("GET", "/v2/models/nothing", 404),
        ("GET", f"/v2/models/{MODEL}/versions/99", 404),
        ("GET", "/v2/models/nothing/ready", 404),
        ("GET", "/v2/models/nothing/config", 404),
        ("GET", "/v2/models/nothing/stats", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/a/b/c/d", 404),
        ("GET", "/v2/models/%00", 404),
        ("GET", "/v2/models/%2e%2e%2f%2e%2e%2fetc", 404),
        ("GET", f"/v2/models/{'n' * 5000}", 404),
        ("GET", f"/v2/models/{MODEL}/infer", 405),
        ("DELETE", f"/v2/models/{MODEL}/infer", 405),
        ("POST", "/v2/repository/models/nothing/load", 404),
        ("POST", "/v2/repository/models/nothing/unload", 404),
    ],
)
def test_what_is_not_there_is_said_not_to_be_there(http: Http, method: str, path: str, status: int) -> None:
    body = json.dumps(good()).encode() if path.endswith("/infer") else None
    answer = http.send(method, path, body)
    # A name that could be none is bad input as well as not found.
    check_fault(answer, status, *((400,) if "%" in path or len(path) > 1000 else ()))


@pytest.mark.parametrize(
    "key", [None, "", "Bearer ", "Bearer wrong", "Simple wrong", "wrong", "Basic YTpi", "Bearer \xff"]
)
def test_without_a_good_key_nothing_is_told(http: Http, key: str | None) -> None:
    headers = {} if key is None else {"Authorization": key}
    for method, path in (
        ("GET", f"/v2/models/{MODEL}"),
        ("POST", f"/v2/models/{MODEL}/infer"),
        ("GET", "/v2/models/no"),
    ):
        answer = http.pool.request(
            method, http.node.url + path, body=b"{}" if method == "POST" else None, headers=headers
        )
        check_fault((answer.status, json.loads(answer.data)), 401)


@pytest.mark.parametrize(
    "parameters",
    [
        {"file:1/model.onnx": "!!! no base64"},
        {"file:1/model.onnx": 7},
        {"file:1/../../../evil": "AAAA", "file:1/model.onnx": "AAAA"},
        {"file:../model.onnx": "AAAA"},
        {"file:0/model.onnx": "AAAA"},
        {"file:1/model.txt": "AAAA"},
        {"file:1/model.onnx": "AAAA"},
        {"config": "{no JSON"},
        {"config": 7},
    ],
)
def test_a_load_of_what_is_no_model_is_refused_and_nothing_stored(http: Http, parameters: dict[str, Any]) -> None:
    name = "col-refused-load"
    body = json.dumps({"parameters": parameters}).encode()
    check_fault(http.send("POST", f"/v2/repository/models/{name}/load", body), 400, 404, 422)
    assert http.send("GET", f"/v2/models/{name}", None)[0] == 404


def check_fault(answer: tuple[int, Any], *statuses: int) -> None:
    """The status, and V2's error with a sentence in it that a person can use."""
    status, body = answer
    assert status in statuses, (status, body)
    assert isinstance(body, dict), body
    sentence = body["error"]
    assert " " in sentence
    assert len(sentence) < 2000
    assert not any(trace in sentence for trace in ("Traceback", "object at 0x")), sentence

"""Requests made up for a model: each in V2's form and in the model's own shapes; and what a step's figures say."""

import struct

import msgspec
import orjson
import pytest

from appliance.cli.bench import Callers
from appliance.cli.bench_report import sentence_of, summed
from appliance.cli.bench_request import binary_request, file_request, flattened, json_request, plain_request
from appliance.cli.closed_loop import Answers, endpoint, request_bytes
from appliance.client_answers import CallTimes, ModelDetails, Statistics, Tensor, Timed
from appliance.core.errors import BadInputError


def details(*inputs: Tensor, content_type: str = "", body: str = "") -> ModelDetails:
    return ModelDetails(
        "me/m",
        "1.0.0",
        inputs=list(inputs),
        example={"content_type": content_type, "body": body} if content_type else {},
    )


X = Tensor("x", "FP32", [-1, 3])


def test_values_are_made_up_from_what_the_model_takes() -> None:
    request = json_request(details(X, Tensor("words", "BYTES", [-1]), Tensor("spare", "INT64", [2], optional=True)))
    assert request.path == "/v2/models/me/m/versions/1.0.0/infer"
    assert orjson.loads(request.body)["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0.5, 0.5, 0.5]},
        {"name": "words", "datatype": "BYTES", "shape": [1], "data": ["text"]},
    ]


@pytest.mark.parametrize(
    ("body", "shape", "data"),
    [
        ("[[1, 2, 3], [4, 5, 6]]", [2, 3], [1, 2, 3, 4, 5, 6]),
        ("[1, 2, 3]", [1, 3], [1, 2, 3]),
        ('{"x": [[1.5, 2, 3]]}', [1, 3], [1.5, 2, 3]),
    ],
)
def test_the_models_example_is_sent_where_it_is_tensors(body: str, shape: list[int], data: list[float]) -> None:
    request = json_request(details(X, content_type="application/json", body=body))
    (sent,) = orjson.loads(request.body)["inputs"]
    assert (sent["shape"], sent["data"], request.about) == (shape, data, "its example")


@pytest.mark.parametrize(
    "body", ["[[1, 2], [3]]", "[[1, 2]]", '{"y": 1}', "3", '[["a", "b", "c"]]', "no JSON", "[[1, 2, null]]"]
)
def test_an_example_that_is_no_such_tensor_is_not_sent(body: str) -> None:
    assert json_request(details(X, content_type="application/json", body=body)).about == "made-up values"


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [
        ("FP32", struct.pack("<2f", 0.5, 0.5)),
        ("FP16", struct.pack("<2e", 0.5, 0.5)),
        ("BF16", b"\x00\x3f\x00\x3f"),
        ("INT64", struct.pack("<2q", 1, 1)),
        ("UINT8", b"\x01\x01"),
        ("BOOL", b"\x01\x01"),
        ("BYTES", b"\x04\x00\x00\x00text" * 2),
    ],
)
def test_binary_tensors_lie_behind_a_head_that_tells_their_size(dtype: str, raw: bytes) -> None:
    request = binary_request(details(Tensor("x", dtype, [-1, 2])))
    size = int(request.headers["Inference-Header-Content-Length"])
    head, body = orjson.loads(request.body[:size]), request.body[size:]
    assert body == raw
    assert head["inputs"][0]["parameters"] == {"binary_data_size": len(raw)}
    assert head["parameters"] == {"binary_data_output": True}


def test_what_is_too_large_to_make_up_is_refused() -> None:
    with pytest.raises(BadInputError, match="--input"):
        json_request(details(Tensor("x", "FP32", [-1, 100_000, 100_000])))


@pytest.mark.parametrize(("content_type", "body"), [("", ""), ("image/jpeg", "the bytes of picture.jpg")])
def test_a_plain_call_without_an_example_to_send_wants_a_file(content_type: str, body: str) -> None:
    with pytest.raises(BadInputError, match="--input"):
        plain_request(details(X, content_type=content_type, body=body))


def test_a_file_is_sent_as_it_is_and_v2_json_to_v2() -> None:
    v2 = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}'
    assert file_request(details(X), v2, "application/json").path.startswith("/v2/")
    assert file_request(details(X), b'{"inputs": [1, 2, 3]}', "application/json").path == "/v1/models/me/m:1.0.0"
    assert file_request(details(X), b"\xff\xd8\xff", "image/jpeg").headers == {"Content-Type": "image/jpeg"}


def test_nested_lists_have_a_shape_and_ragged_ones_do_not_fill_it() -> None:
    assert flattened([[1, 2], [3, 4]]) == ([2, 2], [1, 2, 3, 4])
    assert flattened(3) == ([], [3])
    assert flattened([]) == ([0], [])
    shape, flat = flattened([[1, 2], [3]])
    assert shape == [2, 2]
    assert len(flat) == 3


def test_callers_are_a_list_of_sensible_numbers() -> None:
    assert Callers().convert("1,8,32", None, None) == [1, 8, 32]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://box:8000", ("box", 8000, None, "")),
        ("http://[::1]:80", ("::1", 80, None, "")),
        ("http://box", ("box", 80, None, "")),
    ],
)
def test_a_url_says_where_the_node_is(url: str, place: tuple[object, ...]) -> None:
    assert endpoint(url, None, "") == place


@pytest.mark.parametrize("url", ["ftp://box", "http://", "http://box:port", "http://[::1"])
def test_what_is_no_url_is_said_to_be_none(url: str) -> None:
    with pytest.raises(BadInputError, match="no URL"):
        endpoint(url, None, "")


def test_a_request_is_complete_and_names_its_host() -> None:
    sent = request_bytes(endpoint("http://[::1]:8000", None, ""), "/p", {"A": "b"}, b"body")
    assert sent == b"POST /p HTTP/1.1\r\nHost: [::1]:8000\r\nContent-Length: 4\r\nA: b\r\n\r\nbody"


def statistics(calls: int, queue_ns: int, run_ns: int, whole_ns: int, rows: int, runs: int) -> Statistics:
    times = CallTimes(
        Timed(calls, whole_ns), Timed(calls, queue_ns), Timed(calls, 0), Timed(calls, run_ns), Timed(calls, 0)
    )
    return Statistics(rows, runs, times)


def test_a_steps_figures_are_of_its_calls_and_its_times_of_the_difference() -> None:
    before, after = statistics(10, 100, 100, 1000, 10, 10), statistics(12, 1100, 3100, 9000, 18, 14)
    answers = Answers(2.0, [1000, 2000, 3000, 10_000], 1, '{"error": "too busy", "code": "busy"}')
    step = summed(8, answers, [before, after])
    assert (step.answered, step.failed, step.calls_per_s, step.rows_per_run) == (4, 1, 2.0, 2.0)
    assert (step.p50_s, step.p99_s, step.mean_s) == (3e-6, 1e-5, 4e-6)
    assert step.spent is not None
    times = {word: round(value * 1e9) for word, value in msgspec.structs.asdict(step.spent).items()}
    assert times == {"wire": 0, "front": 2000, "queue": 500, "codec": 0, "run": 1500}
    assert step.first_error == "too busy"


def test_a_step_without_answers_has_no_times() -> None:
    step = summed(1, Answers(1.0, [], 3, "the connection broke"), [statistics(10, 0, 0, 0, 0, 0)])
    assert (step.calls_per_s, step.p99_s, step.spent, step.first_error) == (0, 0, None, "the connection broke")
    assert sentence_of('{"error": 3}') == '{"error": 3}'

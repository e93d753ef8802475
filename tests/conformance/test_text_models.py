"""Models that take texts, on a real node: every front, texts of unlike lengths together, and hostile tokenizers."""

import concurrent.futures
import json
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from appliance.client import Client
from tests.conftest import RunningNode
from tests.text_models import COUNTS, EACH, MEAN, TEXT, UNMASKED, WORDS_OF_TEXT, changed, text_bundle

TEXTS = [
    "good",
    "a café 🙂 bad days",
    "",
    "Paris",
    "good day good day good day good day",
    "bad\nbad\tbad",
    "señor good",
]
GOOD_DAY = [0.5, 0.0, 1.75]


def put(node: RunningNode, name: str, upload: bytes) -> requests.Response:
    return requests.put(f"{node.url}/v1/models/texts/{name}", upload, headers=node.headers, timeout=60)


def call(node: RunningNode, name: str, content: Any, kind: str = "application/json") -> requests.Response:
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    headers = {**node.headers, "Content-Type": kind}
    return requests.post(f"{node.url}/v1/models/texts/{name}", body, headers=headers, timeout=60)


def told(node: RunningNode, name: str) -> Any:
    return requests.get(f"{node.url}/v1/models/texts/{name}", headers=node.headers, timeout=60).json()


@pytest.fixture(scope="module", autouse=True)
def models(node: RunningNode) -> None:
    labels = 'labels = ["good", "bad", "long"]\ntop_k = 2\n'
    tagged = 'labels = ["GOOD", "BAD", "O"]\n[[output]]\nname = "words"\nlabels = true\n'
    pair = TEXT + 'pair = "other"\n'
    for name, upload in {
        "mean": text_bundle(),
        "labelled": text_bundle(manifest=labels + TEXT),
        "unmasked": text_bundle(UNMASKED),
        "each": text_bundle(EACH, TEXT + 'offsets = "offsets"\n'),
        "tagged": text_bundle(EACH, tagged + TEXT + 'offsets = "offsets"\n'),
        "pair": text_bundle(manifest=pair),
        "fixed": text_bundle(MEAN.replace("[N,T]", "[N,5]")),
        "int32": text_bundle(MEAN.replace("int64[N,T]", "int32[N,T]")),
        "counts": text_bundle(COUNTS, WORDS_OF_TEXT, None),
        "bare": text_bundle(file=changed(post_processor=None)),
        "sample": text_bundle(manifest=f'sample = {{text = "a good day"}}\n{TEXT}'),
    }.items():
        answer = put(node, name, upload)
        assert answer.ok, answer.text


@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=utf-8", "application/x-www-form-urlencoded", ""])
def test_a_text_is_answered_by_what_is_made_of_its_tokens(node: RunningNode, kind: str) -> None:
    assert call(node, "mean", "Good day", kind).json()["outputs"] == {"embedding": [GOOD_DAY]}


@pytest.mark.parametrize(
    "content", ["good day", ["good day"], [["good day"]], {"text": "good day"}, [{"text": "good day"}]]
)
def test_json_brings_a_text_too(node: RunningNode, content: Any) -> None:
    body = json.dumps(content)
    assert call(node, "mean", body).json()["outputs"] == {"embedding": [GOOD_DAY]}


def test_texts_of_unlike_lengths_are_answered_together_as_alone(node: RunningNode) -> None:
    together = call(node, "mean", TEXTS).json()["outputs"]["embedding"]
    assert together == [call(node, "mean", [text]).json()["outputs"]["embedding"][0] for text in TEXTS]
    assert len({tuple(row) for row in together}) == len(TEXTS)


def test_labels_come_with_their_scores(node: RunningNode) -> None:
    assert call(node, "labelled", "good day", "text/plain").json()["labels"] == [
        [{"label": "long", "score": 1.75}, {"label": "good", "score": 0.5}]
    ]


@pytest.mark.parametrize("binary", [True, False])
def test_v2_takes_a_column_of_texts(node: RunningNode, binary: bool) -> None:
    with http_client.InferenceServerClient(node.http) as client:
        texts = http_client.InferInput("text", [2, 1], "BYTES")
        texts.set_data_from_numpy(np.array([["good day"], ["bad"]], object), binary_data=binary)
        answer = client.infer("texts/mean", [texts], headers=node.headers)
    assert answer.as_numpy("embedding").tolist() == [GOOD_DAY, pytest.approx([0.0, 2 / 3, 1.0])]


def test_grpc_takes_a_column_of_texts_and_says_so(node: RunningNode) -> None:
    metadata = {"authorization": f"Bearer {node.admin_key}"}
    with grpc_client.InferenceServerClient(node.grpc) as client:
        said = client.get_model_metadata("texts/mean", headers=metadata, as_json=True)
        texts = grpc_client.InferInput("text", [1, 1], "BYTES")
        texts.set_data_from_numpy(np.array([[b"good day"]], object))
        answer = client.infer("texts/mean", [texts], headers=metadata)
    assert said["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": ["-1", "1"]}]
    assert answer.as_numpy("embedding").tolist() == [GOOD_DAY]


def test_a_model_says_that_it_takes_texts_with_an_example(node: RunningNode) -> None:
    said = told(node, "mean")
    assert [(spec["name"], spec["dtype"], spec["shape"]) for spec in said["inputs"]] == [("text", "BYTES", [-1, 1])]
    assert said["accepts"] == ["text/plain", "application/json"]


@pytest.mark.parametrize("name", ["mean", "labelled", "tagged", "pair", "sample"])
def test_the_example_that_a_model_of_texts_shows_is_one_it_takes(node: RunningNode, name: str) -> None:
    example = told(node, name)["example"]
    answer = call(node, name, example["body"], example["content_type"])
    assert answer.ok, answer.text


def test_v2s_generate_takes_a_text(node: RunningNode) -> None:
    asked = {"text": "good day"}
    answer = requests.post(f"{node.url}/v2/models/texts/mean/generate", json=asked, headers=node.headers, timeout=60)
    assert answer.json()["embedding"] == GOOD_DAY


def test_the_python_client_sends_texts_over_both_wires(node: RunningNode) -> None:
    for address in (node.url, f"tcp://{node.zmq}"):
        with Client(address, node.admin_key) as client:
            answer = client.infer("texts/mean", {"text": np.array([["good day"], ["bad"]], object)})
        assert np.asarray(answer.outputs["embedding"]).tolist()[0] == GOOD_DAY


def test_calls_share_a_run_where_the_mask_keeps_rows_apart(node: RunningNode) -> None:
    assert told(node, "mean")["batchable"] is True
    assert told(node, "bare")["batchable"] is True  # its tokenizer makes no token of the empty text
    unmasked = told(node, "unmasked")
    assert (unmasked["batchable"], unmasked["batch_reason"]) == (
        False, "in output 'embedding', a row's answer depends on the other rows",
    )  # fmt: skip
    assert told(node, "each")["batchable"] is False


def test_callers_at_once_get_the_answers_they_get_alone(node: RunningNode) -> None:
    alone = {text: call(node, "mean", [text]).json()["outputs"] for text in TEXTS}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = TEXTS * 20
        answers = list(pool.map(lambda text: call(node, "mean", [text]).json()["outputs"], asked))
    assert answers == [alone[text] for text in asked]


def test_offsets_say_where_in_its_text_a_token_lies(node: RunningNode) -> None:
    outputs = call(node, "each", ["🙂 days", "bad"]).json()["outputs"]
    assert outputs["offsets"] == [[[0, 0], [0, 1], [2, 5], [5, 6], [0, 0]], [[0, 0], [0, 3], [0, 0], [0, 0], [0, 0]]]
    assert outputs["words"][1] == [[0, 0, 0], [0, 2, 3], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_the_parts_of_a_text_are_labelled_with_their_places(node: RunningNode) -> None:
    told = call(node, "tagged", ["a 🙂 café", "days"]).json()
    assert told["labels"] == [[{"label": "GOOD", "score": 1.0, "start": 2, "end": 3}], []]


def test_a_model_of_pairs_wants_both(node: RunningNode) -> None:
    both = {"text": ["good", "bad"], "other": ["day", "day"]}
    assert call(node, "pair", both).json()["outputs"]["embedding"] == [[0.4, 0.0, 1.4], [0.0, 0.4, 1.2]]
    alone = call(node, "pair", "good", "text/plain")
    assert (alone.status_code, alone.json()["code"]) == (400, "bad_input")
    assert "besides what a text gives" in alone.json()["error"]


@pytest.mark.parametrize("name", ["fixed", "int32", "sample"])
def test_tokens_take_the_models_own_length_and_type(node: RunningNode, name: str) -> None:
    assert call(node, name, "good day", "text/plain").json()["outputs"] == {"embedding": [GOOD_DAY]}


def test_the_caller_of_a_text_that_cannot_be_taken_is_told(node: RunningNode) -> None:
    long = call(node, "mean", "a " * 200_000, "text/plain")
    assert (long.status_code, long.json()["code"]) == (413, "too_large")
    tokens = call(node, "mean", {"input_ids": [[1, 2]], "attention_mask": [[1, 1]]})
    assert (tokens.status_code, tokens.json()["error"]) == (
        400, "the model has no input 'input_ids'. It takes 'text' (BYTES [any, 1])",
    )  # fmt: skip


def test_words_of_a_text_are_counted_in_any_company(node: RunningNode) -> None:
    texts = ["Good  bad good\tÉté", "", "BAD", "  ", "nothing known"]
    counts = [[2, 1, 1], [0, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert call(node, "counts", texts).json()["outputs"]["counts"] == counts
    for text, row in zip(texts, counts, strict=True):
        assert call(node, "counts", [text]).json()["outputs"]["counts"] == [row]
    sigma = call(node, "counts", ["good", "Α-Σ"])
    assert (sigma.status_code, sigma.json()["code"]) == (400, "bad_input")
    assert "capital sigma" in sigma.json()["error"]


BOMB = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 300_000}
CLS = {"type": "BertProcessing", "sep": ["[SEP]", 4_000_000_000], "cls": ["[CLS]", 2]}


@pytest.mark.parametrize(
    ("upload", "says"),
    [
        (text_bundle(file=None), "names the tokenizer 'tokenizer.json', which is not in the bundle"),
        (text_bundle(file='{"version":"1.0","trunc'), "is no tokenizer.json that can be read"),
        (text_bundle(file="[" * 200_000), "is no tokenizer.json that can be read"),
        (text_bundle(file=b"\xff\xfe\x00"), "is no tokenizer.json that can be read"),
        (text_bundle(manifest=TEXT.replace("tokenizer.json", "../../admin.key")), "which is not in the bundle"),
        (
            text_bundle(manifest=f'{TEXT}ids = "words"\n'),
            "the model has input_ids, attention_mask: say which with `ids`",
        ),
        (text_bundle(manifest=TEXT + TEXT.replace('"text"\nas', '"again"\nas')), "several texts with a tokenizer"),
        (text_bundle(manifest=TEXT.replace("8", "2")), "expected 3 to 131072"),
        (text_bundle(COUNTS, WORDS_OF_TEXT.replace(r"\s", "(a+)+"), None), "the pattern '(a+)+' is none"),
        (text_bundle(COUNTS, WORDS_OF_TEXT.replace("mask", "types"), None), "the model must have 'attention_mask'"),
        (text_bundle(COUNTS, f"{WORDS_OF_TEXT}pair = 'other'\n", None), "says `pair`, which is for tokens"),
        (text_bundle(manifest=WORDS_OF_TEXT.replace('"words"', '"input_ids"')), "expected BYTES of shape"),
    ],
)
def test_what_does_not_go_together_is_refused_at_the_deploy(node: RunningNode, upload: bytes, says: str) -> None:
    answer = put(node, "hostile", upload)
    assert (answer.status_code, answer.json()["code"]) == (422, "refused"), answer.text
    assert says in answer.json()["error"]
    assert str(node.data_dir) not in answer.text


@pytest.mark.parametrize("parts", [{"normalizer": BOMB}, {"post_processor": CLS}], ids=["bomb", "ids"])
def test_a_hostile_tokenizer_harms_its_own_callers_alone(node: RunningNode, parts: dict[str, Any]) -> None:
    answer = put(node, "harm", text_bundle(manifest=f"{TEXT}[limits]\nmemory = '400MiB'\n", file=changed(**parts)))
    if answer.ok:
        assert call(node, "harm", "a good day " * 2000, "text/plain").status_code in (400, 500, 503, 504)
    else:
        assert answer.status_code == 422
    assert call(node, "mean", "good day", "text/plain").json()["outputs"] == {"embedding": [GOOD_DAY]}

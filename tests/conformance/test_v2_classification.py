"""Classification with tritonclient's class_count, over each of its four clients and raw JSON."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from served import bundle, deploy, onnx_bytes
from tritonclient.utils import InferenceServerException

from tests.conftest import RunningNode

SAME = "g (float[N,3] x) => (float[N,3] y) {y = Identity(x)}"
WHOLE = "g (int64[2,2] x) => (int64[2,2] y) {y = Identity(x)}"  # no batch axis: all of it is one row
HALF = "g (float[N,3] x) => (float16[N,3] y) {y = Cast<to = 10>(x)}"
WORDS = "g (string[N] x) => (string[N] y) {y = Identity(x)}"

Ask = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def models(node: RunningNode) -> None:
    deploy(node, "classes/labelled", bundle(onnx_bytes(SAME), labels_txt="cat\ndog\n"))
    for name, text in (("bare", SAME), ("whole", WHOLE), ("half", HALF), ("words", WORDS)):
        deploy(node, f"classes/{name}", onnx_bytes(text))


@pytest.fixture(params=["http", "http.aio", "grpc", "grpc.aio"])
def ask(request: Any, node: RunningNode) -> Ask:
    """Asks for classes of `y`; gives the answer's array."""
    kind = request.param.partition(".")[0]
    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[kind]
    address, key = getattr(node, kind), {"authorization": f"Bearer {node.admin_key}"}

    def asked(model: str, rows: Any, dtype: str, count: int) -> Any:
        given = module.InferInput("x", list(rows.shape), dtype)
        given.set_data_from_numpy(rows)
        how = {"inputs": [given], "outputs": [module.InferRequestedOutput("y", class_count=count)], "headers": key}
        if request.param == kind:
            with module.InferenceServerClient(address) as client:
                return client.infer(f"classes/{model}", **how).as_numpy("y")

        async def call() -> Any:
            async with module.aio.InferenceServerClient(address) as client:
                return (await client.infer(f"classes/{model}", **how)).as_numpy("y")

        return asyncio.run(call())

    return asked


def texts(array: Any) -> Any:
    return (
        [[element.decode() for element in row] for row in array.tolist()]
        if array.ndim == 2
        else [element.decode() for element in array.tolist()]
    )


def test_each_row_has_its_best_with_labels_where_there_are_some(ask: Ask) -> None:
    rows = np.array([[0.5, 2, -1], [3, 1, 3]], np.float32)
    assert texts(ask("labelled", rows, "FP32", 2)) == [
        ["2.000000:1:dog", "0.500000:0:cat"],
        ["3.000000:0:cat", "3.000000:2"],  # equal ones by their place; the third has no label
    ]
    assert texts(ask("bare", rows[:1], "FP32", 1)) == [["2.000000:1"]]


def test_more_classes_than_there_are_gives_all(ask: Ask) -> None:
    assert texts(ask("bare", np.array([[1, 2, 3]], np.float32), "FP32", 100)) == [
        ["3.000000:2", "2.000000:1", "1.000000:0"]
    ]


def test_a_model_without_a_batch_axis_is_classified_as_a_whole(ask: Ask) -> None:
    assert texts(ask("whole", np.array([[5, 9], [7, 1]]), "INT64", 2)) == ["9.000000:1", "7.000000:2"]


def test_half_precision_can_be_classified_though_json_cannot_carry_it(ask: Ask) -> None:
    assert texts(ask("half", np.array([[1, 4, 2]], np.float32), "FP32", 2)) == [["4.000000:1", "2.000000:2"]]


def test_texts_cannot_be_classified(ask: Ask) -> None:
    with pytest.raises(InferenceServerException, match="BYTES cannot be classified"):
        ask("words", np.array(["a"], object), "BYTES", 1)


def test_calls_that_share_a_run_have_classes_of_their_own_rows(node: RunningNode) -> None:
    key = {"authorization": f"Bearer {node.admin_key}"}

    async def call(client: Any, index: int) -> Any:
        row = np.zeros((1, 3), np.float32)
        row[0, index % 3] = 1
        given = tritonclient.grpc.InferInput("x", [1, 3], "FP32")
        given.set_data_from_numpy(row)
        outputs = [tritonclient.grpc.InferRequestedOutput("y", class_count=1)]
        return (await client.infer("classes/bare", [given], outputs=outputs, headers=key)).as_numpy("y")

    async def all_of_them() -> list[Any]:
        async with tritonclient.grpc.aio.InferenceServerClient(node.grpc) as client:
            return await asyncio.gather(*(call(client, index) for index in range(30)))

    found = [texts(array) for array in asyncio.run(all_of_them())]
    assert found == [[[f"1.000000:{index % 3}"]] for index in range(30)]


def test_json_has_them_as_texts(node: RunningNode) -> None:
    output = {"name": "y", "parameters": {"classification": 1}}
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 3, 2]}
    body = json.dumps({"inputs": [tensor], "outputs": [output]})
    answer = requests.post(f"{node.url}/v2/models/classes/labelled/infer", body, headers=node.headers, timeout=60)
    assert answer.json()["outputs"] == [{"name": "y", "datatype": "BYTES", "shape": [1, 1], "data": ["3.000000:1:dog"]}]

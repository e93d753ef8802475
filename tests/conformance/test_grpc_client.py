"""What an unmodified tritonclient.grpc does against a node, but for streams and faults, which have their own files."""

import asyncio
import json
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as client
import tritonclient.grpc.aio
from served import ADD_ONE, ECHO_TEXT, bundle, deploy, onnx_bytes
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

ROWS = np.array([[1, 2, 3], [-4, 0.5, 0]], np.float32)


@pytest.fixture(scope="module", params=["node", "fronted"])
def served(request: pytest.FixtureRequest) -> Any:
    """The node, with the models of this file on it."""
    node: Any = request.getfixturevalue(request.param)
    deploy(node, "grpc/add", onnx_bytes(ADD_ONE))
    deploy(node, "grpc/labelled", bundle(onnx_bytes(ADD_ONE), labels_txt="ant\nbee\ncat\n"))
    deploy(node, "grpc/echo", onnx_bytes(ECHO_TEXT))
    return node


@pytest.fixture
def triton(served: Any) -> Iterator[client.InferenceServerClient]:
    with client.InferenceServerClient(served.grpc) as made:
        yield made


@pytest.fixture(scope="module")
def key(served: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {served.admin_key}"}


def rows(array: np.ndarray = ROWS, name: str = "x") -> client.InferInput:
    tensor = client.InferInput(name, list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return tensor


def test_health_needs_no_key(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()


def test_server_metadata_names_what_works(triton: Any, key: Any) -> None:
    metadata = triton.get_server_metadata(headers=key)
    assert metadata.name == "ingle"
    assert "statistics" in metadata.extensions


def test_a_model_is_ready_and_an_unknown_one_or_version_is_not(triton: Any, key: Any) -> None:
    assert triton.is_model_ready("grpc/add", headers=key)
    assert triton.is_model_ready("grpc/add", "1", headers=key)
    assert not triton.is_model_ready("grpc/add", "77", headers=key)
    assert not triton.is_model_ready("grpc/nothing", headers=key)


def test_model_metadata_has_names_dtypes_and_free_dimensions(triton: Any, key: Any) -> None:
    metadata = triton.get_model_metadata("grpc/add", headers=key, as_json=True)
    assert metadata == {
        "name": "grpc/add",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "3"]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["-1", "3"]}],
    }


def test_model_config_says_that_rows_are_batched(triton: Any, key: Any) -> None:
    config = triton.get_model_config("grpc/add", headers=key).config
    assert config.max_batch_size > 1
    assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [("x", [3])]


def test_infer_answers_with_the_id_the_version_and_where_it_ran(served: Any, key: Any) -> None:
    message = service_pb2.ModelInferRequest(model_name="grpc/add", id="mine")
    message.inputs.add(name="x", datatype="FP32", shape=[2, 3])
    message.raw_input_contents.append(ROWS.tobytes())
    with client.grpc.insecure_channel(served.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer, call = stub.ModelInfer.with_call(message, metadata=tuple(key.items()))
    assert (answer.model_name, answer.model_version, answer.id) == ("grpc/add", "1", "mine")
    assert answer.raw_output_contents[0] == (ROWS + 1).tobytes()
    trailing = dict(call.trailing_metadata())
    assert trailing["x-ingle-node"]
    assert trailing["x-ingle-call"]


def test_infer_takes_any_words_for_the_key(triton: Any, served: Any) -> None:
    for word in (f"Bearer {served.admin_key}", f"Simple {served.admin_key}", served.admin_key):
        result = triton.infer("grpc/add", [rows()], headers={"authorization": word})
        np.testing.assert_array_equal(result.as_numpy("y"), ROWS + 1)


def test_infer_by_ordinal_with_parameters_and_named_outputs(triton: Any, key: Any) -> None:
    result = triton.infer(
        "grpc/add",
        [rows()],
        model_version="1",
        outputs=[client.InferRequestedOutput("y")],
        request_id="a",
        sequence_id=5,
        sequence_start=True,
        priority=2,
        timeout=30_000_000,
        parameters={"custom": "word", "flag": True},
        headers=key,
    )
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS + 1)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_taken(triton: Any, key: Any, algorithm: str) -> None:
    result = triton.infer("grpc/add", [rows()], headers=key, compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS + 1)


def test_strings_go_there_and_back(triton: Any, key: Any) -> None:
    words = np.array(["", "ein", "größer", "x" * 70_000], object)
    tensor = client.InferInput("s", [4], "BYTES")
    tensor.set_data_from_numpy(words)
    result = triton.infer("grpc/echo", [tensor], headers=key)
    assert [word.decode() for word in result.as_numpy("t")] == words.tolist()


def test_typed_contents_are_taken_as_well(served: Any, key: Any) -> None:
    message = service_pb2.ModelInferRequest(model_name="grpc/add")
    message.inputs.add(name="x", datatype="FP32", shape=[2, 3]).contents.fp32_contents.extend(ROWS.ravel().tolist())
    with client.grpc.insecure_channel(served.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(message, metadata=tuple(key.items()))
    assert answer.raw_output_contents[0] == (ROWS + 1).tobytes()


def test_an_empty_batch_is_answered(triton: Any, key: Any) -> None:
    result = triton.infer("grpc/add", [rows(np.zeros((0, 3), np.float32))], headers=key)
    assert result.as_numpy("y").shape == (0, 3)


def test_a_tensor_of_many_megabytes_goes_there_and_back(triton: Any, key: Any) -> None:
    many = np.random.default_rng(5).standard_normal((500_000, 3)).astype(np.float32)
    result = triton.infer("grpc/add", [rows(many)], headers=key)
    np.testing.assert_array_equal(result.as_numpy("y"), many + 1)


def test_classification_gives_values_indices_and_labels(triton: Any, key: Any) -> None:
    wish = client.InferRequestedOutput("y", class_count=2)
    result = triton.infer("grpc/labelled", [rows()], outputs=[wish], headers=key)
    words = [[word.decode().split(":")[1:] for word in row] for row in result.as_numpy("y")]
    assert words == [[["2", "cat"], ["1", "bee"]], [["1", "bee"], ["2", "cat"]]]


def test_async_infer_calls_back_with_each_answer(triton: Any, key: Any) -> None:
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for number in range(50):
        tensor = rows(np.full((1, 3), number, np.float32))
        triton.async_infer(
            "grpc/add",
            [tensor],
            callback=lambda result, error: answers.put((result, error)),
            request_id=str(number),
            headers=key,
        )
    found = {}
    for _ in range(50):
        result, error = answers.get(timeout=60)
        assert error is None
        found[int(result.get_response().id)] = float(result.as_numpy("y")[0, 0])
    assert found == {number: number + 1.0 for number in range(50)}


def test_statistics_count_each_call(triton: Any, key: Any) -> None:
    def read() -> Any:
        return triton.get_inference_statistics("grpc/add", "1", headers=key).model_stats[0]

    before = read()
    for _ in range(3):
        triton.infer("grpc/add", [rows()], headers=key)
    with pytest.raises(InferenceServerException):
        triton.infer("grpc/add", [rows(name="wrong")], headers=key)
    after = read()
    assert after.inference_stats.success.count - before.inference_stats.success.count == 3
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert after.inference_count - before.inference_count == 6
    assert after.execution_count - before.execution_count == 3
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert after.last_inference > 0
    assert [batch.batch_size for batch in after.batch_stats]
    for member in ("queue", "compute_input", "compute_output", "cache_hit", "cache_miss"):
        assert after.inference_stats.HasField(member)


def test_statistics_of_every_model_are_given_at_once(triton: Any, key: Any) -> None:
    triton.infer("grpc/add", [rows()], headers=key)
    assert "grpc/add" in {row.name for row in triton.get_inference_statistics(headers=key).model_stats}


def test_load_with_a_file_makes_a_version_and_unload_ends_it(triton: Any, key: Any) -> None:
    triton.load_model(
        "grpc-loaded", headers=key, config=json.dumps({}), files={"file:1/model.onnx": onnx_bytes(ADD_ONE)}
    )
    assert triton.is_model_ready("grpc-loaded", "1", headers=key)
    result = triton.infer("grpc-loaded", [rows()], headers=key)
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS + 1)
    states = {row.name: row.state for row in triton.get_model_repository_index(headers=key).models}
    assert states["grpc-loaded"] == "READY"
    triton.unload_model("grpc-loaded", headers=key, unload_dependents=True)
    states = {row.name: row.state for row in triton.get_model_repository_index(headers=key).models}
    assert states["grpc-loaded"] == "UNAVAILABLE"
    assert not triton.is_model_ready("grpc-loaded", headers=key)
    triton.load_model("grpc-loaded", headers=key)
    assert triton.is_model_ready("grpc-loaded", headers=key)


def test_the_asynchronous_client_does_the_same(served: Any, key: Any) -> None:
    async def run() -> None:
        async with tritonclient.grpc.aio.InferenceServerClient(served.grpc) as triton:
            assert await triton.is_server_live()
            assert await triton.is_server_ready()
            assert await triton.is_model_ready("grpc/add", headers=key)
            assert (await triton.get_server_metadata(headers=key)).name == "ingle"
            assert (await triton.get_model_metadata("grpc/add", headers=key)).versions == ["1"]
            assert (await triton.get_model_config("grpc/add", headers=key)).config.name
            assert (await triton.get_model_repository_index(headers=key)).models
            assert (await triton.get_inference_statistics("grpc/add", headers=key)).model_stats
            calls = [triton.infer("grpc/add", [rows(ROWS + n)], headers=key) for n in range(20)]
            for number, result in enumerate(await asyncio.gather(*calls)):
                np.testing.assert_array_equal(result.as_numpy("y"), ROWS + number + 1)
            await triton.load_model(
                "grpc-aio", headers=key, files={"file:2/model.onnx": onnx_bytes(ADD_ONE)}, config="{}"
            )
            assert (await triton.get_model_metadata("grpc-aio", headers=key)).versions == ["2"]
            await triton.unload_model("grpc-aio", headers=key)

    asyncio.run(run())

"""What is wrong with a call over gRPC is said with gRPC's own status and a sentence."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as client
from served import ADD_ONE, SLOW, deploy, make_key, onnx_bytes
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

grpc = client.grpc
Status = grpc.StatusCode
ROWS = np.zeros((1, 3), np.float32)


@pytest.fixture(scope="module")
def served(node: Any) -> Any:
    deploy(node, "fault/add", onnx_bytes(ADD_ONE))
    deploy(node, "fault/slow", onnx_bytes(SLOW))
    return node


@pytest.fixture(scope="module")
def key(served: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {served.admin_key}"}


@pytest.fixture(scope="module")
def channel(served: Any) -> Iterator[Any]:
    with grpc.insecure_channel(served.grpc) as made:
        yield made


def refused(rpc: Any, message: Any, key: dict[str, str], **options: Any) -> Any:
    """The error of a call that must not be answered."""
    with pytest.raises(grpc.RpcError) as caught:
        rpc(message, metadata=tuple(key.items()), **options)
    return caught.value


def infer_request(name: str = "fault/add", dtype: str = "FP32", shape: tuple[int, ...] = (1, 3), **more: Any) -> Any:
    message = service_pb2.ModelInferRequest(**{"model_name": name, **more})
    message.inputs.add(name="x", datatype=dtype, shape=shape)
    message.raw_input_contents.append(bytes(12))
    return message


def with_output(name: str) -> Any:
    message = infer_request()
    message.outputs.add(name=name)
    return message


def with_two_raw_parts() -> Any:
    message = infer_request()
    message.raw_input_contents.append(b"more")
    return message


def in_shared_memory() -> Any:
    message = infer_request()
    message.inputs[0].parameters["shared_memory_region"].string_param = "region"
    del message.raw_input_contents[:]
    return message


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (infer_request("fault/nothing"), Status.NOT_FOUND, "fault/nothing"),
        (infer_request(model_version="9"), Status.NOT_FOUND, "9"),
        (infer_request("no name!"), Status.NOT_FOUND, "no name!"),
        (infer_request(""), Status.NOT_FOUND, "model name"),
        (infer_request(dtype="INT32"), Status.INVALID_ARGUMENT, "FP32"),
        (infer_request(dtype="FLOAT"), Status.INVALID_ARGUMENT, "no V2 data type"),
        (infer_request(shape=(1, 4)), Status.INVALID_ARGUMENT, "[1, 4]"),
        (infer_request(shape=(3,)), Status.INVALID_ARGUMENT, "batch axis"),
        (infer_request(shape=(-1, 3)), Status.INVALID_ARGUMENT, "-1"),
        (infer_request(shape=(2, 3)), Status.INVALID_ARGUMENT, "24 bytes"),
        (with_two_raw_parts(), Status.INVALID_ARGUMENT, "raw_input_contents"),
        (service_pb2.ModelInferRequest(model_name="fault/add"), Status.INVALID_ARGUMENT, "lacks the input 'x'"),
        (with_output("z"), Status.INVALID_ARGUMENT, "no output 'z'"),
        (in_shared_memory(), Status.UNIMPLEMENTED, "shared memory"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(channel: Any, key: Any, message: Any, code: Any, words: str) -> None:
    error = refused(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer, message, key)
    assert error.code() == code
    assert words in error.details()
    assert "Traceback" not in error.details()
    assert dict(error.trailing_metadata())["x-ingle-node"]


@pytest.mark.parametrize(
    "method", ["ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryModelLoad"]
)
def test_bytes_that_are_no_message_are_an_invalid_argument(channel: Any, key: Any, method: str) -> None:
    rpc = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    error = refused(rpc, b"\xff\xff\xff", key)
    assert error.code() == Status.INVALID_ARGUMENT
    assert method in error.details()


def test_a_call_without_a_key_is_unauthenticated(channel: Any) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    for rpc, message in (
        (stub.ModelInfer, infer_request()),
        (stub.ModelMetadata, service_pb2.ModelMetadataRequest(name="fault/add")),
        (stub.ModelReady, service_pb2.ModelReadyRequest(name="fault/add")),
        (stub.ServerMetadata, service_pb2.ServerMetadataRequest()),
        (stub.RepositoryIndex, service_pb2.RepositoryIndexRequest()),
        (stub.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest(model_name="fault/add")),
    ):
        for metadata in ({}, {"authorization": "Bearer simNOTAKEYATALL"}):
            error = refused(rpc, message, metadata)
            assert error.code() == Status.UNAUTHENTICATED
            assert "key" in error.details()


def test_a_key_may_do_what_its_scopes_say_and_no_more(served: Any, channel: Any) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    key = {"authorization": make_key(served, "call:fault/add")}
    assert stub.ModelInfer(infer_request(), metadata=tuple(key.items())).raw_output_contents
    for rpc, message in (
        (stub.ModelInfer, infer_request("fault/slow")),
        (stub.ModelMetadata, service_pb2.ModelMetadataRequest(name="fault/slow")),
        (stub.ModelStatistics, service_pb2.ModelStatisticsRequest(name="fault/slow")),
        (stub.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest(model_name="fault/add")),
        (stub.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest(model_name="fault/add")),
    ):
        assert refused(rpc, message, key).code() == Status.PERMISSION_DENIED
    index = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), metadata=tuple(key.items()))
    assert {row.name for row in index.models} == {"fault/add"}


def test_a_load_that_is_no_model_is_refused_and_leaves_nothing(served: Any, key: Any) -> None:
    with client.InferenceServerClient(served.grpc) as triton:
        for files in ({"file:1/model.onnx": b"no model at all"}, {"file:model.onnx": onnx_bytes(ADD_ONE)}):
            with pytest.raises(InferenceServerException) as caught:
                triton.load_model("fault-load", headers=key, config="{}", files=files)
            assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        names = {row.name for row in triton.get_model_repository_index(headers=key).models}
        assert "fault-load" not in names
        for verb in (triton.load_model, triton.unload_model):
            with pytest.raises(InferenceServerException) as caught:
                verb("fault-load", headers=key)
            assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_a_load_does_not_replace_what_was_deployed(served: Any, key: Any) -> None:
    with client.InferenceServerClient(served.grpc) as triton, pytest.raises(InferenceServerException) as caught:
        triton.load_model("fault/add", headers=key, config="{}", files={"file:1/model.onnx": onnx_bytes(SLOW)})
    assert caught.value.status() == "StatusCode.ALREADY_EXISTS"


@pytest.mark.parametrize("how", ["timeout", "x-ingle-deadline-ms", "grpc-timeout"])
def test_a_deadline_that_passes_ends_the_call(channel: Any, key: Any, how: str) -> None:
    message = service_pb2.ModelInferRequest(model_name="fault/slow")
    message.inputs.add(name="turns", datatype="INT64", shape=[])
    message.inputs.add(name="x", datatype="FP32", shape=[64, 64])
    message.raw_input_contents.extend([np.int64(60_000).tobytes(), bytes(64 * 64 * 4)])
    options: dict[str, Any] = {}
    if how == "timeout":
        message.parameters["timeout"].int64_param = 50_000
    elif how == "grpc-timeout":
        options["timeout"] = 0.05
    else:
        key = {**key, how: "50"}
    error = refused(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer, message, key, **options)
    assert error.code() == Status.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("metadata", "code", "words"),
    [
        ({"x-ingle-deadline-ms": "soon"}, Status.INVALID_ARGUMENT, "milliseconds"),
        ({"x-ingle-pin": "node:elsewhere"}, Status.NOT_FOUND, "elsewhere"),
    ],
)
def test_metadata_that_cannot_be_followed_is_refused(
    channel: Any, key: Any, metadata: Any, code: Any, words: str
) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    error = refused(stub.ModelInfer, infer_request(), {**key, **metadata})
    assert error.code() == code
    assert words in error.details()


def test_an_unknown_method_is_unimplemented(channel: Any, key: Any) -> None:
    error = refused(channel.unary_unary("/inference.GRPCInferenceService/Guess"), b"", key)
    assert error.code() == Status.UNIMPLEMENTED


def test_metadata_that_is_too_long_is_refused_and_the_connection_goes_on(channel: Any, key: Any) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    error = refused(stub.ModelInfer, infer_request(), {**key, "x-long": "a" * 100_000})
    assert error.code() == Status.RESOURCE_EXHAUSTED
    assert "metadata" in error.details()
    assert stub.ModelInfer(infer_request(), metadata=tuple(key.items())).raw_output_contents


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_that_is_too_large_is_refused_also_when_it_arrives_small(nodes: Any, compression: Any) -> None:
    node = nodes("--open", "--gateway-max-body", "100000")
    with grpc.insecure_channel(node.grpc, compression=compression) as channel:
        message = infer_request()
        message.raw_input_contents[0] = bytes(200_000)
        error = refused(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer, message, {})
    assert error.code() == Status.RESOURCE_EXHAUSTED
    assert "larger than max" in error.details()
